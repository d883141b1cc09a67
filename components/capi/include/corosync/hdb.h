/* Handles, as users of LCR know them.
 *
 * The original's header is a whole database of handles; what components and programs
 * of LCR take from it is the type, and how to print one. */
#ifndef LCR_COROSYNC_HDB_H
#define LCR_COROSYNC_HDB_H

#include <inttypes.h>
#include <stdint.h>

typedef uint64_t hdb_handle_t;

#define HDB_D_FORMAT PRIu64
#define HDB_X_FORMAT PRIx64

#endif
