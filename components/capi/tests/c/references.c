/* Calls another component, from a function and from its constructor. */
#include <corosync/lcr/lcr_comp.h>
#include <corosync/lcr/lcr_ifact.h>
#include "say.h"

static hdb_handle_t held;

static void call (void)
{
	hdb_handle_t handle;
	void *table;

	if (lcr_ifact_reference (&handle, "plain", 0, &table, NULL) != 0) {
		puts ("no plain");
		return;
	}
	((void (**) (void))table)[0] ();
	printf ("released %d\n", lcr_ifact_release (handle));
}

static int construct (void *context)
{
	void *table;

	(void)context;
	return lcr_ifact_reference (&held, "plain", 0, &table, (void *)0x2);
}

static void destroy (void *context)
{
	(void)context;
	lcr_ifact_release (held);
}

static void *table[] = { (void *)call };
static struct lcr_iface ifaces[] = {
	{ .name = "references", .interfaces = table },
	{ .name = "holds", .constructor = construct, .destructor = destroy, .interfaces = table },
};
static struct lcr_comp comp = { ifaces, 2 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
}
