/* Describes a component, and registers nothing; its descriptor has the name `quiet`. */
#include <corosync/lcr/lcr_comp.h>
#include <stdlib.h>

static void nothing (void) {}
static void *table[] = { (void *)nothing };
static struct lcr_iface ifaces[] = { { .name = "quiet", .interfaces = table } };
static struct lcr_comp comp = { ifaces, 1 };

__attribute__ ((constructor)) static void load (void)
{
	if (getenv ("NEVER_SET")) {
		lcr_component_register (&comp);
	}
}
