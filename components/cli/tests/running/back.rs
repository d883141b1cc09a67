//! Clients that go away or have no business here: the program is this test.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use counter_api::Counter;
use lcr_control::{Builder, Running};
use lcr_core::{Factory, Handle};

use crate::world::World;

struct Host {
    factory: Factory,
    counter: Handle<dyn Counter>,
    control: Running,
}

fn host(world: &World) -> Host {
    let factory = Factory::builder().without_environment().build();
    let counter = factory.reference("counter", 1).unwrap();
    let control = Builder::new().directory(world.runtime()).factory(&factory).start().unwrap();
    Host { factory, counter, control }
}

/// A caller that stays inside until it is told to leave.
fn caller_inside(counter: &Handle<dyn Counter>) -> (Sender<()>, JoinHandle<()>) {
    let (leave, told) = channel();
    let (is_in, wait) = channel();
    let counter = counter.clone();
    let caller = thread::spawn(move || {
        let inside = Handle::enter(&counter);
        is_in.send(()).unwrap();
        let _ = told.recv();
        drop(inside);
    });
    wait.recv().unwrap();
    (leave, caller)
}

fn is_held(factory: &Factory) -> bool {
    factory.interfaces().iter().any(|i| i.name == "counter" && i.state.as_str() == "held")
}

#[test]
fn a_client_that_is_killed_in_the_middle_changes_nothing() {
    let world = World::new();
    let Host { factory, counter, control } = host(&world);
    let socket = control.socket().to_str().unwrap();
    let before = counter.next(0);
    let (leave, caller) = caller_inside(&counter);
    let mut child = world
        .command(&["replace", socket, "counter", "--timeout", "600000"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !is_held(&factory) {
        assert!(child.try_wait().unwrap().is_none());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Not at the deadline, in ten minutes, but now.
    while is_held(&factory) {}
    let after = counter.next(0);
    assert_eq!((after.number, after.generation), (before.number + 1, before.generation));
    leave.send(()).unwrap();
    caller.join().unwrap();
    world.lcr(&["replace", socket, "counter"]).ok();
    assert_eq!(counter.next(0).number, before.number + 2);
}

#[test]
fn who_is_inside_is_named_in_details() {
    let world = World::new();
    let Host { counter, control, .. } = host(&world);
    let pinned = Handle::instance(&counter);
    let done = world.lcr(&["replace", control.socket().to_str().unwrap(), "counter", "--timeout", "30"]);
    assert_eq!(done.code, Some(1));
    let lines: Vec<&str> = done.err.lines().collect();
    assert!(lines[0].starts_with("lcr: `counter` was not replaced (drain): "), "{}", done.err);
    assert!(lines[1].starts_with("  inside: 1 pinned instance in `counter`, for "), "{}", done.err);
    assert_eq!(lines[2], "  version 1 serves on");
    drop(pinned);
}

#[test]
fn another_user_is_refused_by_the_socket_and_by_the_program() {
    if !rustix::process::geteuid().is_root() {
        let line = "SKIPPED another_user_is_refused: only root can be another user; run the tests as root\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    let world = World::new();
    // Where another user can go.
    let place = PathBuf::from(format!("/tmp/lcr-other-user-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    let open = |path: &std::path::Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    open(&place);
    let program = place.join("lcr");
    lcr_tests::copy_program(env!("CARGO_BIN_EXE_lcr").as_ref(), &program);
    let factory = Factory::builder().without_environment().build();
    let counter: Handle<dyn Counter> = factory.reference("counter", 1).unwrap();
    let control = Builder::new().directory(place.join("run")).factory(&factory).start().unwrap();
    open(&place.join("run"));
    let socket = control.socket().to_str().unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(arguments);
        world.run(command.current_dir("/"))
    };
    let done = as_nobody(&["replace", socket, "counter"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("is not yours to ask"), "{}", done.err);
    // And if somebody had opened the socket to all.
    fs::set_permissions(control.socket(), fs::Permissions::from_mode(0o777)).unwrap();
    for command in
        [&["replace", socket, "counter"][..], &["status", socket], &["watch", socket], &["history", socket]]
    {
        let done = as_nobody(command);
        assert_eq!(done.code, Some(1));
        assert_eq!(
            done.err, "lcr: the program runs as user 0: that user and root may ask, and you are 65534\n",
            "{command:?}"
        );
    }
    assert_eq!(counter.next(0).generation, 0);
    assert!(factory.history().is_empty());
    drop(control);
    fs::remove_dir_all(&place).unwrap();
}
