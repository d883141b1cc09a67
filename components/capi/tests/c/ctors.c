/* Registers as the original's README says: through an entry of the section .ctors. */
#include <corosync/lcr/lcr_comp.h>
#include "say.h"

SAYS (func1, "iface1 func1")
SAYS (func2, "iface1 func2")
SAYS (func3, "iface1 func3")

struct iface_list {
	void (*iface1_func1) (void);
	void (*iface1_func2) (void);
	void (*iface1_func3) (void);
};

static struct iface_list iface_list = {
	.iface1_func1 = func1,
	.iface1_func2 = func2,
	.iface1_func3 = func3,
};

static struct lcr_iface lcr_ifaces[] = {
	{
		.name = "iface1",
		.version = 0,
		.versions_replace = 0,
		.versions_replace_count = 0,
		.dependencies = 0,
		.dependency_count = 0,
		.interfaces = (void **)&iface_list,
	},
};

static struct lcr_comp test_comp = {
	.iface_count = 1,
	.ifaces = lcr_ifaces
};

static void register_this_component (void) {
	lcr_component_register (&test_comp);
}

static void (*const __init_this_component[1]) (void) __attribute__ ((used, section (".ctors"))) = { register_this_component };
