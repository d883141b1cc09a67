/* The program of the original's README: handles are pointers. */
#define LCR_VOID_HANDLE
#include <corosync/lcr/lcr_ifact.h>

struct iface {
	void (*func1) (void);
	void (*func2) (void);
	void (*func3) (void);
};

int main (void)
{
	void *ifact_handle_ver0;
	struct iface *iface_ver0;

	if (lcr_ifact_reference (
		&ifact_handle_ver0,
		"iface1",
		0, /* version 0 */
		(void **)&iface_ver0,
		(void *)0xdeadbeef) != 0) {
		return 1;
	}
	iface_ver0->func1 ();
	iface_ver0->func2 ();
	iface_ver0->func3 ();
	return lcr_ifact_release (ifact_handle_ver0);
}
