//! Dropping it leaves nothing behind, nor does a client that goes away in the middle of
//! its replacement: in a process of its own, where threads and descriptors can be
//! counted.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use counter_api::Counter as _;
use lcr_control::client::Client;
use lcr_control::{Builder, Running};
use lcr_core::Handle;
use lcr_core::factory::{Factory, Outcome, Stage};
use lcr_tests::Scratch;
use serde_json::json;

lcr_core::link!(counter_one_component, counter_two_component);

fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|t| fs::read_to_string(t.unwrap().path().join("comm")).ok())
        .map(|n| n.trim().to_owned())
        .collect()
}

fn descriptors() -> BTreeSet<String> {
    let all = fs::read_dir("/proc/self/fd").unwrap();
    all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A replacement whose client hangs up, or is killed, while callers are held: the old
/// version serves on, at once and not at the deadline.
fn gone_in_the_middle(control: &Running, counter: &Handle<dyn counter_api::Counter>, is_killed: bool) {
    let factory = Factory::process();
    let is_held = || factory.interfaces().iter().any(|i| i.name == "counter" && i.state == Stage::Held);
    let (before, failures) = (counter.next(0), || {
        let history = factory.history();
        history.iter().filter(|entry| matches!(entry.outcome, Outcome::Failed(_))).count()
    });
    let failed = failures();
    let inside = Handle::enter(counter);
    let mut child = None;
    let mut client = None;
    if is_killed {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_client_that_is_killed"]).env("LCR_CLIENT_OF", control.socket());
        child = Some(command.stdout(Stdio::null()).spawn().unwrap());
    } else {
        let mut one = Client::connect(control.socket()).unwrap();
        one.stream("Replace", json!({"interface": "counter", "timeout_ms": 600_000})).unwrap();
        client = Some(one);
    }
    while !is_held() {
        thread::yield_now();
    }
    drop(client);
    if let Some(mut child) = child {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    while is_held() || failures() == failed {
        thread::yield_now();
    }
    drop(inside);
    let after = counter.next(0);
    assert_eq!((after.number, after.generation), (before.number + 1, before.generation));
}

/// The other process, if this is it.
#[test]
fn a_client_that_is_killed() {
    let Some(socket) = std::env::var_os("LCR_CLIENT_OF") else { return };
    let mut client = Client::connect(socket).unwrap();
    let _ = client.call("Replace", json!({"interface": "counter", "timeout_ms": 600_000}));
}

#[test]
fn dropping_it_ends_the_thread_and_removes_the_socket_and_closes_everything() {
    let scratch = Scratch::new();
    let counter: Handle<dyn counter_api::Counter> = lcr_core::reference("counter", 1).unwrap();
    let before = descriptors();
    for round in 0..10 {
        let control = Builder::new().directory(scratch.path()).start().unwrap();
        let mut client = Client::connect(control.socket()).unwrap();
        client.call("List", json!({})).unwrap();
        // Who has answered has a name.
        assert_eq!(threads().iter().filter(|name| *name == "lcr-control").count(), 1);
        let report = client.call("Replace", json!({"interface": "counter"})).unwrap();
        assert_eq!(report["result"], "done");
        let mut watcher = Client::connect(control.socket()).unwrap();
        watcher.stream("Watch", json!({})).unwrap();
        watcher.answer().unwrap();
        drop(watcher);
        gone_in_the_middle(&control, &counter, round % 2 == 0);
        let socket = control.socket().to_owned();
        drop(control);
        assert!(!socket.exists());
        assert!(client.call("List", json!({})).is_err());
        drop(client);
        // The thread of a replacement answers, and then ends; one that was joined stands
        // in /proc a moment longer.
        let patience = Instant::now() + Duration::from_secs(30);
        let works = || threads().iter().any(|name| name.starts_with("lcr-"));
        while descriptors() != before || works() {
            let now = (descriptors(), threads());
            assert!(Instant::now() < patience, "round {round}: {before:?} before, now {now:?}");
            thread::yield_now();
        }
    }
    // Nobody counts any more.
    let status = lcr_core::Factory::process().interfaces();
    assert!(status.iter().all(|interface| interface.calls.is_none()), "{status:?}");
    assert!(counter.next(0).is_whole());
}
