//! The names in answers: promised to scripts, so golden.

use serde_json::{Value, json};

use crate::world::{World, refused};

/// An object's keys, with what kind of value each has.
fn shape(value: &Value) -> String {
    let kind = |value: &Value| match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Array(all) => {
            all.first().map_or_else(|| "[]".to_owned(), |first| format!("[{}]", shape(first)))
        }
        Value::Object(_) => shape(value),
    };
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}: {}", kind(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => kind(other),
    }
}

#[test]
fn answers_have_the_promised_keys() {
    let world = World::new();
    let mut client = world.client();
    assert_eq!(
        shape(&client.call("List", json!({})).unwrap()),
        "{interfaces: [{calls: null, component: text, name: text, origin: text, references: number, state: text, \
         version: number}], pid: number, program: text, socket: text}"
    );
    let report = "{also: [], drained_us: number, file: null, from: number, held_calls: number, held_us: number, \
                  interface: text, kept: [], pinned: number, prepared_us: number, result: text, sha256: null, switched_us: \
                  number, to: number}";
    let wish = json!({"interface": "counter", "version": 2});
    assert_eq!(
        shape(&client.call("Plan", wish.clone()).unwrap()),
        report.replace("drained_us: number", "drained_us: null")
    );
    assert_eq!(shape(&client.call("Replace", wish).unwrap()), report);
    assert_eq!(shape(&client.call("Rollback", json!({"interface": "counter"})).unwrap()), report);
    assert_eq!(
        shape(&client.call("History", json!({})).unwrap()),
        "{entries: [{drained_us: number, error: null, file: null, from: number, held_us: number, interface: text, \
         prepared_us: number, result: text, sha256: null, switched_us: number, time: text, to: number, uid: number}]}"
    );
    let (error, parameters) =
        refused(client.call("Replace", json!({"interface": "counter", "file": "/no.so"})));
    assert_eq!(error, "io.lcr.Control.Failed");
    assert_eq!(
        shape(&parameters),
        "{error: text, file: text, from: number, inside: [], interface: text, kept: [], result: text, step: text, to: null}"
    );
}

#[test]
fn who_was_inside_at_the_deadline_is_named() {
    let world = World::new();
    let pinned = lcr_core::Handle::instance(&world.counter);
    let (_, failure) = refused(
        world.client().call("Replace", json!({"interface": "counter", "version": 2, "timeout_ms": 20})),
    );
    assert_eq!((&failure["step"], &failure["from"], &failure["to"]), (&json!("drain"), &json!(1), &json!(2)));
    assert_eq!(shape(&failure["inside"]), "[{age_ms: number, interface: text, thread: text}]");
    assert_eq!(failure["inside"][0]["thread"], "1 pinned instance");
    drop(pinned);
    world.assert_unharmed();
}

#[test]
fn a_transaction_of_several_names_the_others_in_also() {
    let world = World::new();
    let wish = json!({"interface": "counter", "version": 2, "also": [{"interface": "hang", "version": 1}]});
    let _hang: lcr_core::Handle<dyn crate::hang::Hang> = world.factory.reference("hang", 0).unwrap();
    let report = world.client().call("Replace", wish).unwrap();
    assert_eq!(
        shape(&report["also"]),
        "[{file: null, from: number, interface: text, pinned: number, sha256: null, to: number}]"
    );
    assert_eq!(report["also"][0]["interface"], "hang");
}
