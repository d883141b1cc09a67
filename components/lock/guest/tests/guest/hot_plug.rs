//! Disks of a guest that runs.

use crate::world::{Program, World, is_alive, library, pid};

#[test]
fn a_plugged_disk_is_locked_and_an_unplugged_one_is_not() {
    let world = World::new();
    let host = world.host("host");
    let (a, b, c) = (world.disk("a"), world.disk("b"), world.disk("c"));
    let mut web = host.run("web", &["--disk", &a]);
    assert_eq!(host.done(&["plug", "web", "--disk", &b, "--disk", &format!("{c},shared")]), "");
    assert!(host.is_held(&b) && host.is_held(&c));
    let disks = host.look("web").unwrap()["disks"].clone();
    let expected = serde_json::json!([
        {"path": a, "mode": "exclusive"}, {"path": b, "mode": "exclusive"}, {"path": c, "mode": "shared"},
    ]);
    assert_eq!(disks, expected);
    assert_eq!(host.done(&["unplug", "web", "--disk", &b]), "");
    assert!(!host.is_held(&b) && host.is_held(&a) && host.is_held(&c));
    assert_eq!(host.look("web").unwrap()["disks"].as_array().unwrap().len(), 2);
    // What is plugged ends with the guest, too.
    web.end();
    host.free_soon(&c);
}

#[test]
fn a_disk_that_somebody_holds_cannot_be_plugged_and_the_guest_runs_on() {
    let world = World::new();
    let host = world.host("host");
    let (a, b, c) = (world.disk("a"), world.disk("b"), world.disk("c"));
    let _web = host.run("web", &["--disk", &a]);
    let _db = host.run("db", &["--disk", &b]);
    let said = host.refused(1, &["plug", "web", "--disk", &c, "--disk", &b]);
    assert!(said.contains("lock.file: cannot plug disk") && said.contains("held by guest db"), "{said}");
    assert!(said.contains("guest web must not get the disk"), "{said}");
    assert!(said.contains(&format!("done before that: plug {c}")), "{said}");
    let web = host.look("web").unwrap();
    assert!(is_alive(pid(&web)));
    assert_eq!(web["disks"].as_array().unwrap().len(), 2);
    let said = host.refused(1, &["plug", "web", "--disk", &a]);
    assert!(said.contains("the guest has already") || said.contains("already"), "{said}");
}

#[test]
fn a_failed_unplug_warns_and_the_lock_outlasts_it() {
    let world = World::new();
    let host = world.host("host").with(library("lcr-lock-inside-library", "lock_inside"));
    let (disk, more) = (world.disk("a"), world.disk("b"));
    let web = Program::start(
        host.command(&["run", "--driver", "inside", "--name", "web", "--disk", &disk, "--", "cat"]),
    );
    host.until("web", "running");
    let said = host.done(&["unplug", "web", "--disk", &disk]);
    assert!(said.contains("warning: lock.inside: cannot unplug disk"), "{said}");
    assert!(said.contains("it stays locked until the guest ends"), "{said}");
    assert!(host.is_held(&disk));
    assert_eq!(host.look("web").unwrap()["disks"].as_array().unwrap().len(), 1);
    // A failed plug is a refusal.
    let said = host.refused(1, &["plug", "web", "--disk", &more]);
    assert!(said.contains("lock.inside: cannot plug disk") && said.contains("does not do that"), "{said}");
    drop(web);
}

/// A lease is a byte of a file: another guest may have the one beside it.
#[test]
fn leases_are_taken_plugged_and_unplugged_like_disks() {
    let world = World::new();
    let host = world.host("host");
    let file = world.disk("leases,bin");
    let lease = |name: &str, more: &str| format!("{name},path={}{more}", file.replace(',', ",,"));
    let mut web = host.run("web", &["--lease", &lease("one", ",offset=512,lockspace=LS")]);
    let one = serde_json::json!(
        {"name": "one", "lockspace": "LS", "path": file, "offset": 512, "mode": "exclusive"}
    );
    assert_eq!(host.look("web").unwrap()["leases"], serde_json::json!([one]));
    let rival = |lease: &str| host.refused(125, &["run", "--name", "db", "--lease", lease, "--", "true"]);
    let said = rival(&lease("one", ",offset=512,lockspace=LS"));
    let expected =
        format!("cannot acquire lease one of lockspace LS at {file}+512 (exclusive): held by guest web");
    assert!(said.contains(&expected), "{said}");
    let two = lease("two", ",offset=1024,shared");
    host.done(&["run", "--name", "db", "--lease", &two, "--", "true"]);

    host.done(&["plug", "web", "--lease", &two, "--disk", &world.disk("a")]);
    host.done(&["run", "--name", "db", "--lease", &two, "--", "true"]);
    let said = rival(&two.replace("shared", "exclusive"));
    assert!(said.contains("held by guest web"), "{said}");
    let table = String::from_utf8(host.output(&["list"]).stdout).unwrap();
    assert!(table.contains(&format!("lease:one lease:two,shared {}\n", world.disk("a"))), "{table}");
    // The mode is not what it is known by.
    host.done(&["unplug", "web", "--lease", &lease("two", ",offset=1024")]);
    host.done(&["run", "--name", "db", "--lease", &lease("two", ",offset=1024"), "--", "true"]);
    let said = host.refused(1, &["unplug", "web", "--lease", &lease("two", ",offset=1024")]);
    let has = format!("guest web has no lease two\n  it has: one, {}\n", world.disk("a"));
    assert_eq!(said, format!("lcr-guest: {has}"));
    web.end();
    host.done(&["run", "--name", "db", "--lease", &lease("one", ",offset=512"), "--", "true"]);
}

/// What a guest has is known by its file, not by how somebody writes that.
#[test]
fn a_disk_is_unplugged_under_whatever_name_leads_to_it() {
    let world = World::new();
    let host = world.host("host");
    let disks = ["a", "b", "c"].map(|name| world.disk(name));
    let [a, b, c] = &disks;
    let link = world.path("link").display().to_string();
    std::os::unix::fs::symlink(a, &link).unwrap();
    std::fs::create_dir(world.path("directory")).unwrap();
    let dotted = world.path("directory/../b").display().to_string();
    let _web = host.run("web", &["--disk", a, "--disk", b, "--disk", c]);
    host.done(&["unplug", "web", "--disk", &link]);
    host.done(&["unplug", "web", "--disk", &dotted]);
    assert!(!host.is_held(a) && !host.is_held(b) && host.is_held(c));
    let mut command = host.command(&["unplug", "web", "--disk", "c"]);
    lcr_tests::run(command.current_dir(world.path("")));
    assert!(!host.is_held(c));
    assert_eq!(host.look("web").unwrap()["disks"], serde_json::json!([]));
}
