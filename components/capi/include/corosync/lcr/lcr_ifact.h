/* The interface factory: referencing interfaces, and releasing them.
 *
 * Both calls answer 0, or -1: lcr_last_error() in lcr.h says why.
 *
 * Programs written before the handle became an integer define LCR_VOID_HANDLE first:
 * then it is a void *, of the same size. */
#ifndef LCR_COROSYNC_LCR_IFACT_H
#define LCR_COROSYNC_LCR_IFACT_H

#include <corosync/hdb.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef LCR_VOID_HANDLE
typedef void *lcr_handle_t;
#else
typedef hdb_handle_t lcr_handle_t;
#endif

/* Finds, loads and constructs an interface of that version, or the highest one that
 * says it replaces that. Its table of functions is written to *interface, and what
 * lcr_ifact_release() takes to *handle. */
extern int lcr_ifact_reference (
	lcr_handle_t *handle,
	const char *iface_name,
	int version,
	void **interface,
	void *context);

/* Runs the destructor; the last release of a library unloads it. */
extern int lcr_ifact_release (lcr_handle_t handle);

#ifdef __cplusplus
}
#endif

#endif
