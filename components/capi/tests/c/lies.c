/* Counts that cannot be true, a list of dependencies that counts its end, and one that is as
 * it should be. */
#include <corosync/lcr/lcr_comp.h>
#include "say.h"

SAYS (function, "ended")
static void *table[] = { (void *)function };
static char *none[] = { NULL };
static struct lcr_iface ended[] = {
	{ .name = "ended", .dependencies = none, .dependency_count = 1, .interfaces = table } };
static struct lcr_iface many[] = {
	{ .name = "many", .dependencies = none, .dependency_count = (size_t) -1, .interfaces = table } };
static struct lcr_comp comps[] = { { ended, 1 }, { many, 1 }, { ended, (size_t) -1 } };

__attribute__ ((constructor)) static void load (void)
{
	size_t i;

	for (i = 0; i < sizeof (comps) / sizeof (comps[0]); i++) {
		lcr_component_register (&comps[i]);
	}
}
