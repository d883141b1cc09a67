/* A component, and a description of a table of which nothing is true, of an interface that
 * it does not register. */
#include <corosync/lcr/lcr_comp.h>
#include <lcr.h>
#include "say.h"

SAYS (function, "described")
static void *table[] = { (void *)function };
static struct lcr_iface forgotten = { .name = "forgotten", .version = 3, .interfaces = table };
static struct lcr_iface ifaces[] = { { .name = "described", .interfaces = table } };
static struct lcr_comp comp = { ifaces, 1 };
static struct lcr_table said = LCR_TABLE (&forgotten, char[12]);

__attribute__ ((constructor)) static void load (void)
{
	lcr_table_describe (&said);
	lcr_component_register (&comp);
}
