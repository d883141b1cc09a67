//! What can be asked, by any client.

use std::sync::{Arc, RwLock};

use counter_api::Counter as _;
use lcr_core::factory::Health;
use serde_json::{Value, json};
use varlink::{Connection, MethodCall, OrgVarlinkServiceInterface};

use crate::world::{PATIENCE, World, interface, refused};

#[test]
fn the_description_is_varlink() {
    let parsed = varlink_parser::IDL::try_from(lcr_control::DESCRIPTION).unwrap();
    assert_eq!(parsed.name, lcr_control::INTERFACE);
    let methods: Vec<&str> = parsed.method_keys.to_vec();
    assert_eq!(methods, ["List", "Plan", "Replace", "Rollback", "History", "Watch"]);
}

#[test]
fn a_client_that_is_not_ours_finds_its_way() {
    let world = World::new();
    let address = format!("unix:{}", world.socket().display());
    let connection: Arc<RwLock<Connection>> = Connection::with_address(&address).unwrap();
    let mut service = varlink::OrgVarlinkServiceClient::new(Arc::clone(&connection));
    let info = service.get_info().unwrap();
    assert_eq!(info.vendor, "lcr");
    assert_eq!(info.interfaces, ["org.varlink.service", "io.lcr.Control"]);
    let description = service.get_interface_description("io.lcr.Control").unwrap();
    assert_eq!(description.description.unwrap(), lcr_control::DESCRIPTION);
    let own = service.get_interface_description("org.varlink.service").unwrap();
    varlink_parser::IDL::try_from(own.description.unwrap().as_str()).unwrap();

    let mut replace: MethodCall<Value, Value, varlink::Error> =
        MethodCall::new(Arc::clone(&connection), "io.lcr.Control.Replace", json!({"interface": "counter"}));
    let report = replace.call().unwrap();
    assert_eq!((&report["from"], &report["to"], &report["result"]), (&json!(1), &json!(2), &json!("done")));

    // More than one answer, and then another client's turn.
    let mut watch: MethodCall<Value, Value, varlink::Error> =
        MethodCall::new(connection, "io.lcr.Control.Watch", json!({}));
    let events = watch.more().unwrap();
    assert_eq!(events.by_ref().next().unwrap().unwrap()["event"], "serving");
    world.client().call("Rollback", json!({"interface": "counter"})).unwrap();
    let replaced = events.map(Result::unwrap).find(|event| event["event"] == "replaced").unwrap();
    assert_eq!((&replaced["from"], &replaced["to"]), (&json!(2), &json!(1)));
}

#[test]
fn a_replacement_hands_state_over_and_goes_back() {
    let world = World::new();
    assert_eq!(world.counter.next(7).number, 1);
    let mut client = world.client();
    let plan = client.call("Plan", json!({"interface": "counter", "version": 2})).unwrap();
    assert_eq!((&plan["from"], &plan["to"], &plan["result"]), (&json!(1), &json!(2), &json!("planned")));
    assert_eq!(world.counter.next(7).version, 1);

    client.call("Replace", json!({"interface": "counter", "version": 2, "timeout_ms": 10_000})).unwrap();
    let ticket = world.counter.next(7);
    assert_eq!((ticket.version, ticket.number, ticket.generation), (2, 3, 1));
    let list = client.call("List", json!({})).unwrap();
    assert_eq!(interface(&list, "counter", 2)["state"], "live");

    client.call("Rollback", json!({"interface": "counter"})).unwrap();
    let ticket = world.counter.next(7);
    assert_eq!((ticket.version, ticket.number, ticket.generation), (1, 4, 2));
    let (error, parameters) = refused(client.call("Rollback", json!({"interface": "nobody"})));
    assert_eq!((error.as_str(), &parameters["step"]), ("io.lcr.Control.Failed", &json!("prepare")));

    let history = client.call("History", json!({})).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let entries: Vec<_> = history["entries"].as_array().unwrap().iter().collect();
    assert!(entries.iter().all(|entry| entry["uid"] == uid), "{history}");
    let results: Vec<_> = entries.iter().map(|entry| &entry["result"]).collect();
    assert_eq!(results, ["done", "done", "failed"], "{history}");
}

#[test]
fn a_watcher_hears_why_a_version_is_taken_back() {
    let world = World::new();
    let mut watcher = world.client();
    watcher.stream("Watch", json!({})).unwrap();
    assert_eq!(watcher.answer().unwrap().0["event"], "serving");
    let ill = Health::within(PATIENCE).check(|| Err("no disk".to_owned()));
    world.factory.replace("counter").version(2).watch(ill).run().unwrap();
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let (event, _) = watcher.answer().unwrap();
        if !matches!(event["event"].as_str(), Some("serving" | "calls")) {
            heard.push(event);
        }
    }
    // The way back may be over before the last caller has left what was replaced.
    let of = |word: &str| heard.iter().filter(|event| event["event"] == word).collect::<Vec<_>>();
    let [unhealthy] = of("unhealthy")[..] else { panic!("{heard:?}") };
    let said = (&unhealthy["interface"], &unhealthy["version"], &unhealthy["error"]);
    assert_eq!(said, (&json!("counter"), &json!(2), &json!("its check failed: no disk")));
    let mut replaced: Vec<_> = of("replaced").iter().map(|event| event["to"].as_i64()).collect();
    replaced.sort_unstable();
    assert_eq!(replaced, [Some(1), Some(2)]);
    assert_eq!(world.counter.next(0).version, 1);
}

#[test]
fn a_watcher_hears_of_calls_and_nobody_counts_without_one() {
    let world = World::new();
    let calls = |world: &World| {
        let list = world.client().call("List", json!({})).unwrap();
        interface(&list, "counter", 1)["calls"].clone()
    };
    assert_eq!(calls(&world), Value::Null);
    let mut watcher = world.client();
    watcher.stream("Watch", json!({})).unwrap();
    let (first, continues) = watcher.answer().unwrap();
    assert_eq!(
        (&first["event"], &first["interface"], continues),
        (&json!("serving"), &json!("counter"), true)
    );
    assert!(calls(&world).is_u64());
    let event = loop {
        world.counter.next(0);
        watcher.timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        match watcher.answer() {
            Ok((event, _)) => break event,
            Err(lcr_control::client::Error::Lost { source, .. })
                if source.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((&event["event"], &event["interface"]), (&json!("calls"), &json!("counter")), "{event}");
    assert!(event["calls_per_second"].as_u64().unwrap() > 0, "{event}");
    drop(watcher);
    // The answer to the second comes after the server has noticed.
    while calls(&world) != Value::Null {}
}
