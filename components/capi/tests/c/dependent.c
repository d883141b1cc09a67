/* Requires two others; a second interface requires what nobody offers. */
#include <corosync/lcr/lcr_comp.h>
#include "say.h"

static int construct (void *context)
{
	(void)context;
	puts ("dependent constructed");
	return 0;
}

static void destroy (void *context)
{
	(void)context;
	puts ("dependent destroyed");
}

SAYS (function, "dependent")
static void *table[] = { (void *)function };
static char *requires[] = { "plain", "versions" };
static char *absent[] = { "plain", "absent" };
static char *itself[] = { "circle" };
static struct lcr_iface ifaces[] = {
	{ .name = "dependent", .dependencies = requires, .dependency_count = 2,
	  .constructor = construct, .destructor = destroy, .interfaces = table },
	{ .name = "orphan", .dependencies = absent, .dependency_count = 2,
	  .constructor = construct, .destructor = destroy, .interfaces = table },
	{ .name = "circle", .dependencies = itself, .dependency_count = 1,
	  .constructor = construct, .destructor = destroy, .interfaces = table },
};
static struct lcr_comp comp = { ifaces, 3 };

__attribute__ ((constructor)) static void load (void)
{
	lcr_component_register (&comp);
}
