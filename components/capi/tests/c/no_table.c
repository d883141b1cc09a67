/* Only a constructor: it has no functions to call. */
#include <corosync/lcr/lcr_comp.h>
#include <stdio.h>

static int construct (void *context)
{
	printf ("no_table constructed with %p\n", context);
	return 0;
}

static struct lcr_iface ifaces[] = { { .name = "no_table", .constructor = construct } };
static struct lcr_comp comp = { ifaces, 1 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
}
