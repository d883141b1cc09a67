/* Two components in one object, each with a constructor of its own; descriptors are
 * global, so that the linker refers to them by symbol. */
#include <corosync/lcr/lcr_comp.h>
#include "say.h"

SAYS (left, "left")
SAYS (right, "right")
SAYS (middle, "middle")
void *several_left[] = { (void *)left };
void *several_right[] = { (void *)right };
void *several_middle[] = { (void *)middle };
struct lcr_iface several_ifaces_left[] = {
	{ .name = "left", .interfaces = several_left },
	{ .name = "middle", .interfaces = several_middle },
};
struct lcr_iface several_ifaces_right[] = { { .name = "right", .interfaces = several_right } };
struct lcr_comp several_comp_left = { several_ifaces_left, 2 };
struct lcr_comp several_comp_right = { several_ifaces_right, 1 };

__attribute__ ((constructor)) static void load_left (void)
{
	lcr_component_register (&several_comp_left);
}

__attribute__ ((constructor)) static void load_right (void)
{
	lcr_component_register (&several_comp_right);
}
