/* What is measured, linked with liblcr or with the stand-in. Prints nanoseconds.
 *
 *   static N       reference and release N times, the last of COUNT components
 *   first A        the first reference of the process, to the interface A
 *   next A B       the one after it, to B
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <corosync/lcr/lcr_comp.h>
#include <corosync/lcr/lcr_ifact.h>

#ifdef COUNT
static void *table[1];

__attribute__ ((constructor)) static void load (void)
{
	int i;

	for (i = 0; i < COUNT; i++) {
		struct lcr_comp *comp = calloc (1, sizeof *comp);
		struct lcr_iface *iface = calloc (1, sizeof *iface);
		char *name = malloc (32);

		sprintf (name, "component%d", i);
		iface->name = name;
		iface->interfaces = table;
		comp->ifaces = iface;
		comp->iface_count = 1;
		lcr_component_register (comp);
	}
}
#else
#define COUNT 1
#endif

static long now (void)
{
	struct timespec time;

	clock_gettime (CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void once (const char *name)
{
	hdb_handle_t handle;
	void *interface;

	if (lcr_ifact_reference (&handle, name, 0, &interface, NULL) != 0) {
		fprintf (stderr, "no %s\n", name);
		exit (1);
	}
	lcr_ifact_release (handle);
}

int main (int argc, char **argv)
{
	char last[32];
	long start, i, rounds;

	if (argc == 3 && strcmp (argv[1], "static") == 0) {
		sprintf (last, "component%d", COUNT - 1);
		rounds = atol (argv[2]);
		once (last);
		start = now ();
		for (i = 0; i < rounds; i++) {
			once (last);
		}
	} else if (argc == 3) {
		start = now ();
		once (argv[2]);
	} else {
		once (argv[2]);
		start = now ();
		once (argv[3]);
	}
	printf ("%ld\n", now () - start);
	return 0;
}
