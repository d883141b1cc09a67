/* One interface in three versions, one of which replaces older ones. */
#include <corosync/lcr/lcr_comp.h>
#include "say.h"

SAYS (zero, "versions 0")
SAYS (one, "versions 1")
SAYS (five, "versions 5")
static void *table0[] = { (void *)zero };
static void *table1[] = { (void *)one };
static void *table5[] = { (void *)five };
static int replaces[] = { 2, 3 };
static struct lcr_iface ifaces[] = {
	{ .name = "versions", .version = 0, .interfaces = table0 },
	{ .name = "versions", .version = 1, .interfaces = table1 },
	{ .name = "versions", .version = 5, .versions_replace = replaces,
	  .versions_replace_count = 2, .interfaces = table5 },
};
static struct lcr_comp comp = { ifaces, 3 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
}
