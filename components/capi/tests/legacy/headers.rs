//! The headers: strict C89, C++17, and sizes and offsets as the original's.

use crate::world::World;

const LAYOUT: &str = r#"
#include <lcr.h>
#include <corosync/hdb.h>
#include <corosync/lcr/lcr_comp.h>
#include <corosync/lcr/lcr_ifact.h>

#define IS(name, condition) typedef char name[(condition) ? 1 : -1]

IS (handle, sizeof (hdb_handle_t) == 8);
IS (iface, sizeof (struct lcr_iface) == 72);
IS (iface_name, offsetof (struct lcr_iface, name) == 0);
IS (iface_version, offsetof (struct lcr_iface, version) == 8);
IS (iface_replace, offsetof (struct lcr_iface, versions_replace) == 16);
IS (iface_replace_count, offsetof (struct lcr_iface, versions_replace_count) == 24);
IS (iface_dependencies, offsetof (struct lcr_iface, dependencies) == 32);
IS (iface_dependency_count, offsetof (struct lcr_iface, dependency_count) == 40);
IS (iface_constructor, offsetof (struct lcr_iface, constructor) == 48);
IS (iface_destructor, offsetof (struct lcr_iface, destructor) == 56);
IS (iface_interfaces, offsetof (struct lcr_iface, interfaces) == 64);
IS (comp, sizeof (struct lcr_comp) == 16);
IS (comp_ifaces, offsetof (struct lcr_comp, ifaces) == 0);
IS (comp_iface_count, offsetof (struct lcr_comp, iface_count) == 8);

int main (void)
{
	struct lcr_iface iface;
	int functions = 0;

	lcr_interfaces_set (&iface, &functions);
	return iface.interfaces == (void **)(void *)&functions ? 0 : 1;
}
"#;

#[track_caller]
fn compiles(file: &str, text: &str, flags: &[&str]) {
    let Some(world) = World::new() else { return };
    let source = world.path().join(file);
    std::fs::write(&source, text).unwrap();
    let include = crate::world::include();
    let Some(gcc) = lcr_tests::program("gcc", "install gcc") else { return };
    let mut gcc = std::process::Command::new(gcc);
    gcc.args(flags).args(["-pedantic", "-Wall", "-Wextra", "-Werror", "-I"]).arg(include);
    crate::world::must(gcc.arg("-fsyntax-only").arg(&source));
}

#[test]
fn strict_c89() {
    compiles("layout.c", LAYOUT, &["-std=c89"]);
    compiles("layout.c", &format!("#define LCR_VOID_HANDLE\n{LAYOUT}"), &["-std=c89"]);
}

#[test]
fn modern_c_and_cplusplus() {
    compiles("layout.c", LAYOUT, &["-std=c17", "-Wstrict-prototypes", "-Wconversion"]);
    compiles("layout.cpp", LAYOUT, &["-std=c++17", "-Wold-style-cast", "-Wno-error=old-style-cast"]);
}

#[test]
fn each_header_stands_alone() {
    for header in ["lcr.h", "corosync/hdb.h", "corosync/lcr/lcr_comp.h", "corosync/lcr/lcr_ifact.h"] {
        compiles("alone.c", &format!("#include <{header}>\nint alone;\n"), &["-std=c89"]);
        compiles("alone.cpp", &format!("#include <{header}>\nint alone;\n"), &["-std=c++17"]);
    }
}
