/* What lcr offers to C beyond the original's calls.
 *
 * Every function that returns an int answers 0, or -1: lcr_last_error() says why. All of
 * them may be called by any thread, none from an ELF constructor. The manual page is
 * lcr(3). */
#ifndef LCR_H
#define LCR_H

#include <stddef.h>
#include <stdint.h>

#include <corosync/lcr/lcr_comp.h>
#include <corosync/lcr/lcr_ifact.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why this thread's last call failed, a sentence in UTF-8; NULL if none did. Valid until
 * the thread's next failure. */
extern const char *lcr_last_error (void);

/*
 * Where components are searched
 */

/* Switches off (0) or on the search in the original's places: the directory that the
 * process is in at the first look-up, the built-in one, LD_LIBRARY_PATH and the
 * directories of ld.so.conf. On unless LCR_LEGACY_SEARCH=0 is in the environment, for
 * programs rely on it; but whoever can make a file there can choose what runs, and only
 * the check of the file's owner stands in between. LCR_PATH is searched in any case,
 * and first. */
extern int lcr_legacy_search (int on);

/* Searches these directories and files, the first ones first, in the place of those of
 * LCR_PATH and of an earlier call. The original's places come after them, unless they are
 * switched off. */
extern int lcr_search_set (const char *const *places, size_t count);

/* Calls visit with each place, in the order in which they are searched, until it returns
 * something else than 0. The text is valid during the call. */
extern int lcr_search_each (
	int (*visit) (void *context, const char *place),
	void *context);

/*
 * What there is
 */

/* An interface. The texts are valid during the call that shows it. */
struct lcr_interface_status {
	/* Of this structure: what stands behind it is of a later lcr. */
	size_t size;
	const char *name;
	int version;
	/* "live", "idle", "held" or "leaving". */
	const char *state;
	/* The library's file; NULL: compiled in. */
	const char *file;
	/* The component that offers it: a C component is called by its first interface. */
	const char *component;
	/* How many references are held. */
	uint64_t references;
};

/* Calls visit with each interface that is compiled in or in use, by name, then version,
 * until it returns something else than 0. No lock is held: visit may reference, release
 * and replace. */
extern int lcr_interfaces_each (
	int (*visit) (void *context, const struct lcr_interface_status *status),
	void *context);

/*
 * Live replacement
 */

/* The highest version that there is. */
#define LCR_ANY_VERSION (-2147483647 - 1)

/* Where references to the old version are held, they keep it until they are released, and
 * later references get the new one. Without this flag such a replacement is refused: the
 * table of functions belongs to the component, nothing says how long it is, and so it
 * cannot be changed under its callers. */
#define LCR_LATER 1

/* Makes every check of a replacement, and changes nothing: no code of the new version
 * runs. file may be NULL: then the new version is compiled in, or searched. */
extern int lcr_plan (
	const char *interface,
	int version,
	const char *file,
	int flags);

/* Replaces an interface by another version, which must name the old one in its
 * versions_replace, or be the same version, built anew. If it fails, the old version
 * serves on, and nothing stays loaded. */
extern int lcr_replace (
	const char *interface,
	int version,
	const char *file,
	int flags);

/* Goes back to what served before the last replacement of the interface. */
extern int lcr_rollback (const char *interface, int flags);

/*
 * Being asked from outside
 */

/* Listens to the original's client too: livereplace NAME versionN on the abstract socket
 * lcr.socket, of which there is one. */
#define LCR_CONTROL_LEGACY 1

/* Starts a thread that answers the command lcr (status, plan, replace, rollback, history,
 * watch) on a socket that this user and root alone can use. */
extern int lcr_control_start (int flags);

/* Writes the socket's path, with its NUL. */
extern int lcr_control_socket (char *path, size_t size);

/* Stops the thread and removes the socket. */
extern int lcr_control_stop (void);

#ifdef __cplusplus
}
#endif

#endif
