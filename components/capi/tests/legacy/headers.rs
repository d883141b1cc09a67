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
IS (table, sizeof (struct lcr_table) == 64);
IS (table_iface, offsetof (struct lcr_table, iface) == 8);
IS (table_size, offsetof (struct lcr_table, size) == 16);
IS (table_bytes, offsetof (struct lcr_table, bytes) == 24);
IS (table_pause, offsetof (struct lcr_table, pause) == 32);
IS (table_save, offsetof (struct lcr_table, save) == 40);
IS (table_restore, offsetof (struct lcr_table, restore) == 48);
IS (table_resume, offsetof (struct lcr_table, resume) == 56);
IS (state, sizeof (struct lcr_state) == 56);
IS (state_session, offsetof (struct lcr_state, session) == 8);
IS (state_write, offsetof (struct lcr_state, write) == 16);
IS (state_read, offsetof (struct lcr_state, read) == 24);
IS (state_attach, offsetof (struct lcr_state, attach) == 32);
IS (state_take, offsetof (struct lcr_state, take) == 40);
IS (state_fail, offsetof (struct lcr_state, fail) == 48);

struct functions {
	void (*one) (void);
	int (*other) (int);
};
static struct lcr_iface described;
static int pause_it (void) { return 0; }
static int save (struct lcr_state *state) { return state->write (state, "a", 1, "b", 1); }
static int restore (struct lcr_state *state)
{
	const void *bytes;
	size_t size;

	return state->read (state, "a", 1, 1, &bytes, &size);
}
static void resume (void *const *table, size_t functions)
{
	(void)table;
	(void)functions;
}
static struct lcr_table short_one = LCR_TABLE (&described, struct functions);
static struct lcr_table long_one =
	LCR_TABLE_WITH_STATE (&described, struct functions, pause_it, save, restore, resume);

int main (void)
{
	struct lcr_iface iface;
	int functions = short_one.bytes == 2 * sizeof (void *) ? 0 : 1;

	lcr_table_describe (&short_one);
	lcr_table_describe (&long_one);

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

/// The names of the functions that a header declares.
fn declared(header: &str) -> Vec<String> {
    let text = std::fs::read_to_string(crate::world::include().join(header)).unwrap();
    let names = text.lines().filter(|line| line.starts_with("extern ") && line.contains(" (")).map(|line| {
        let before = line.split(" (").next().unwrap();
        before.rsplit([' ', '*']).next().unwrap().to_owned()
    });
    names.collect()
}

fn manual() -> String {
    std::fs::read_to_string(crate::world::include().parent().unwrap().join("man/lcr.3")).unwrap()
}

#[test]
fn the_manual_page_has_every_call_and_the_link_lines_that_the_tests_use() {
    let manual = manual();
    let (name, rest) = manual.split_once(".SH SYNOPSIS").unwrap();
    let mut count = 0;
    for header in ["lcr.h", "corosync/lcr/lcr_comp.h", "corosync/lcr/lcr_ifact.h"] {
        for call in declared(header) {
            assert!(name.contains(&call) && rest.contains(&call), "{call} of {header}");
            count += 1;
        }
    }
    assert_eq!(count, 16);
    let line: Vec<String> = crate::world::link_line(crate::world::Link::Static)
        .into_iter()
        .filter(|word| word != "-Wl,-S")
        .map(|word| if word.ends_with("/liblcr.a") { "liblcr.a".to_owned() } else { word })
        .collect();
    assert!(manual.contains(&format!("\ncc program.c {}\n", line.join(" "))), "{line:?}");
}

#[test]
fn the_manual_page_is_well_formed() {
    let Some(groff) = lcr_tests::program("groff", "install groff") else { return };
    let page = crate::world::include().parent().unwrap().join("man/lcr.3");
    let output =
        crate::world::must(std::process::Command::new(groff).args(["-man", "-Tutf8", "-ww", "-z"]).arg(page));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn pkg_config_has_what_a_program_needs() {
    let Some(world) = World::new() else { return };
    let Some(pkg_config) = lcr_tests::program("pkg-config", "install pkg-config") else { return };
    let template =
        std::fs::read_to_string(crate::world::include().parent().unwrap().join("lcr.pc.in")).unwrap();
    let libraries = crate::world::liblcr().directory().display().to_string();
    let filled = template
        .replace("@prefix@", "/usr")
        .replace("@libdir@", &libraries)
        .replace("@includedir@", &crate::world::include().display().to_string())
        .replace("@version@", env!("CARGO_PKG_VERSION"));
    std::fs::write(world.path().join("lcr.pc"), filled).unwrap();
    let flags = lcr_tests::stdout(
        std::process::Command::new(pkg_config)
            .args(["--cflags", "--libs", "lcr"])
            .env("PKG_CONFIG_PATH", world.path()),
    );
    let program = world.path().join("program");
    let mut gcc = std::process::Command::new(lcr_tests::program("gcc", "install gcc").unwrap());
    gcc.arg("-o").arg(&program).args(["host.c", "plain.c"].map(crate::world::sample));
    crate::world::must(gcc.args(flags.split_whitespace()));
    let mut host = world.command(&program, &["r:plain:0", "c:0:0"]);
    assert!(crate::world::said(host.env("LD_LIBRARY_PATH", libraries)).ends_with("plain 0 func1\n"));
}
