/* Refers to something that leaves what leads here, and never calls it. */
#include <corosync/lcr/lcr_comp.h>

extern void CALL (void);

static void nothing (void) {}
static void *table[] = { (void *)nothing, (void *)CALL };
static struct lcr_iface ifaces[] = { { .name = NAME, .interfaces = table } };
static struct lcr_comp comp = { ifaces, 1 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
}
