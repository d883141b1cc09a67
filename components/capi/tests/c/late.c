/* Sets its table before it registers, as the services of corosync do. */
#include <corosync/lcr/lcr_comp.h>
#include "say.h"

SAYS (function, "late")
static struct { void (*function) (void); } table = { function };
static struct lcr_iface ifaces[] = { { .name = "late" } };
static struct lcr_comp comp = { ifaces, 1 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_interfaces_set (&ifaces[0], &table);
	lcr_component_register (&comp);
}
