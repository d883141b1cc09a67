//! The other way to opt in: whoever references the interface `lcr.control` can be asked
//! for as long. In a process of its own, whose environment says where the socket is.

use std::process::Command;

use lcr_control::Control;
use lcr_control::client::Client;
use lcr_core::{Handle, reference};
use lcr_tests::{Scratch, run, told};
use serde_json::json;

lcr_core::link!(lcr_control);

/// The other process, if this is it.
#[test]
fn referenced() {
    if std::env::var_os("LCR_REFERENCES_CONTROL").is_none() {
        return;
    }
    let control: Handle<dyn Control> = reference("lcr.control", 1).unwrap();
    let again: Handle<dyn Control> = reference("lcr.control", 1).unwrap();
    let socket = control.socket();
    assert_eq!(again.socket(), socket, "one for all");
    let list = || Client::connect(&socket).and_then(|mut client| client.call("List", json!({})));
    drop(again);
    assert_eq!(list().unwrap()["pid"], std::process::id());
    drop(control);
    assert!(!socket.exists());
    assert!(list().is_err());
    // And anew.
    let control: Handle<dyn Control> = reference("lcr.control", 1).unwrap();
    assert!(list().is_ok());
    drop(control);
}

#[test]
fn who_references_the_interface_can_be_asked_as_long() {
    let scratch = Scratch::new();
    let mut program = Command::new(std::env::current_exe().unwrap());
    program
        .args(["--exact", "referenced"])
        .env("LCR_REFERENCES_CONTROL", "1")
        .env("LCR_RUNTIME_DIR", scratch.path());
    let output = run(&mut program);
    let said = told(&program, &output);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
