//! Clients that do everything wrong. After each, the next one is answered.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lcr_control::LIMIT;
use serde_json::{Value, json};

use crate::world::{LIST, World};

fn error(answer: Option<Value>) -> String {
    answer.unwrap()["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_request_that_comes_byte_by_byte_is_answered_and_others_meanwhile() {
    let world = World::new();
    let mut slow = world.raw();
    let mut fast = world.raw();
    for byte in LIST {
        slow.send([*byte]);
        fast.send(LIST);
        assert!(fast.answer().unwrap()["parameters"]["pid"].is_u64());
    }
    assert!(slow.answer().unwrap()["parameters"]["pid"].is_u64());
}

#[test]
fn several_requests_in_one_piece_are_answered_in_their_order() {
    let world = World::new();
    let mut client = world.raw();
    let history = b"{\"method\":\"io.lcr.Control.History\"}\0";
    client.send([LIST, history, LIST, b"{\"method\":\"io.lcr.Control.Li"].concat());
    let first = client.answer().unwrap();
    assert!(first["parameters"]["pid"].is_u64());
    assert!(client.answer().unwrap()["parameters"]["entries"].is_array());
    assert!(client.answer().unwrap()["parameters"]["pid"].is_u64());
    client.send(b"st\"}\0");
    assert!(client.answer().unwrap()["parameters"]["pid"].is_u64());
    // More than are served in one turn.
    client.send(LIST.repeat(100));
    (0..100).for_each(|_| assert_eq!(client.answer().unwrap(), first));
}

#[test]
fn what_is_no_request_is_told_and_ends_the_connection() {
    let world = World::new();
    let deep = format!("{{\"method\":\"a.b\",\"parameters\":{}", "[".repeat(LIMIT / 2));
    let garbage: [&[u8]; 8] = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]",
        b"null",
        b"{\"method\":\"io.lcr.Control.List\",}",
        b"\xff\xfe\x80",
        b"{\"method\":\"io.lcr.Control.List\",\"parameters\":[]}",
        deep.as_bytes(),
    ];
    for bytes in garbage {
        let mut client = world.raw();
        client.send([bytes, b"\0"].concat());
        let said = client.answer();
        assert_eq!(error(said), "io.lcr.Control.Malformed", "{}", String::from_utf8_lossy(bytes));
        assert_eq!(client.answer(), None);
    }
    world.assert_unharmed();
}

#[test]
fn what_is_unknown_is_told_and_the_connection_stays() {
    let world = World::new();
    let mut client = world.raw();
    let cases = [
        ("io.lcr.Control.Stop", "{}", "org.varlink.service.MethodNotFound"),
        ("io.lcr.Other.List", "{}", "org.varlink.service.InterfaceNotFound"),
        ("List", "{}", "org.varlink.service.InterfaceNotFound"),
        ("io.lcr.Control.Watch", "{}", "org.varlink.service.ExpectedMore"),
        ("io.lcr.Control.Replace", "{}", "org.varlink.service.InvalidParameter"),
        (
            "io.lcr.Control.Replace",
            r#"{"interface":"counter","file":"relative.so"}"#,
            "org.varlink.service.InvalidParameter",
        ),
        ("io.lcr.Control.List", r#"{"all":true}"#, "org.varlink.service.InvalidParameter"),
    ];
    for (method, parameters, expected) in cases {
        client.send(format!("{{\"method\":\"{method}\",\"parameters\":{parameters}}}\0"));
        assert_eq!(error(client.answer()), expected, "{method} {parameters}");
    }
    client.send(LIST);
    assert!(client.answer().unwrap()["parameters"]["pid"].is_u64());
}

#[test]
fn a_request_that_is_too_long_is_refused_before_its_end() {
    let world = World::new();
    let mut client = world.raw();
    // The server stops reading: what it did not take, cannot be sent.
    let piece = vec![b' '; 64 * 1024];
    client.0.set_write_timeout(None).unwrap();
    for _ in 0..(LIMIT / piece.len() + 64) {
        if client.0.write_all(&piece).is_err() {
            break;
        }
    }
    assert_eq!(error(client.answer()), "io.lcr.Control.TooLarge");
    assert_eq!(client.answer(), None);
    // The longest that may be is read.
    let mut client = world.raw();
    let mut long = LIST[..LIST.len() - 1].to_vec();
    long.resize(LIMIT, b' ');
    long.push(0);
    client.send(long);
    assert!(client.answer().unwrap()["parameters"]["pid"].is_u64());
    world.assert_unharmed();
}

#[test]
fn a_client_that_does_not_read_delays_nobody() {
    let world = World::new();
    let mut deaf = world.raw();
    deaf.0.set_nonblocking(true).unwrap();
    let requests = LIST.repeat(1000);
    // Until nothing more is taken: its answers fill the socket, then the server
    // stops reading, then its requests fill the other way.
    let mut sent = 0;
    loop {
        match deaf.0.write(&requests) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // Would it take more after others were served?
                world.assert_unharmed();
                match deaf.0.write(&requests) {
                    Ok(n) => sent += n,
                    Err(_) => break,
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 64 << 20, "the server buffers without end");
    }
    world.assert_unharmed();
}

#[test]
fn a_thousand_silent_clients_do_not_keep_one_out() {
    let world = World::new();
    let mut silent = Vec::new();
    for number in 0..1000 {
        let mut client = world.raw();
        if number % 3 == 0 {
            // A part of a request.
            let _ = client.0.write_all(&LIST[..7]);
        }
        silent.push(client);
        if number % 250 == 0 {
            world.assert_unharmed();
        }
    }
    world.assert_unharmed();
    drop(silent);
    world.assert_unharmed();
}

#[test]
fn a_thousand_clients_at_once_are_all_answered() {
    let world = World::new();
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let list = world.client().call("List", json!({})).unwrap();
                    assert!(list["pid"].is_u64());
                }
            });
        }
    });
}

/// Resident memory, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_flood_that_wants_no_answers_is_taken_as_fast_as_it_is_served() {
    let world = World::new();
    let mut flood = world.raw();
    // Many more than a turn serves are read at once.
    let messages = "{\"method\":\"x\",\"oneway\":true}\0".repeat(2000);
    let before = resident();
    let mut client = world.client();
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        // It ends with the connection, if not before.
        let stream = flood.0.try_clone().unwrap();
        scope.spawn(
            move || {
                while !done.load(Ordering::Relaxed) && flood.0.write_all(messages.as_bytes()).is_ok() {}
            },
        );
        for _ in 0..1000 {
            client.call("List", json!({})).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let grown = resident().saturating_sub(before) >> 20;
    assert!(grown < 24, "{grown} MiB are kept");
    world.assert_unharmed();
}

#[test]
fn a_watcher_that_does_not_read_is_let_go_and_the_others_hear_everything() {
    const ROUND: usize = 500;
    let world = World::new();
    let [mut deaf, mut hearing] = [world.client(), world.client()];
    for watcher in [&mut deaf, &mut hearing] {
        watcher.stream("Watch", json!({})).unwrap();
        assert_eq!(watcher.answer().unwrap().0["event"], "serving");
    }
    // Much more than is kept for one who does not read.
    for _ in 0..12 {
        for _ in 0..ROUND {
            world.factory.replace("counter").version(77).run().unwrap_err();
        }
        let mut heard = 0;
        while heard < ROUND {
            heard += usize::from(hearing.answer().unwrap().0["event"] == "failed");
        }
    }
    let mut heard = 0;
    while let Ok((event, _)) = deaf.answer() {
        heard += usize::from(event["event"] == "failed");
    }
    assert!(0 < heard && heard < 12 * ROUND, "{heard}");
    world.assert_unharmed();
}

#[test]
fn too_many_watchers_are_refused_and_others_are_answered_still() {
    let world = World::new();
    let mut watching: Vec<_> = (0..40).map(|_| world.client()).collect();
    let mut refused = 0;
    for watcher in &mut watching {
        watcher.stream("Watch", json!({})).unwrap();
        match watcher.answer() {
            Ok((first, _)) => assert_eq!(first["event"], "serving"),
            Err(error) => {
                assert!(error.to_string().contains("too many watchers"), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 8);
    // Others are answered still, and a place is free again when one goes.
    world.assert_unharmed();
    watching.remove(0);
    let mut late = world.client();
    loop {
        late.stream("Watch", json!({})).unwrap();
        if late.answer().is_ok() {
            break;
        }
    }
}

#[test]
fn noise_of_all_kinds_breaks_nothing() {
    let world = World::new();
    // A generator of its own, so that a failure can be repeated.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let models: [&[u8]; 3] = [
        LIST,
        b"{\"method\":\"io.lcr.Control.Plan\",\"parameters\":{\"interface\":\"counter\",\"version\":2,\"also\":[{\"interface\":\"hang\"}]}}\0",
        b"{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"io.lcr.Control\"}}\0",
    ];
    for _ in 0..500 {
        let mut bytes = models[random(models.len())].to_vec();
        for _ in 0..random(8) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.drain(at..bytes.len().min(at + 5))),
                2 => bytes.extend_from_within(at..),
                _ => bytes.insert(at, b"{}[]\",:\0"[random(8)]),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        let mut client = world.raw();
        // It may have been refused, and closed, before its end.
        let _ = client.0.write_all(&bytes);
    }
    world.assert_unharmed();
}
