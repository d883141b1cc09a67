/* Its constructor fails. */
#include <corosync/lcr/lcr_comp.h>
#include "say.h"

static int construct (void *context)
{
	(void)context;
	return -7;
}

static void destroy (void *context)
{
	(void)context;
	puts ("failing was destroyed");
}

SAYS (function, "failing")
static void *table[] = { (void *)function };
static char *requires[] = { "plain" };
static struct lcr_iface ifaces[] = {
	{ .name = "failing", .dependencies = requires, .dependency_count = 1,
	  .constructor = construct, .destructor = destroy, .interfaces = table },
};
static struct lcr_comp comp = { ifaces, 1 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
}
