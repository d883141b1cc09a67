/* What lcr offers to C beyond the original's calls.
 *
 * Every function that returns an int answers 0, or -1: lcr_last_error() says why. */
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

/* Switches off (0) or on the search in the original's places: the directory that the
 * process is in at the first look-up, the built-in one, LD_LIBRARY_PATH and the
 * directories of ld.so.conf. On unless LCR_LEGACY_SEARCH=0 is in the environment, for
 * programs rely on it; but whoever can make a file there can choose what runs, and only
 * the check of the file's owner stands in between. LCR_PATH is searched in any case,
 * and first. */
extern int lcr_legacy_search (int on);

#ifdef __cplusplus
}
#endif

#endif
