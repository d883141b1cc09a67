//! `--probe`: C libraries, looked into by a child process.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::World;

/// The descriptors of C.
const HEADER: &str = r#"
#include <stddef.h>
struct lcr_iface {
    const char *name; int version; int *versions_replace; int versions_replace_count;
    char **dependencies; size_t dependency_count;
    int (*constructor)(void *); void (*destructor)(void *); void **interfaces;
};
struct lcr_comp { struct lcr_iface *ifaces; size_t iface_count; };
void lcr_component_register(struct lcr_comp *);
int lcr_ifact_reference(unsigned long long *, const char *, int, void **, void *);
#define AT_LOAD __attribute__((constructor)) static void
"#;

/// A component that says hello, and references another one, before it registers.
const SOUND: &str = r#"
#include <stdio.h>
static int replaces[] = { 0, 1 };
static char *requires[] = { "clock", "disk" };
static void function(void) {}
static void *table[] = { function };
static struct lcr_iface ifaces[] = {
    { .name = "ckpt", .version = 2, .versions_replace = replaces, .versions_replace_count = 2,
      .dependencies = requires, .dependency_count = 2 },
    { .name = "ckpt", .version = 3 },
};
static struct lcr_comp comp = { ifaces, 2 };
AT_LOAD load(void) {
    unsigned long long handle; void *other;
    printf("{\"components\":[]}\n"); fflush(stdout);
    if (lcr_ifact_reference(&handle, "clock", 0, &other, NULL) != -1) return;
    ifaces[0].interfaces = table;
    lcr_component_register(&comp);
}
"#;

/// Compiles a library, or says that there is no compiler.
fn compiled(world: &World, name: &str, source: &str) -> bool {
    let Some(gcc) = lcr_tests::program("gcc", "install gcc") else { return false };
    let source = world.file(&format!("{name}.c"), format!("{HEADER}{source}"));
    let object = world.path().join(name);
    lcr_tests::stdout(Command::new(gcc).args(["-shared", "-fPIC", "-o"]).arg(object).arg(source));
    true
}

#[test]
fn a_c_library_is_read_as_silent_and_probed_for_what_it_registers() {
    let world = World::new();
    if !compiled(&world, "libckpt.so", SOUND) {
        return;
    }
    let unread = world.lcr(&["inspect", "--json", "libckpt.so"]);
    assert_eq!(unread.code, Some(0));
    assert_eq!(unread.json(), json!([{ "file": "libckpt.so", "kind": "library", "components": [] }]));
    assert!(world.lcr(&["inspect", "libckpt.so"]).out.contains("--probe"));
    snapbox::assert_data_eq!(
        world.lcr(&["inspect", "--probe", "libckpt.so"]).all(),
        snapbox::str![[r#"
libckpt.so: library, 1 component

  Component ckpt  seen by loading it
    INTERFACE  VERSION  REPLACES  REQUIRES     CONTRACT   KIND
    ckpt       2        0, 1      clock, disk  raw table  per reference
    ckpt       3        -         -            raw table  per reference
--- exit code 0

"#]]
    );
    snapbox::assert_data_eq!(
        world.lcr(&["inspect", "--probe", "--json", "libckpt.so"]).all(),
        snapbox::str![[r#"
[
  {
    "components": [
      {
        "interfaces": [
          {
            "contract": null,
            "name": "ckpt",
            "per_reference": false,
            "replaces": [
              0,
              1
            ],
            "requires": [
              "clock",
              "disk"
            ],
            "state": false,
            "version": 2
          },
          {
            "contract": null,
            "name": "ckpt",
            "per_reference": false,
            "replaces": [],
            "requires": [],
            "state": false,
            "version": 3
          }
        ],
        "name": "ckpt",
        "package": null,
        "package_version": null,
        "rustc": null
      }
    ],
    "file": "libckpt.so",
    "kind": "library",
    "probed": true
  }
]
--- exit code 0

"#]]
    );
    let listed = world.lcr(&["list", "--probe", "--json", "."]).json();
    assert_eq!((&listed[1]["interface"], &listed[1]["version"]), (&"ckpt".into(), &3.into()));
}

#[test]
fn a_component_without_a_name_is_passed_over_and_the_others_are_shown() {
    let world = World::new();
    let of = |ifaces: &str| {
        format!(
            "static void function(void) {{}}\nstatic void *table[] = {{ function }};\n\
             static struct lcr_iface named[] = {{ {{ .name = \"named\", .interfaces = table }} }};\n\
             static struct lcr_iface nameless[] = {{ {{ .interfaces = table }} }};\n\
             static struct lcr_comp comps[] = {{ {{ named, 1 }}, {{ nameless, 1 }} }};\n\
             AT_LOAD load(void) {{ for (int at = {ifaces}; at < 2; at++) lcr_component_register(comps + at); }}"
        )
    };
    if !compiled(&world, "libboth.so", &of("0")) || !compiled(&world, "libnone.so", &of("1")) {
        return;
    }
    snapbox::assert_data_eq!(
        world.lcr(&["inspect", "--probe", "libboth.so", "libnone.so"]).all(),
        snapbox::str![[r#"
libboth.so: library, 1 component

  Component both  seen by loading it
    INTERFACE  VERSION  REPLACES  REQUIRES  CONTRACT   KIND
    named      0        -         -         raw table  per reference
--- standard error
lcr: 2 of 2 files could not be read whole
  libboth.so: passed over: a component without a name for each of its interfaces was not registered: fill the descriptor in before lcr_component_register is called
  libnone.so: passed over: a component without a name for each of its interfaces was not registered: fill the descriptor in before lcr_component_register is called
--- exit code 1

"#]]
    );
    world.program("greeter_dynamic");
    let check = world.lcr(&["check", "--json", "--host", "greeter_dynamic", "--probe", "libnone.so"]);
    let reason = &check.json()[0]["reasons"][0];
    assert_eq!((check.code, &reason["kind"]), (Some(1), &json!("passed-over")), "{}", check.all());
}

#[test]
fn what_goes_wrong_in_the_child_is_told_and_hurts_nobody() {
    let world = World::new();
    let cases = [
        ("crash", "AT_LOAD f(void) { *(volatile int *)8 = 1; }", "signal 11 (SIGSEGV"),
        (
            "abort",
            "#include <stdio.h>\n#include <stdlib.h>\nAT_LOAD f(void) { fputs(\"no\\n\", stderr); abort(); }",
            "signal 6 (SIGABRT",
        ),
        ("exit", "#include <stdlib.h>\nAT_LOAD f(void) { exit(0); }", "ended the process with exit code 0"),
        ("quiet", "#include <unistd.h>\nAT_LOAD f(void) { _exit(3); }", "ended the process with exit code 3"),
        ("undefined", "void nowhere(void); AT_LOAD f(void) { nowhere(); }", "undefined symbol: nowhere"),
        (
            "descriptor",
            "AT_LOAD f(void) { static struct lcr_comp c = { (void *)8, 9 }; lcr_component_register(&c); }",
            "signal 11",
        ),
        (
            "older",
            "int lcr_comp_get(struct lcr_comp **c) { return -1; }",
            "call `lcr_component_register(&comp)`",
        ),
        (
            "writer",
            "#include <fcntl.h>\n#include <unistd.h>\n\
             AT_LOAD f(void) { int fd = open(\"written\", O_CREAT | O_WRONLY, 0600); write(fd, \"x\", 1); }",
            "SIGXFSZ",
        ),
    ];
    for (name, source, _) in &cases {
        if !compiled(&world, &format!("lib{name}.so"), source) {
            return;
        }
    }
    for (name, _, says) in &cases {
        let file = format!("lib{name}.so");
        let done = world.lcr(&["inspect", "--probe", &file]);
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{name}: {}", done.err);
        let first = done.err.lines().next().unwrap();
        assert!(first.starts_with(&format!("lcr: {file}: ")) && first.contains(says), "{name}: {}", done.err);
    }
    assert!(world.lcr(&["inspect", "--probe", "libabort.so"]).err.contains("it wrote: no\n"));
}

#[test]
fn a_library_that_hangs_is_ended_with_all_that_it_started() {
    let world = World::new();
    let source = "#include <stdio.h>\n#include <unistd.h>\nAT_LOAD f(void) {\n\
        pid_t child = fork();\n\
        if (child > 0) { FILE *f = fdopen(2, \"w\"); fprintf(f, \"child %d\\n\", child); fflush(f); }\n\
        for (;;) pause(); }";
    if !compiled(&world, "libhang.so", source) {
        return;
    }
    let start = Instant::now();
    let done = world.lcr(&["inspect", "--probe", "libhang.so"]);
    assert!(start.elapsed() < Duration::from_secs(60), "it came to an end at all");
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("did not end within 5 s"), "{}", done.err);
    let child = done.err.lines().find_map(|line| line.trim().strip_prefix("it wrote: child ")).unwrap();
    // Killed: gone, or a zombie until its new parent looks.
    let status = std::fs::read_to_string(Path::new("/proc").join(child).join("stat")).unwrap_or_default();
    let state = status.rsplit(") ").next().and_then(|rest| rest.chars().next());
    assert!(matches!(state, None | Some('Z' | 'X')), "{status}");
}

#[test]
fn a_process_that_a_library_leaves_behind_does_not_hold_the_command() {
    let world = World::new();
    let source = "#include <unistd.h>\nAT_LOAD f(void) { if (fork() == 0) for (;;) pause(); }";
    if !compiled(&world, "libfork.so", source) {
        return;
    }
    // To wait for the child of the child would be to run out of time, which is code 1.
    let done = world.lcr(&["inspect", "--probe", "libfork.so"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
}

#[test]
fn a_library_that_others_can_write_is_not_run() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    if !compiled(&world, "libckpt.so", SOUND) {
        return;
    }
    let path = world.path().join("libckpt.so");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o707)).unwrap();
    let done = world.lcr(&["inspect", "--probe", "libckpt.so"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("run: chmod o-w libckpt.so"), "{}", done.err);
}
