//! Dropping it leaves nothing behind: in a process of its own, where threads and
//! descriptors can be counted.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use counter_api::Counter as _;
use lcr_control::Builder;
use lcr_control::client::Client;
use lcr_core::Handle;
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
        let socket = control.socket().to_owned();
        drop(control);
        assert!(!socket.exists());
        assert!(!threads().iter().any(|name| name == "lcr-control"), "{:?}", threads());
        assert!(client.call("List", json!({})).is_err());
        drop((client, watcher));
        // The thread of a replacement answers, and then ends.
        let patience = Instant::now() + Duration::from_secs(30);
        while descriptors() != before {
            assert!(Instant::now() < patience, "round {round}: {before:?} before, now {:?}", descriptors());
            thread::yield_now();
        }
    }
    // Nobody counts any more.
    let status = lcr_core::Factory::process().interfaces();
    assert!(status.iter().all(|interface| interface.calls.is_none()), "{status:?}");
    assert!(counter.next(0).is_whole());
}
