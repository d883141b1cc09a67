/* A program that references what its arguments say, one after the other, and prints
 * what comes of it:
 *
 *   r:NAME:VERSION   reference         x:N        release the Nth reference
 *   c:N:F            call function F of the Nth reference
 *   z:HEX            release this number
 *   m                how many libraries of ours are mapped
 *   d:DIRECTORY      change to it      h:T:N:NAME hammer: T threads, N times
 *   g                how much address space has code in it, in kilobytes
 *   l:0              no legacy search
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <corosync/lcr/lcr_ifact.h>
#include <lcr.h>

static hdb_handle_t handles[64];
static void *tables[64];
static int count;

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

static int rounds;
static const char *name;

static void *hammer (void *failures)
{
	int i;

	for (i = 0; i < rounds; i++) {
		hdb_handle_t handle;
		void *table;

		if (lcr_ifact_reference (&handle, name, 0, &table, NULL) != 0) {
			fprintf (stderr, "%s\n", lcr_last_error ());
			__sync_fetch_and_add ((int *)failures, 1);
			continue;
		}
		(*(void (**) (void))table) ();
		if (lcr_ifact_release (handle) != 0) {
			__sync_fetch_and_add ((int *)failures, 1);
		}
	}
	return NULL;
}

static void run (int threads)
{
	pthread_t thread[64];
	int failures = 0;
	int i;

	for (i = 0; i < threads; i++) {
		pthread_create (&thread[i], NULL, hammer, &failures);
	}
	for (i = 0; i < threads; i++) {
		pthread_join (thread[i], NULL);
	}
	printf ("%d threads, %d failures\n", threads, failures);
}

int main (int argc, char **argv)
{
	int i;

	setvbuf (stdout, NULL, _IOLBF, 0);
	for (i = 1; i < argc; i++) {
		char *first = strchr (argv[i], ':');
		char *last = strrchr (argv[i], ':');
		int result;

		switch (argv[i][0]) {
		case 'r':
			*last = 0;
			result = lcr_ifact_reference (&handles[count], first + 1, atoi (last + 1),
				&tables[count], (void *)(uintptr_t)(0xc0de + count));
			if (result == 0) {
				printf ("%d: %s\n", count++, first + 1);
			} else {
				printf ("%d: %s\n", result, lcr_last_error ());
			}
			break;
		case 'c':
			((void (**) (void))tables[atoi (first + 1)])[atoi (last + 1)] ();
			break;
		case 'x':
			result = lcr_ifact_release (handles[atoi (first + 1)]);
			printf ("release %d%s%s\n", result, result ? ": " : "", result ? lcr_last_error () : "");
			break;
		case 'z':
			result = lcr_ifact_release (strtoull (first + 1, NULL, 16));
			printf ("release %d\n", result);
			break;
		case 'm':
			printf ("mapped %d\n", mapped ());
			break;
		case 'd':
			printf ("chdir %d\n", chdir (first + 1));
			break;
		case 'h':
			name = last + 1;
			rounds = atoi (strchr (first + 1, ':') + 1);
			run (atoi (first + 1));
			break;
		case 'l':
			printf ("legacy %d\n", lcr_legacy_search (atoi (first + 1)));
			break;
		}
	}
	return 0;
}
