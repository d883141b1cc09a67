/* A counter that says how long its table is, and hands its count over. What it is else
 * comes from the command line:
 *
 *   VERSION, REPLACES   as the other samples
 *   EXTRA               one function more        HOLE    and the second one is not there
 *   PLAIN               no state                 SILENT  the table is not described
 *   LIES                the description is of a longer table; ODD: of no table
 *   HALF                some of the four functions
 *   FORM                the version of the section "count"; OLDEST: that it restores
 *   FAIL_CONSTRUCT, FAIL_PAUSE, FAIL_SAVE, FAIL_RESTORE     fails there
 *   NEEDS               requires this interface; REFERENCES: itself, in its constructor
 *   TALKS               prints what is done with it
 *   ASKS                its destructor asks for a replacement and a retirement */
#include <pthread.h>
#include <stdio.h>

#include <corosync/lcr/lcr_comp.h>
#include <lcr.h>

#ifndef VERSION
#define VERSION 0
#endif
#ifndef FORM
#define FORM 1
#endif
#ifndef OLDEST
#define OLDEST 1
#endif
#ifdef TALKS
#define SAY(what) printf ("counter %d %s\n", VERSION, what)
#else
#define SAY(what)
#endif

struct counter {
	long (*next) (void);
	long (*show) (void);
#ifdef EXTRA
	long (*extra) (void);
#endif
};

static pthread_mutex_t serves = PTHREAD_MUTEX_INITIALIZER;
static const struct counter *elsewhere;
static long count;

/* Another version serves: the lock is not held. */
static const struct counter *begin (void)
{
	pthread_mutex_lock (&serves);
	if (elsewhere) {
		const struct counter *table = elsewhere;

		pthread_mutex_unlock (&serves);
		return table;
	}
	return NULL;
}

static long next (void)
{
	const struct counter *table = begin ();
	long result;

	if (table) {
		return table->next ();
	}
	result = ++count;
	pthread_mutex_unlock (&serves);
	return result;
}

static long show (void)
{
	const struct counter *table = begin ();

	if (table) {
		return table->show ();
	}
	printf ("counter %d: %ld\n", VERSION, count);
	fflush (stdout);
	pthread_mutex_unlock (&serves);
	return VERSION;
}

#ifdef EXTRA
static long extra (void)
{
	printf ("counter %d extra\n", VERSION);
	return VERSION;
}
#endif

#ifdef HOLE
#define SECOND NULL
#else
#define SECOND show
#endif

/* What stands behind it is no function. */
static struct {
	struct counter functions;
	long other[4];
} table = {
	{
		next,
		SECOND,
#ifdef EXTRA
		extra,
#endif
	},
	{ 1, 2, 3, 4 },
};

static int construct (void *context)
{
	(void)show;
	(void)context;
	SAY ("constructed");
#ifdef REFERENCES
	{
		hdb_handle_t handle;
		void *table;

		if (lcr_ifact_reference (&handle, "counter", 0, &table, NULL) != 0) {
			return 9;
		}
	}
#endif
#ifdef FAIL_CONSTRUCT
	return 7;
#else
	return 0;
#endif
}

static void destroy (void *context)
{
	(void)context;
	SAY ("destroyed");
#ifdef ASKS
	if (lcr_replace ("counter", LCR_ANY_VERSION, NULL, 0) != 0) {
		printf ("the destructor: %s\n", lcr_last_error ());
	}
	if (lcr_retire ("counter") != 0) {
		printf ("the destructor: %s\n", lcr_last_error ());
	}
#endif
}

#ifdef REPLACES
static int replaces[] = { REPLACES };
#define REPLACES_COUNT (sizeof replaces / sizeof *replaces)
#else
#define replaces NULL
#define REPLACES_COUNT 0
#endif

#ifdef NEEDS
static char *dependencies[] = { NEEDS };
#define NEEDS_COUNT 1
#else
#define dependencies NULL
#define NEEDS_COUNT 0
#endif

static struct lcr_iface ifaces[] = {
	{
		"counter", VERSION, replaces, REPLACES_COUNT, dependencies, NEEDS_COUNT,
		construct, destroy, (void **)(void *)&table,
	},
};

static struct lcr_comp comp = { ifaces, 1 };

#ifndef SILENT
#ifndef PLAIN
static int pause_it (void)
{
	SAY ("pauses");
#ifdef FAIL_PAUSE
	return 5;
#else
	return pthread_mutex_lock (&serves);
#endif
}

static int save (struct lcr_state *state)
{
	SAY ("saves");
#ifdef FAIL_SAVE
	return state->fail (state, "the disk is full");
#else
	return state->write (state, "count", FORM, &count, sizeof count);
#endif
}

static int restore (struct lcr_state *state)
{
	const void *bytes;
	size_t size;

	SAY ("restores");
	if (state->read (state, "count", OLDEST, FORM, &bytes, &size) != 0) {
		return -1;
	}
#ifdef FAIL_RESTORE
	return 3;
#endif
	if (size != sizeof count) {
		return state->fail (state, "the count has another size");
	}
	count = *(const long *)bytes;
	return 0;
}

static void resume (void *const *now, size_t functions)
{
	SAY (now ? "goes on elsewhere" : "serves");
	elsewhere = functions >= 2 ? (const struct counter *)now : NULL;
	pthread_mutex_unlock (&serves);
}

#ifdef HALF
#define RESUME (1 ? NULL : resume)
#else
#define RESUME resume
#endif
#endif

#ifdef LIES
struct longer {
	struct counter counter;
	void (*more[4]) (void);
};
#define FUNCTIONS struct longer
#elif defined ODD
#define FUNCTIONS char[12]
#else
#define FUNCTIONS struct counter
#endif

#ifdef PLAIN
static struct lcr_table said = LCR_TABLE (&ifaces[0], FUNCTIONS);
#else
static struct lcr_table said =
	LCR_TABLE_WITH_STATE (&ifaces[0], FUNCTIONS, pause_it, save, restore, RESUME);
#endif
#endif

__attribute__ ((constructor)) static void register_this_component (void)
{
#ifndef SILENT
	lcr_table_describe (&said);
#endif
	lcr_component_register (&comp);
}
