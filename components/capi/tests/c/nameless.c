/* One interface without a name. HALF: and one that has one, in the same component. */
#include <corosync/lcr/lcr_comp.h>
#include "say.h"

SAYS (function, "nameless")
static void *table[] = { (void *)function };
static struct lcr_iface ifaces[] = {
#ifdef HALF
	{ .name = "half", .interfaces = table },
#endif
	{ .interfaces = table },
};
static struct lcr_comp comp = { ifaces, sizeof (ifaces) / sizeof (ifaces[0]) };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
}
