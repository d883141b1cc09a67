//! The original's message.
//!
//! There is one name for it in a network namespace: as root, the test makes one of
//! its own; otherwise it says that it cannot be sure to be alone, and goes on.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::thread;

use lcr_control::client::legacy_message;
use lcr_control::{Builder, Error};
use lcr_core::{Factory, Handle};
use lcr_tests::Scratch;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, send, socket};
use serde_json::json;

use counter_api::Counter;

/// Runs the test in a thread with a network namespace of its own, if it may; alone among
/// these tests it is in any case.
fn alone(test: impl FnOnce() + Send) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: a namespace of the network alone; no descriptors are unshared.
            let unshared = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) };
            if let Err(error) = unshared {
                let line =
                    format!("legacy: no network namespace of its own ({error}): run as root to be alone\n");
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn the_originals_message_replaces_for_real_and_shows_in_the_history() {
    alone(|| {
        let scratch = Scratch::new();
        let factory = Factory::builder().without_environment().build();
        let counter: Handle<dyn Counter> = factory.reference("counter", 1).unwrap();
        let usual = || Builder::new().factory(&factory);
        // Off unless switched on.
        let off = usual().directory(scratch.path().join("off")).start().unwrap();
        assert_eq!(
            legacy_message("livereplace counter version2").unwrap_err().kind(),
            std::io::ErrorKind::ConnectionRefused
        );
        drop(off);

        let control = usual().directory(scratch.path()).legacy(true).start().unwrap();
        // Taken: reported, and nothing left behind.
        let taken = usual().directory(scratch.path().join("taken")).legacy(true).start().unwrap_err();
        assert!(matches!(taken, Error::LegacyTaken), "{taken}");
        assert_eq!(std::fs::read_dir(scratch.path().join("taken")).unwrap().count(), 0);

        // What the original's client sends, to the padded address, in two pieces.
        let mut name = [0; 107];
        name[..10].copy_from_slice(b"lcr.socket");
        let stream = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        connect(&stream, &SocketAddrUnix::new_abstract_name(&name).unwrap()).unwrap();
        let text = b"livereplace counter version2\0";
        let message = [&i32::try_from(text.len()).unwrap().to_ne_bytes()[..], text].concat();
        send(&stream, &message[..9], rustix::net::SendFlags::empty()).unwrap();
        send(&stream, &message[9..], rustix::net::SendFlags::empty()).unwrap();
        while counter.next(0).version != 2 {}

        // Garbage, and a version that is not there: the program goes on.
        legacy_message("stop everything").unwrap();
        legacy_message("livereplace counter version7").unwrap();
        legacy_message("livereplace counter version1").unwrap();
        while counter.next(0).version != 1 {}

        let mut client = lcr_control::client::Client::connect(control.socket()).unwrap();
        let entries = loop {
            let history = client.call("History", json!({})).unwrap();
            let entries = history["entries"].as_array().unwrap().clone();
            if entries.len() == 3 {
                break entries;
            }
        };
        let uid = rustix::process::geteuid().as_raw();
        assert!(entries.iter().all(|entry| entry["uid"] == uid && entry["interface"] == "counter"));
        let mut results: Vec<_> = entries.iter().map(|entry| entry["result"].as_str().unwrap()).collect();
        results.sort_unstable();
        assert_eq!(results, ["done", "done", "failed"]);
        drop(control);
        assert!(legacy_message("livereplace counter version2").is_err());
    });
}

/// While all places are taken it waits, and nothing of it is lost.
#[test]
fn a_message_at_a_full_workshop_waits_for_its_turn() {
    alone(|| {
        let scratch = Scratch::new();
        let factory = Factory::builder().without_environment().build();
        let counter: Handle<dyn Counter> = factory.reference("counter", 1).unwrap();
        let usual = Builder::new().factory(&factory).directory(scratch.path());
        let control = usual.legacy(true).start().unwrap();
        let door = crate::hang::fill(&factory, control.socket());
        for version in [2, 1, 2] {
            legacy_message(&format!("livereplace counter version{version}")).unwrap();
        }
        let mut client = lcr_control::client::Client::connect(control.socket()).unwrap();
        let of_counter = |history: &serde_json::Value| {
            let entries = history["entries"].as_array().unwrap().iter();
            entries.filter(|entry| entry["interface"] == "counter").count()
        };
        assert_eq!(of_counter(&client.call("History", json!({})).unwrap()), 0);
        drop(door);
        while of_counter(&client.call("History", json!({})).unwrap()) < 3 {}
        assert!(counter.next(0).is_whole());
    });
}

/// The other process, if this is it: sends what its environment says.
#[test]
fn sender() {
    let Ok(text) = std::env::var("LCR_LEGACY_TEXT") else { return };
    let uid = rustix::process::geteuid().as_raw();
    // Somebody listens; that nobody reads it to its end may show or not.
    let sent = legacy_message(&text).map_err(|error| error.kind());
    let _ =
        writeln!(std::io::stderr(), "sent as {uid}: {}", sent != Err(std::io::ErrorKind::ConnectionRefused));
}

#[test]
fn another_users_message_is_not_heeded() {
    if !rustix::process::geteuid().is_root() {
        let line = "SKIPPED another_users_message_is_not_heeded: only root can be another user\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    alone(|| {
        let scratch = Scratch::new();
        let factory = Factory::builder().without_environment().build();
        let counter: Handle<dyn Counter> = factory.reference("counter", 1).unwrap();
        let control =
            Builder::new().factory(&factory).directory(scratch.path()).legacy(true).start().unwrap();
        // Where another user can run it.
        let program = std::env::temp_dir().join(format!("lcr-legacy-sender-{}", std::process::id()));
        lcr_tests::copy_program(&std::env::current_exe().unwrap(), &program);
        let mut other = std::process::Command::new("setpriv");
        other.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).current_dir("/");
        other.args(["--exact", "legacy::sender", "--nocapture"]);
        let output = lcr_tests::run(other.env("LCR_LEGACY_TEXT", "livereplace counter version2"));
        std::fs::remove_file(&program).unwrap();
        let said = lcr_tests::told(&other, &output);
        assert!(said.contains("sent as 65534: true"), "{said}");
        assert_eq!((counter.next(0).version, factory.history().len()), (1, 0));
        // They are taken in their order: had it been heeded, it would show by now.
        legacy_message("livereplace counter version2").unwrap();
        while factory.history().is_empty() {}
        assert_eq!((counter.next(0).generation, factory.history().len()), (1, 1));
        assert_eq!(factory.history()[0].uid, Some(0));
        drop(control);
    });
}

#[test]
fn those_who_send_half_a_message_keep_nobody_from_sending_one() {
    alone(|| {
        let scratch = Scratch::new();
        let factory = Factory::builder().without_environment().build();
        let counter: Handle<dyn Counter> = factory.reference("counter", 1).unwrap();
        let control =
            Builder::new().factory(&factory).directory(scratch.path()).legacy(true).start().unwrap();
        let mut name = [0; 107];
        name[..10].copy_from_slice(b"lcr.socket");
        let address = SocketAddrUnix::new_abstract_name(&name).unwrap();
        let half: Vec<_> = (0..12)
            .map(|_| {
                let stream = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
                connect(&stream, &address).unwrap();
                send(&stream, &29_i32.to_ne_bytes(), rustix::net::SendFlags::empty()).unwrap();
                stream
            })
            .collect();
        legacy_message("livereplace counter version2").unwrap();
        while counter.next(0).version != 2 {}
        drop(half);
        drop(control);
    });
}
