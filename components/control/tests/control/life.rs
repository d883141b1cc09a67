//! Starting, stopping, and what processes that died leave behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use lcr_control::{Builder, Control, Error};
use lcr_core::Context;
use lcr_tests::Scratch;

use crate::world::World;

#[test]
fn the_socket_is_this_users_alone() {
    let world = World::new();
    let status = fs::metadata(world.socket()).unwrap();
    assert!(status.file_type().is_socket());
    assert_eq!(status.permissions().mode() & 0o7777, 0o600);
    assert_eq!(world.socket(), world.scratch.path().join(format!("{}.sock", std::process::id())));
}

#[test]
fn sockets_of_the_dead_are_swept_and_those_of_the_living_stay() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    drop(UnixListener::bind(path("4000001.sock")).unwrap());
    let living = UnixListener::bind(path("4000002.sock")).unwrap();
    fs::write(path("4000003.txt"), "not ours").unwrap();
    // Ours, of a life that ended by kill -9: its number is used again.
    drop(UnixListener::bind(path(&format!("{}.sock", std::process::id()))).unwrap());
    let control = Builder::new().directory(scratch.path()).start().unwrap();
    let mut names: Vec<String> = fs::read_dir(scratch.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let own = format!("{}.sock", std::process::id());
    let mut expected = ["4000002.sock", "4000003.txt", &own];
    expected.sort_unstable();
    assert_eq!(names, expected);
    drop(living);
    drop(control);
    assert!(!path(&own).exists());
}

#[test]
fn a_second_start_is_refused_and_leaves_the_first_alone() {
    let world = World::new();
    let again = Builder::new().directory(world.scratch.path()).start().unwrap_err();
    assert!(matches!(again, Error::Taken { .. }), "{again}");
    assert!(again.to_string().contains("is there, and answers"), "{again}");
    world.assert_unharmed();
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = Builder::new().directory(scratch.path()).start().unwrap_err();
    let place = scratch.path().display();
    assert_eq!(
        refused.to_string(),
        format!(
            "no control socket can be in {place}: its mode is 0777, and others can write there: chmod 0700; set \
             LCR_RUNTIME_DIR to a directory of your own"
        )
    );
    fs::write(scratch.path().join("file"), "").unwrap();
    let refused = Builder::new().directory(scratch.path().join("file")).start().unwrap_err();
    assert!(matches!(refused, Error::Directory { .. }), "{refused}");
}

#[test]
fn a_directory_with_a_long_name_will_do() {
    let scratch = Scratch::new();
    let long = scratch.path().join("long".repeat(50));
    let control = Builder::new().directory(&long).start().unwrap();
    assert!(control.socket().as_os_str().len() > 108);
    let mut client = lcr_control::client::Client::connect(control.socket()).unwrap();
    assert!(client.call("List", serde_json::json!({})).is_ok());
    assert_eq!(fs::metadata(&long).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_took_the_sockets_place_is_not_removed() {
    let World { control, scratch, .. } = World::new();
    let socket = control.socket().to_owned();
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "somebody else's").unwrap();
    drop(control);
    assert!(socket.exists());
    drop(scratch);
}

#[test]
fn the_interface_says_where_the_socket_is() {
    // The process-wide directory is the environment's: only that it answers is shown.
    let factory = lcr_core::Factory::builder().without_environment().build();
    let context = Context::new().with("legacy", "yes");
    let refused = factory.reference_with::<dyn Control>("lcr.control", 1, &context).unwrap_err();
    assert!(refused.to_string().contains("legacy"), "{refused}");
}
