//! One client's replacement hangs; the others are answered.

use std::sync::{Condvar, Mutex};
use std::time::Instant;

use lcr_core::{Factory, Handle};
use serde_json::{Value, json};

use lcr_control::client::{Client, Error};

use crate::world::{LIST, PATIENCE, Raw, World, interface};

/// What the test calls.
#[lcr_core::contract]
pub(crate) trait Hang: Send + Sync {
    /// Which version answers.
    fn version(&self) -> u32;
}

/// Factories whose `hang` may not be saved yet.
static CLOSED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static OPENED: Condvar = Condvar::new();

/// Saving waits while its door is closed.
pub(crate) struct Door(usize);

impl Door {
    fn close() -> Door {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        CLOSED.lock().unwrap().push(number);
        Door(number)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        CLOSED.lock().unwrap().retain(|number| *number != self.0);
        OPENED.notify_all();
    }
}

#[lcr_core::component]
mod versions {
    use super::{CLOSED, Hang, OPENED};

    macro_rules! version {
        ($name:ident, $version:literal) => {
            impl Construct for $name {
                fn construct(cx: &Context) -> Result<Self, BoxError> {
                    Ok($name(cx.get("door").map_or(Ok(0), |_| cx.int("door"))?.try_into()?))
                }
            }

            impl Handover for $name {
                fn save(&self, _: &mut State) -> Result<(), BoxError> {
                    let closed = CLOSED.lock().unwrap();
                    drop(OPENED.wait_while(closed, |closed| closed.contains(&self.0)).unwrap());
                    Ok(())
                }

                fn restore(_: &Context, _: &State) -> Result<Self, BoxError> {
                    Ok($name(0))
                }
            }

            impl Hang for $name {
                fn version(&self) -> u32 {
                    $version
                }
            }
        };
    }

    #[derive(Interface)]
    #[interface(name = "hang", version = 0, contract = dyn Hang, state)]
    pub(crate) struct Zero(usize);

    #[derive(Interface)]
    #[interface(name = "hang", version = 1, replaces(0), contract = dyn Hang, state)]
    pub(crate) struct One(usize);

    version!(Zero, 0);
    version!(One, 1);
}

fn hanging(factory: &Factory, door: &Door) -> Handle<dyn Hang> {
    let context = lcr_core::Context::new().with("door", door.0 as i64);
    factory.reference_with("hang", 0, &context).unwrap()
}

const REPLACE: &[u8] =
    b"{\"method\":\"io.lcr.Control.Replace\",\"parameters\":{\"interface\":\"hang\",\"timeout_ms\":60000}}\0";

/// Asks until the interface is in this state.
fn wait_for(world: &World, state: &str) {
    let mut client = world.client();
    while interface(&client.call("List", json!({})).unwrap(), "hang", 0)["state"] != state {}
}

#[test]
fn others_are_answered_while_a_replacement_hangs() {
    let world = World::new();
    let door = Door::close();
    let hang = hanging(&world.factory, &door);
    let mut first = world.raw();
    first.send(REPLACE);
    wait_for(&world, "held");
    // And what it sends meanwhile waits for its turn.
    first.send(LIST);
    let mut second = world.client();
    assert_eq!(second.call("History", json!({})).unwrap()["entries"], json!([]));
    let mut watcher = world.client();
    watcher.stream("Watch", json!({})).unwrap();
    watcher.answer().unwrap();
    drop(door);
    let report = first.answer().unwrap();
    assert_eq!(report["parameters"]["result"], "done", "{report}");
    assert_eq!(interface(&first.answer().unwrap()["parameters"], "hang", 1)["state"], "live");
    assert_eq!(hang.version(), 1);
}

#[test]
fn a_client_that_hangs_up_calls_its_replacement_off() {
    let world = World::new();
    let door = Door::close();
    let hang = hanging(&world.factory, &door);
    let mut client = world.raw();
    client.send(REPLACE);
    wait_for(&world, "held");
    drop(client);
    // When the second is answered, the server has seen who is gone.
    world.client().call("List", json!({})).unwrap();
    world.client().call("List", json!({})).unwrap();
    drop(door);
    wait_for(&world, "live");
    assert_eq!(hang.version(), 0);
    let mut client = world.client();
    let entry: Value = loop {
        let mut history = client.call("History", json!({})).unwrap();
        if let Some(entry) = history["entries"].as_array_mut().unwrap().pop() {
            break entry;
        }
    };
    assert_eq!(entry["result"], "failed");
    assert!(entry["error"].as_str().unwrap().contains("called it off"), "{entry}");
    client.call("Replace", json!({"interface": "hang"})).unwrap();
    assert_eq!(hang.version(), 1);
}

#[test]
fn a_client_that_only_says_that_it_will_send_no_more_is_answered() {
    let world = World::new();
    let door = Door::close();
    let hang = hanging(&world.factory, &door);
    let mut client = world.raw();
    client.send(REPLACE);
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    wait_for(&world, "held");
    drop(door);
    assert_eq!(client.answer().unwrap()["parameters"]["result"], "done");
    assert_eq!((client.answer(), hang.version()), (None, 1));
}

#[test]
fn who_wants_no_answer_gets_none_and_may_go() {
    let world = World::new();
    let door = Door::close();
    let hang = hanging(&world.factory, &door);
    let mut client = world.raw();
    client.send(String::from_utf8(REPLACE.to_vec()).unwrap().replacen('{', "{\"oneway\":true,", 1));
    wait_for(&world, "held");
    drop(client);
    world.client().call("List", json!({})).unwrap();
    drop(door);
    while hang.version() != 1 {}
}

#[test]
fn stopping_does_not_wait_for_what_hangs() {
    let world = World::new();
    let door = Door::close();
    let hang = hanging(&world.factory, &door);
    let mut client = world.raw();
    client.send(REPLACE);
    wait_for(&world, "held");
    let World { control, .. } = world;
    drop(control);
    assert_eq!(client.answer(), None);
    drop(door);
    // It went on to its end.
    while hang.version() != 1 {}
}

/// Takes every place for replacements, until the door is dropped.
pub(crate) fn fill(factory: &Factory, socket: &std::path::Path) -> (Door, Handle<dyn Hang>, Vec<Raw>) {
    let door = Door::close();
    let hang = hanging(factory, &door);
    let connect = || Raw(std::os::unix::net::UnixStream::connect(socket).unwrap());
    let mut clients: Vec<Raw> = (0..20).map(|_| connect()).collect();
    clients.iter_mut().for_each(|client| client.send(REPLACE));
    let mut busy = Client::connect(socket).unwrap();
    // Where another test leaves no descriptors for a moment, clients are let in later.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match busy.call("Plan", json!({"interface": "counter", "timeout_ms": 0})) {
            Err(Error::Refused { error, .. }) if error.ends_with("Busy") => return (door, hang, clients),
            last => assert!(Instant::now() < deadline, "there is always a place: {last:?}"),
        }
    }
}

#[test]
fn too_many_replacements_at_once_are_refused_and_the_rest_is_done() {
    let world = World::new();
    let door = Door::close();
    let _hang = hanging(&world.factory, &door);
    let mut clients: Vec<_> = (0..20).map(|_| world.raw()).collect();
    clients[0].send(REPLACE);
    wait_for(&world, "held");
    clients[1..].iter_mut().for_each(|client| client.send(REPLACE));
    // Those that wait for their turn are 15; the others are told at once.
    let mut busy = world.client();
    let refused = crate::world::refused(loop {
        match busy.call("Plan", json!({"interface": "counter", "timeout_ms": 0})) {
            Err(lcr_control::client::Error::Refused { error, .. }) if error.ends_with("Failed") => {}
            answer => break answer,
        }
    });
    assert_eq!(refused.0, "io.lcr.Control.Busy");
    drop(door);
    let answers: Vec<Value> = clients.iter_mut().map(|client| client.answer().unwrap()).collect();
    let refused = answers.iter().filter(|answer| answer["error"] == "io.lcr.Control.Busy").count();
    assert_eq!(refused, 4, "{answers:?}");
}
