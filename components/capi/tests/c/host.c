/* A program that references what its arguments say, one after the other, and prints
 * what comes of it:
 *
 *   r:NAME:VERSION   reference         x:N        release the Nth reference
 *   c:N:F            call function F of the Nth reference
 *   z:HEX            release this number
 *   m                how many libraries of ours are mapped
 *   d:DIRECTORY      change to it      h:T:N:NAME hammer: T threads, N times
 *   l:0              no legacy search
 *   s                the places that are searched; s:P1,P2 search these
 *   i                interfaces            i:NAME  this one
 *   p:NAME:V:FILE:F  plan      R:NAME:V:FILE:F  replace (V: a version or "any"; FILE may be empty)
 *   b:NAME:F         go back                   t:NAME  nobody is inside what was replaced
 *   n:N:T            call the first function of the Nth reference T times
 *   e:A:B            are these references' tables the same?
 *   k:FLAGS          start the control service; K stop it
 *   w:FILE           print "waits", and wait for this file
 *   a                is this a set-user-id program?
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
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

static int show_place (void *context, const char *place)
{
	(void)context;
	printf ("place %s\n", place);
	return 0;
}

static int show_interface (void *wanted, const struct lcr_interface_status *status)
{
	const char *file = status->file ? strrchr (status->file, '/') + 1 : "compiled in";

	if (wanted == NULL || strcmp (wanted, status->name) == 0) {
		printf ("%s %d %s %s %s %d\n", status->name, status->version, status->state, file,
			status->component, (int)status->references);
	}
	return status->size != sizeof *status;
}

static void set_places (char *text)
{
	const char *places[8];
	size_t found = 0;
	char *place;

	for (place = strtok (text, ","); place; place = strtok (NULL, ",")) {
		places[found++] = place;
	}
	printf ("search %d\n", lcr_search_set (places, found));
}

static void replace (char *text)
{
	char *part[5] = { text, "", "any", "", "0" };
	int (*call) (const char *, int, const char *, int) = text[0] == 'p' ? lcr_plan : lcr_replace;
	int i, result;

	for (i = 1; i < 5 && (text = strchr (text, ':')) != NULL; i++) {
		*text++ = 0;
		part[i] = text;
	}
	if (part[0][0] == 'b') {
		result = lcr_rollback (part[1], atoi (part[2]));
	} else {
		result = call (part[1], strcmp (part[2], "any") ? atoi (part[2]) : LCR_ANY_VERSION,
			part[3][0] ? part[3] : NULL, atoi (part[4]));
	}
	printf ("%s %d%s%s\n", part[0], result, result ? ": " : "", result ? lcr_last_error () : "");
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
		case 's':
			if (first) {
				set_places (first + 1);
			} else {
				lcr_search_each (show_place, NULL);
			}
			break;
		case 'i':
			lcr_interfaces_each (show_interface, first ? first + 1 : NULL);
			break;
		case 'p':
		case 'R':
		case 'b':
			replace (argv[i]);
			break;
		case 't':
			result = lcr_retire (first + 1);
			printf ("retire %d%s%s\n", result, result ? ": " : "", result ? lcr_last_error () : "");
			break;
		case 'n':
			for (result = atoi (last + 1); result > 0; result--) {
				(*(long (**) (void))tables[atoi (first + 1)]) ();
			}
			break;
		case 'e':
			printf ("%s\n", tables[atoi (first + 1)] == tables[atoi (last + 1)] ? "same" : "other");
			break;
		case 'k':
			result = lcr_control_start (atoi (first + 1));
			printf ("control %d%s%s\n", result, result ? ": " : "", result ? lcr_last_error () : "");
			if (result == 0) {
				char path[4096];

				printf ("socket %d\n", lcr_control_socket (path, sizeof path));
			}
			break;
		case 'K':
			printf ("stopped %d\n", lcr_control_stop ());
			break;
		case 'w':
			puts ("waits");
			while (access (first + 1, F_OK) != 0) {
				usleep (1000);
			}
			break;
		case 'a':
			printf ("secure %d\n", getauxval (AT_SECURE) != 0);
			break;
		case 'l':
			printf ("legacy %d\n", lcr_legacy_search (atoi (first + 1)));
			break;
		}
	}
	return 0;
}
