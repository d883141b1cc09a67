//! A supervisor that is killed, and one that takes its place.

use rustix::process::Signal;
use serde_json::Value;

use crate::world::{Host, Program, World, is_alive, pid, signal, soon};

#[test]
fn a_guest_whose_supervisor_is_killed_runs_on_locked_and_can_be_taken_up() {
    let world = World::new();
    let host = world.host("host");
    let (disk, other) = (world.disk("a"), world.disk("b"));
    let mut web = host.run("web", &["--disk", &disk]);
    let guest = host.look("web").unwrap();
    web.kill();
    let alone = host.until("web", "unsupervised");
    assert_eq!((&alone["pid"], &alone["supervisor_pid"]), (&guest["pid"], &Value::Null));
    assert!(is_alive(pid(&guest)));
    assert!(host.is_held(&disk));

    let mut attached = Program::start(host.command(&["attach", "web"]));
    let adopted = host.until("web", "running");
    assert_eq!(adopted["pid"], guest["pid"]);
    assert_eq!(adopted["supervisor_pid"], attached.pid());
    assert!(host.is_held(&disk));
    // The new supervisor does all that the old one did.
    host.done(&["plug", "web", "--disk", &other]);
    assert!(host.is_held(&other));
    host.done(&["unplug", "web", "--disk", &disk]);
    assert!(!host.is_held(&disk));
    assert!(host.refused(125, &["attach", "web"]).contains("has a supervisor"));

    web.end();
    assert!(attached.wait().success());
    assert_eq!(attached.said(), "lcr-guest: guest web has ended\n");
    assert!(host.list().is_empty());
    host.free_soon(&other);
}

/// Ctrl-C's signal comes from a terminal; what `kill` sends goes to the guest.
#[test]
fn an_adopted_guest_gets_the_signals_that_are_sent_to_its_supervisor() {
    let world = World::new();
    let host = world.host("host");
    let mut web = host.run("web", &["--disk", &world.disk("a")]);
    let guest = pid(&host.look("web").unwrap());
    web.kill();
    let mut attached = Program::start(host.command(&["attach", "web"]));
    host.until("web", "running");
    signal(attached.pid(), Signal::TERM);
    assert!(attached.wait().success());
    assert!(!is_alive(guest));
}

#[test]
fn a_guest_that_has_ended_unsupervised_is_shown_once() {
    let world = World::new();
    let host = world.host("host");
    let disk = world.disk("a");
    let mut web = host.run("web", &["--disk", &disk]);
    let guest = pid(&host.look("web").unwrap());
    web.kill();
    drop(web);
    soon("the guest has ended", || (!is_alive(guest)).then_some(()));
    assert_eq!(host.look("web").unwrap()["state"], "ended");
    assert!(host.list().is_empty());
    host.free_soon(&disk);
}

#[test]
fn a_name_is_free_when_guest_and_supervisor_have_ended() {
    let world = World::new();
    let host = world.host("host");
    let mut web = host.run("web", &[""; 0]);
    let guest = pid(&host.look("web").unwrap());
    web.kill();
    let said = host.refused(125, &["run", "--name", "web", "--", "true"]);
    assert!(
        said.contains(&format!("there is a guest web already (pid {guest}, without a supervisor)")),
        "{said}"
    );
    assert!(said.contains("lcr-guest attach web"), "{said}");
    drop(web);
    soon("the guest has ended", || (!is_alive(guest)).then_some(()));
    host.done(&["run", "--name", "web", "--", "true"]);
}

/// Killed between the guest's start and the record of its process: what the process has
/// said of itself is enough.
#[test]
fn a_supervisor_that_is_killed_while_its_guest_starts_leaves_no_guest_unknown() {
    let world = World::new();
    let host = world.host("host");
    let disk = world.disk("a");
    let mut web = host.run("web", &["--disk", &disk]);
    let guest = pid(&host.look("web").unwrap());
    web.kill();
    // As it would have been left.
    let (record, born) = (file(&host, "web.json"), file(&host, "web.born"));
    let mut value: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    value["pid"] = Value::Null;
    value["start"] = Value::Null;
    value["state"] = "starting".into();
    std::fs::write(&record, value.to_string()).unwrap();
    std::fs::copy(format!("/proc/{guest}/stat"), &born).unwrap();

    assert_eq!(pid(&host.until("web", "unsupervised")), guest);
    assert!(host.refused(125, &["run", "--name", "web", "--", "true"]).contains("without a supervisor"));
    let mut attached = Program::start(host.command(&["attach", "web"]));
    assert_eq!(pid(&host.until("web", "running")), guest);
    assert!(!born.exists());
    assert!(host.is_held(&disk));
    web.end();
    assert!(attached.wait().success());
}

fn file(host: &Host, name: &str) -> std::path::PathBuf {
    host.directory.join("guests").join(name)
}

/// A number that another process has by now is not the guest's.
#[test]
fn another_process_with_the_guests_number_is_not_the_guest() {
    let world = World::new();
    let host = world.host("host");
    let mut web = host.run("web", &[""; 0]);
    let guest = pid(&host.look("web").unwrap());
    web.kill();
    let record = file(&host, "web.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    value["start"] = (value["start"].as_u64().unwrap() - 1).into();
    // It has not got the guest's mark.
    value["mark"] = "another".into();
    std::fs::write(&record, value.to_string()).unwrap();
    assert!(host.refused(125, &["attach", "web"]).contains("guest web has ended"));
    assert!(is_alive(guest), "somebody else's process was ended");
}

#[test]
fn stop_ends_a_guest_whoever_supervises_it() {
    let world = World::new();
    let host = world.host("host");
    let disk = world.disk("a");
    let mut web = host.run("web", &["--disk", &disk]);
    host.done(&["stop", "web"]);
    assert_eq!(web.wait().code(), Some(128 + 15));
    assert!(host.list().is_empty());

    let mut web = host.run("web", &["--disk", &disk]);
    let guest = pid(&host.look("web").unwrap());
    web.kill();
    host.done(&["stop", "web"]);
    assert!(!is_alive(guest));
    assert!(host.list().is_empty());
    host.free_soon(&disk);
}

#[test]
fn stop_kills_a_guest_that_does_not_end() {
    let world = World::new();
    let host = world.host("host");
    let script = "trap '' TERM; echo ready; while read line; do :; done";
    let mut web = Program::start(host.command(&["run", "--name", "web", "--", "sh", "-c", script]));
    assert_eq!(web.line(), "ready");
    host.until("web", "running");
    let said = host.done(&["stop", "web", "--kill-after", "0"]);
    assert!(said.contains("guest web has not ended in 0 s: it is killed"), "{said}");
    assert_eq!(web.wait().code(), Some(128 + 9));
}
