/* One interface; its name and version come from the command line, and
 * the version that it replaces. */
#include <corosync/lcr/lcr_comp.h>
#include "say.h"

#ifndef NAME
#define NAME "plain"
#endif
#ifndef VERSION
#define VERSION 0
#endif
#define TEXT2(x) #x
#define TEXT(x) TEXT2 (x)

static int construct (void *context)
{
	printf ("%s %d constructed with %p\n", NAME, VERSION, context);
	return 0;
}

static void destroy (void *context)
{
	printf ("%s %d destroyed with %p\n", NAME, VERSION, context);
}

SAYS (func1, NAME " " TEXT (VERSION) " func1")
SAYS (func2, NAME " " TEXT (VERSION) " func2")

struct table {
	void (*func1) (void);
	void (*func2) (void);
};

static struct table table = { .func1 = func1, .func2 = func2 };

#ifdef REPLACES
static int replaces[] = { REPLACES };
#define COUNT 1
#else
#define replaces 0
#define COUNT 0
#endif

static struct lcr_iface ifaces[] = {
	{
		.name = NAME,
		.version = VERSION,
		.versions_replace = replaces,
		.versions_replace_count = COUNT,
		.dependencies = 0,
		.dependency_count = 0,
		.constructor = construct,
		.destructor = destroy,
		.interfaces = (void **)(void *)&table,
	},
};

static struct lcr_comp comp = {
	.iface_count = 1,
	.ifaces = ifaces,
};

__attribute__ ((constructor)) static void register_this_component (void)
{
	lcr_component_register (&comp);
}
