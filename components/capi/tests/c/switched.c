/* Calls a counter from some threads, through one pointer each, while it is replaced back
 * and forth:
 *
 *   switched THREADS REPLACEMENTS FILE...
 *
 * The files are versions of the counter, replaced by one after the other, in turn. Every
 * call must be answered with a number of its own, higher than those before it in its
 * thread, and none may be missing. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <corosync/lcr/lcr_ifact.h>
#include <lcr.h>

struct counter {
	long (*next) (void);
	long (*show) (void);
};

#define MOST (1L << 26)

static volatile int over;
static unsigned char *answered;

struct caller {
	pthread_t thread;
	long calls, wrong;
	int comes;
};

static void *call (void *of)
{
	struct caller *caller = of;
	hdb_handle_t handle;
	void *table;
	long last = 0;

	if (lcr_ifact_reference (&handle, "counter", 0, &table, NULL) != 0) {
		fprintf (stderr, "%s\n", lcr_last_error ());
		caller->wrong++;
		return NULL;
	}
	while (!over || caller->calls < 1000) {
		/* The first caller goes and comes again. */
		if (caller->comes && caller->calls % 64 == 0
			&& (lcr_ifact_release (handle) != 0
				|| lcr_ifact_reference (&handle, "counter", 0, &table, NULL) != 0)) {
			fprintf (stderr, "%s\n", lcr_last_error ());
			caller->wrong++;
			return NULL;
		}
		long number = ((struct counter *)table)->next ();

		caller->calls++;
		if (number <= last || number >= MOST || __sync_fetch_and_add (&answered[number], 1) != 0) {
			caller->wrong++;
		}
		last = number;
		if (number > MOST / 2) {
			/* Enough; but stay inside until it is over. */
			while (!over) {
				sched_yield ();
			}
		}
	}
	if (lcr_ifact_release (handle) != 0) {
		caller->wrong++;
	}
	return NULL;
}

static int mapped (void)
{
	FILE *maps = fopen ("/proc/self/maps", "r");
	char line[8192];
	int found = 0;

	while (fgets (line, sizeof line, maps)) {
		found += strstr (line, "memfd:lcr") && strstr (line, "r-xp");
	}
	fclose (maps);
	return found;
}

int main (int argc, char **argv)
{
	int threads = atoi (argv[1]), replacements = atoi (argv[2]), most = 0, failed = 0, i;
	struct caller callers[16] = { { 0, 0, 0, 0 } };
	struct counter *table;
	long calls = 0, wrong = 0, missing = 0, number;
	hdb_handle_t handle;

	answered = calloc (MOST, 1);
	if (lcr_ifact_reference (&handle, "counter", 0, (void **)(void *)&table, NULL) != 0) {
		fprintf (stderr, "%s\n", lcr_last_error ());
		return 1;
	}
	for (i = 0; i < threads; i++) {
		callers[i].comes = i == 0;
		pthread_create (&callers[i].thread, NULL, call, &callers[i]);
	}
	for (i = 0; i < replacements; i++) {
		if (lcr_replace ("counter", LCR_ANY_VERSION, argv[3 + i % (argc - 3)], 0) != 0) {
			fprintf (stderr, "%s\n", lcr_last_error ());
			failed++;
		}
		if (i % 64 == 0 && mapped () > most) {
			most = mapped ();
		}
	}
	over = 1;
	for (i = 0; i < threads; i++) {
		pthread_join (callers[i].thread, NULL);
		calls += callers[i].calls;
		wrong += callers[i].wrong;
	}
	for (number = 1; number <= calls && number < MOST; number++) {
		missing += answered[number] != 1;
	}
	number = table->next ();
	fprintf (stderr, "%ld calls, %d replacements\n", calls, replacements);
	printf ("failed %d, wrong %ld, missing %ld, next is %s, at most %d mapped\n", failed, wrong, missing,
		number == calls + 1 ? "right" : "wrong", most);
	failed = lcr_retire ("counter");
	printf ("retired %d, mapped %d\n", failed, mapped ());
	failed = lcr_ifact_release (handle);
	printf ("released %d, mapped %d\n", failed, mapped ());
	free (answered);
	return 0;
}
