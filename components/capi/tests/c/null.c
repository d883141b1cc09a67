/* Every call with nothing in the place of what it needs. */
#include <pthread.h>
#include <stdio.h>

#include <lcr.h>

static const char *last (void)
{
	return lcr_last_error () ? lcr_last_error () : "(none)";
}

static void say (int result)
{
	puts (result == -1 ? last () : "no error");
}

static void *elsewhere (void *nothing)
{
	printf ("in another thread: %s\n", last ());
	return nothing;
}

int main (void)
{
	pthread_t thread;
	hdb_handle_t handle;
	char path[1];
	void *table;

	puts (last ());
	say (lcr_ifact_reference (NULL, "name", 0, &table, NULL));
	say (lcr_ifact_reference (&handle, NULL, 0, &table, NULL));
	lcr_component_register (NULL);
	say (lcr_search_set (NULL, 1));
	say (lcr_search_each (NULL, NULL));
	say (lcr_interfaces_each (NULL, NULL));
	say (lcr_plan (NULL, 0, NULL, 0));
	say (lcr_replace (NULL, 0, NULL, 0));
	say (lcr_rollback (NULL, 0));
	say (lcr_retire (NULL));
	say (lcr_control_start (4));
	say (lcr_control_socket (path, sizeof path));
	say (lcr_control_stop ());
	pthread_create (&thread, NULL, elsewhere, NULL);
	pthread_join (thread, NULL);
	return 0;
}
