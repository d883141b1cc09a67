/* Registers the same component twice, then nothing at all, then one without a name. */
#include <corosync/lcr/lcr_comp.h>
#include "say.h"

SAYS (function, "twice")
static void *table[] = { (void *)function };
static struct lcr_iface ifaces[] = { { .name = "twice", .interfaces = table } };
static struct lcr_iface nameless[] = { { .interfaces = table } };
static struct lcr_comp comp = { ifaces, 1 };
static struct lcr_comp broken = { nameless, 1 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
	lcr_component_register (&comp);
	lcr_component_register (NULL);
	lcr_component_register (&broken);
}
