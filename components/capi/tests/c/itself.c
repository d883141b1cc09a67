/* Its constructor references its own interface, and says why it cannot. */
#include <corosync/lcr/lcr_comp.h>
#include <lcr.h>
#include "say.h"

SAYS (function, "itself")
static void *table[] = { (void *)function };

static int construct (void *context)
{
	hdb_handle_t handle;
	void *itself;

	(void)context;
	if (lcr_ifact_reference (&handle, "itself", 0, &itself, NULL) != 0) {
		puts (lcr_last_error ());
		return 9;
	}
	return 0;
}

static struct lcr_iface ifaces[] = {
	{ .name = "itself", .constructor = construct, .interfaces = table } };
static struct lcr_comp comp = { ifaces, 1 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
}
