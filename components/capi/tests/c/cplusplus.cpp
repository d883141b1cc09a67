// A component in C++: an object behind a table of functions, made per reference.
#include <corosync/lcr/lcr_comp.h>

#include <cstdio>
#include <memory>
#include <string>

namespace {

struct Greeter {
	std::string word = "hello from C++";
	void greet () const { std::puts (word.c_str ()); }
};

std::unique_ptr<Greeter> greeter;

int construct (void *)
{
	greeter = std::make_unique<Greeter> ();
	return 0;
}

void destroy (void *)
{
	greeter.reset ();
	std::puts ("goodbye from C++");
}

void greet ()
{
	greeter->greet ();
}

struct Table {
	void (*greet) ();
};

Table table = { greet };

lcr_iface ifaces[] = {
	{ "cplusplus", 0, nullptr, 0, nullptr, 0, construct, destroy, reinterpret_cast<void **> (&table) },
};
lcr_comp comp = { ifaces, 1 };

struct AtLoad {
	AtLoad () { lcr_component_register (&comp); }
} at_load;

} // namespace
