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
 * Tables that say how long they are
 *
 * A reference gets a table of functions that belongs to the component, and nobody knows
 * how long that is: so it cannot be changed under its callers. A component that describes
 * its table is replaced under them. Whoever references it in C gets a table of lcr's, and
 * keeps that pointer: at a replacement its entries are changed one by one, each by one
 * store, from the old functions to the new ones. Both are valid, and for a short while
 * callers call the ones and the others, mixed. Newer versions append functions to the
 * table; they take none away, and change none's arguments.
 *
 *	static struct lcr_table table_said = LCR_TABLE (&ifaces[0], struct counter);
 *
 *	__attribute__ ((constructor)) static void register_this_component (void)
 *	{
 *		lcr_table_describe (&table_said);
 *		lcr_component_register (&comp);
 *	}
 *
 * Such a component runs under the original too, which passes it over.
 *
 * At a replacement the new version's constructor runs for each reference, with that
 * reference's context, on the thread that replaces. Calls in C are counted by nobody. So
 * the old version is not destroyed: it stays constructed and mapped until each
 * reference that may have called it is released, or until lcr_retire() is called, whichever
 * is first; only then its destructor runs. Going back to a version that is still there
 * takes that up again, and constructs nothing, if its file is what it was: install a new
 * version beside the old one, under another name.
 *
 * If the version has state (static data, as a rule), it describes its table with
 * LCR_TABLE_WITH_STATE, and four functions:
 *
 *	pause	returns 0 when no function of it is changing the state any more; calls that
 *		come in wait. Anything else: it could not, and nothing is paused.
 *	save	writes the state. 0, or the replacement is undone.
 *	restore	takes the state over from another version. 0, or the replacement is undone.
 *	resume	ends the pause. NULL: this version serves. Else another one does: calls that
 *		waited, and such as come late, are to be made again through this table, whose
 *		functions are those of the other version's table, as many as it says.
 *
 * save and restore run between pause and resume, which is called on the same thread. One
 * lock is enough: pause locks it, functions hold it while they use the state, and resume
 * keeps the table and unlocks. While it holds that lock a function may reference neither its
 * own interface nor what requires it: that waits for the replacement, which waits for the
 * lock. The order of a replacement:
 *
 *	old.pause, old.save, new.pause, new.restore,		(if one fails, it is undone)
 *	new.resume (NULL), the entries of the table, old.resume (table)
 *
 * So each call is made by one version, on the state that the calls before it have left. lcr
 * cannot see to that without these functions: it keeps nobody out of a C function, and
 * does not know who is inside.
 */

/* The state that is handed over: named sections, each with the version of its form. The
 * functions answer 0, or -1; the reason is reported, if save or restore then fails. */
struct lcr_state {
	size_t size;
	void *session;
	/* Appends bytes to a section. */
	int (*write) (struct lcr_state *state, const char *section,
		unsigned int version, const void *bytes, size_t size);
	/* The bytes of a section whose version is one of these; valid until restore returns. */
	int (*read) (struct lcr_state *state, const char *section,
		unsigned int lowest, unsigned int highest, const void **bytes, size_t *size);
	/* Appends a duplicate of a descriptor to a section. */
	int (*attach) (struct lcr_state *state, const char *section,
		unsigned int version, int descriptor);
	/* A duplicate of the section's descriptor of this number, from 0, to keep; or -1. */
	int (*take) (struct lcr_state *state, const char *section, size_t number);
	/* Answers -1, and this is the reason. */
	int (*fail) (struct lcr_state *state, const char *why);
};

/* What a component says of an interface's table. Use the macros below. */
struct lcr_table {
	char magic[8];
	const struct lcr_iface *iface;
	size_t size;
	/* Of the table, in bytes. */
	size_t bytes;
	int (*pause) (void);
	int (*save) (struct lcr_state *state);
	int (*restore) (struct lcr_state *state);
	void (*resume) (void *const *table, size_t functions);
};

#define LCR_TABLE_MAGIC { 'L', 'C', 'R', 't', 'a', 'b', 'l', '1' }

/* iface: its address; functions: the type of its table, a struct of pointers to functions. */
#define LCR_TABLE(iface, functions) \
	{ LCR_TABLE_MAGIC, (iface), sizeof (struct lcr_table), sizeof (functions), 0, 0, 0, 0 }

#define LCR_TABLE_WITH_STATE(iface, functions, pause, save, restore, resume) \
	{ LCR_TABLE_MAGIC, (iface), sizeof (struct lcr_table), sizeof (functions), \
		(pause), (save), (restore), (resume) }

/* Not there under the original, or in a program that does not export it: then the table
 * is one that says nothing. Call lcr_table_describe(). */
extern void lcr_component_describe (const struct lcr_table *table) __attribute__ ((weak));

/* Describes a table: in the ELF constructor, beside lcr_component_register(). The
 * description must last as long as the component. Where it cannot be true, a reference to the
 * interface fails and says why; of an interface that is compiled in, or that its library does
 * not register, a line on standard error says it at once. */
static __inline__ void lcr_table_describe (const struct lcr_table *table)
{
	if (lcr_component_describe) {
		lcr_component_describe (table);
	}
}

/* Says that no thread is inside a replaced version of the interface, and none has read a
 * function of one that it has not called yet. The destructors of these versions run, for
 * each reference, and their libraries are unmapped. Where none was replaced, it does nothing
 * and answers 0; where there is no such interface, neither in use nor in the places that are
 * searched, -1. A destructor that it runs may ask neither for this nor for a replacement. */
extern int lcr_retire (const char *interface);

/*
 * Live replacement
 */

/* Where a file is named: the highest version in it. Else the highest version that is compiled
 * in or searched, and none that is below the one that serves: to go down, name it. */
#define LCR_ANY_VERSION (-2147483647 - 1)

/* Where references are held to an old version that does not describe its table, they keep
 * it until they are released, and later references get the new one. Without this flag such
 * a replacement is refused: nothing says how long the table is, and so it cannot be changed
 * under its callers. */
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
