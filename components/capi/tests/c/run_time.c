/* Fills its descriptor in when it is loaded: nothing of it is data. */
#include <corosync/lcr/lcr_comp.h>
#include "say.h"

SAYS (function, "run_time")
static void *table[1];
static struct lcr_iface ifaces[1];
static struct lcr_comp comp;

__attribute__ ((constructor)) static void load (void)
{
	table[0] = (void *)function;
	ifaces[0].name = "run_time";
	ifaces[0].version = 3;
	ifaces[0].interfaces = table;
	comp.ifaces = ifaces;
	comp.iface_count = 1;
	lcr_component_register (&comp);
}
