/* References something while it is being loaded. */
#include <corosync/lcr/lcr_comp.h>
#include <corosync/lcr/lcr_ifact.h>
#include "say.h"

SAYS (function, "greedy")
static void *table[] = { (void *)function };
static struct lcr_iface ifaces[] = { { .name = "greedy", .interfaces = table } };
static struct lcr_comp comp = { ifaces, 1 };

__attribute__ ((constructor)) static void load (void)
{
	hdb_handle_t handle;
	void *other;

	lcr_component_register (&comp);
	printf ("while loading %d\n", lcr_ifact_reference (&handle, "plain", 0, &other, NULL));
}
