/* From before components registered themselves. */
#include <corosync/lcr/lcr_comp.h>

static void nothing (void) {}
static void *table[] = { (void *)nothing };
static struct lcr_iface ifaces[] = { { .name = "older", .interfaces = table } };
static struct lcr_comp comp = { ifaces, 1 };

int lcr_comp_get (struct lcr_comp **component);
int lcr_comp_get (struct lcr_comp **component)
{
	*component = &comp;
	return 0;
}
