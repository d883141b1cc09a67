/* Nothing but a function: for threads and for counting. */
#include <corosync/lcr/lcr_comp.h>

#ifndef NAME
#define NAME "quiet"
#endif

static void nothing (void) {}
static void *table[] = { (void *)nothing };
static struct lcr_iface ifaces[] = { { .name = NAME, .interfaces = table } };
static struct lcr_comp comp = { ifaces, 1 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
}
