/* Requires the counter, and calls it through the pointer that it got in its constructor. */
#include <corosync/lcr/lcr_comp.h>
#include <corosync/lcr/lcr_ifact.h>

struct counter {
	long (*next) (void);
	long (*show) (void);
};

static hdb_handle_t handle;
static struct counter *counter;

static int construct (void *context)
{
	void *table;

	(void)context;
	if (lcr_ifact_reference (&handle, "counter", 0, &table, NULL) != 0) {
		return -1;
	}
	counter = table;
	return 0;
}

static void destroy (void *context)
{
	(void)context;
	lcr_ifact_release (handle);
}

static long next (void)
{
	return counter->next ();
}

static long show (void)
{
	return counter->show ();
}

static struct counter table = { next, show };
static char *requires[] = { "counter" };
static struct lcr_iface ifaces[] = {
	{ .name = "needs", .dependencies = requires, .dependency_count = 1,
	  .constructor = construct, .destructor = destroy, .interfaces = (void **)(void *)&table },
};
static struct lcr_comp comp = { ifaces, 1 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
}
