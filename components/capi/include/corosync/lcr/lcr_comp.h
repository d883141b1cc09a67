/* Components: what they say of themselves, and how they register.
 *
 * A component fills in a struct lcr_comp and hands it to lcr_component_register() from
 * an ELF constructor: __attribute__((constructor)), or an entry of the section .ctors.
 * The structures are those of corosync 1.4, byte for byte. */
#ifndef LCR_COROSYNC_LCR_COMP_H
#define LCR_COROSYNC_LCR_COMP_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lcr_iface {
	/* What it is referenced by. */
	const char *name;
	int version;
	/* The versions that this one can stand in for. */
	int *versions_replace;
	int versions_replace_count;
	/* The names of the interfaces that are constructed before it, and released after. */
	char **dependencies;
	size_t dependency_count;
	/* Called at each reference with its context: anything but 0 is a failure, and
	 * then there is no reference. */
	int (*constructor) (void *context);
	/* Called with the same context when the reference is released. */
	void (*destructor) (void *context);
	/* The table of functions that a reference gets. */
	void **interfaces;
};

struct lcr_comp {
	struct lcr_iface *ifaces;
	size_t iface_count;
};

extern void lcr_component_register (struct lcr_comp *comp);

/* Sets the table late: before lcr_component_register(), in the ELF constructor. */
static __inline__ void lcr_interfaces_set (
	struct lcr_iface *iface,
	void *functions)
{
	iface->interfaces = (void **)functions;
}

#ifdef __cplusplus
}
#endif

#endif
