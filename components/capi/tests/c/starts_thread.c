/* Starts a thread that outlives every reference, as many services of corosync do. */
#include <corosync/lcr/lcr_comp.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void *forever (void *unused)
{
	for (;;) {
		usleep (1000);
	}
	return unused;
}

static int construct (void *context)
{
	static int started;
	pthread_t thread;

	(void)context;
	printf ("starts_thread %s\n", started ? "again" : "first");
	if (started++ == 0 && pthread_create (&thread, NULL, forever, NULL) == 0) {
		pthread_detach (thread);
	}
	return 0;
}

static void nothing (void) {}
static void *table[] = { (void *)nothing };
static struct lcr_iface ifaces[] = {
	{ .name = "starts_thread", .constructor = construct, .interfaces = table },
};
static struct lcr_comp comp = { ifaces, 1 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
}
