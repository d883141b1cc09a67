/* What the original costs: a list that is searched from its beginning, and for what is not
 * in it every *.lcrso of the current directory is opened, asked and closed, in turn. */
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <corosync/lcr/lcr_comp.h>
#include <corosync/lcr/lcr_ifact.h>

struct held {
	struct lcr_iface *iface;
	void *context;
};

static struct lcr_comp **all;
static size_t count;

void lcr_component_register (struct lcr_comp *comp)
{
	if ((count & (count - 1)) == 0) {
		all = realloc (all, (count ? 2 * count : 1) * sizeof *all);
	}
	all[count++] = comp;
}

static struct lcr_iface *find (const char *name, int version)
{
	size_t i, j;

	for (i = 0; i < count; i++) {
		for (j = 0; j < all[i]->iface_count; j++) {
			struct lcr_iface *iface = &all[i]->ifaces[j];

			if (iface->version == version && strcmp (iface->name, name) == 0) {
				return iface;
			}
		}
	}
	return NULL;
}

static int is_component (const struct dirent *entry)
{
	const char *end = strrchr (entry->d_name, '.');

	return end != NULL && strcmp (end, ".lcrso") == 0;
}

static struct lcr_iface *search (const char *name, int version)
{
	struct dirent **entries;
	int found = scandir (".", &entries, is_component, alphasort);
	int i;

	for (i = 0; i < found; i++) {
		char path[512];
		size_t before = count;
		struct lcr_iface *iface;
		void *library;

		snprintf (path, sizeof path, "./%s", entries[i]->d_name);
		library = dlopen (path, RTLD_NOW);
		iface = find (name, version);
		if (iface != NULL) {
			return iface;
		}
		count = before;
		if (library != NULL) {
			dlclose (library);
		}
	}
	return NULL;
}

int lcr_ifact_reference (hdb_handle_t *handle, const char *name, int version, void **interface, void *context)
{
	struct lcr_iface *iface = find (name, version);
	struct held *held;

	if (iface == NULL && (iface = search (name, version)) == NULL) {
		return -1;
	}
	held = malloc (sizeof *held);
	held->iface = iface;
	held->context = context;
	if (iface->constructor) {
		iface->constructor (context);
	}
	*interface = iface->interfaces;
	*handle = (hdb_handle_t)(size_t)held;
	return 0;
}

int lcr_ifact_release (hdb_handle_t handle)
{
	struct held *held = (struct held *)(size_t)handle;

	if (held->iface->destructor) {
		held->iface->destructor (held->context);
	}
	free (held);
	return 0;
}
