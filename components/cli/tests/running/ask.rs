//! `lcr status`, `plan`, `replace`, `rollback`, `history`, `watch` and `uic`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::world::{Program, World, find, keys};

#[test]
fn a_program_is_found_by_pid_name_and_socket_and_all_are_found_without() {
    let world = World::new();
    let program = world.serve();
    let other = world.serve_as("other");
    let socket = program.socket.to_str().unwrap();
    let by_pid = world.lcr(&["status", &program.pid, "--json"]).ok().json();
    assert_eq!(by_pid, world.lcr(&["status", "lcr", "--json"]).ok().json());
    assert_eq!(by_pid, world.lcr(&["status", socket, "--json"]).ok().json());
    assert_eq!(keys(&by_pid[0]), ["interfaces", "pid", "program", "socket"]);
    assert_eq!((&by_pid[0]["program"], by_pid[0]["pid"].to_string()), (&json!("lcr"), program.pid.clone()));
    let counter = find(&by_pid[0]["interfaces"], "name", "counter");
    for key in ["name", "version", "state", "origin", "references", "calls"] {
        assert!(keys(counter).contains(&key), "{key} in {counter}");
    }
    assert_eq!(
        [
            &counter["version"],
            &counter["state"],
            &counter["origin"],
            &counter["references"],
            &counter["calls"]
        ],
        [&json!(1), &json!("live"), &json!("static"), &json!(3), &Value::Null]
    );
    let all = world.lcr(&["status", "--json"]).ok().json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    find(&all, "program", "other");
    other.end();
    assert_eq!(world.lcr(&["status", "--json"]).ok().json().as_array().unwrap().len(), 1);
    program.end();
    let none = world.lcr(&["status"]).ok();
    assert_eq!(
        none.out,
        "no program can be reached\n  a program can be reached that calls lcr_control::start(), with the same \
         LCR_RUNTIME_DIR as here\n"
    );
    assert_eq!(world.lcr(&["status", "--json"]).ok().json(), json!([]));
}

#[test]
fn a_program_is_found_whether_it_was_started_in_a_session_or_not() {
    let world = World::new();
    let session = world.path().join("session");
    std::fs::create_dir(&session).unwrap();
    let in_session = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env_remove("LCR_RUNTIME_DIR").env("XDG_RUNTIME_DIR", &session);
        command
    };
    let first = Program::start(in_session(&["demo", "--serve"]));
    let mut without = world.command(&["demo", "--serve"]);
    without.env_remove("LCR_RUNTIME_DIR").env_remove("XDG_RUNTIME_DIR");
    let second = Program::start(without);
    assert!(first.socket.starts_with(session.join("lcr")) && !second.socket.starts_with(&session));
    // There may be others.
    let all = world.run(&mut in_session(&["status", "--json"])).json();
    for program in [&first, &second] {
        let pid: u32 = program.pid.parse().unwrap();
        let found = all.as_array().unwrap().iter().find(|one| one["pid"] == pid);
        assert!(found.is_some(), "{pid} in {all}");
        assert_eq!(world.run(&mut in_session(&["history", &program.pid, "--json"])).ok().json(), json!([]));
    }
    first.end();
    second.end();
}

#[test]
fn a_name_that_two_programs_have_is_refused_with_their_pids() {
    let world = World::new();
    let (first, second) = (world.serve(), world.serve());
    let done = world.lcr(&["status", "lcr"]);
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    let mut pids = [first.pid.clone(), second.pid.clone()];
    pids.sort_by_key(|pid| pid.parse::<u32>().unwrap());
    let [a, b] = pids;
    assert_eq!(done.err, format!("lcr: 2 programs are called lcr: name one by its pid\n  {a}\n  {b}\n"));
    let done = world.lcr(&["replace", "nobody", "counter"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.starts_with("lcr: no reachable program is called nobody\n"), "{}", done.err);
    assert!(done.err.contains(&format!("  {a} is lcr\n")), "{}", done.err);
}

#[test]
fn a_static_program_is_fixed_by_a_library_and_taken_back() {
    let world = World::new();
    let program = world.serve();
    let library = world.counter_two();
    let pid = program.pid.as_str();

    let plan = world.lcr(&["plan", pid, "counter", "--with", "libcounter_two.so", "--json"]).ok().json();
    assert_eq!((&plan["result"], &plan["from"], &plan["to"]), (&json!("planned"), &json!(1), &json!(2)));
    let serves = |version: i64| {
        let status = world.lcr(&["status", pid, "--json"]).ok().json();
        let all = status[0]["interfaces"].as_array().unwrap().clone();
        let counter = all.iter().find(|i| i["name"] == "counter" && i["state"] == "live").unwrap().clone();
        assert_eq!(counter["version"], version, "{status}");
        counter
    };
    serves(1);

    // A relative file is the client's.
    let report = world.lcr(&["replace", pid, "counter", "--with", "libcounter_two.so", "--json"]).ok().json();
    for key in [
        "interface",
        "from",
        "to",
        "file",
        "prepared_us",
        "held_us",
        "switched_us",
        "drained_us",
        "held_calls",
        "result",
    ] {
        assert!(keys(&report).contains(&key), "{key} in {report}");
    }
    assert_eq!((&report["result"], &report["from"], &report["to"]), (&json!("done"), &json!(1), &json!(2)));
    assert_eq!(report["file"], "[W]/here/libcounter_two.so");
    assert_eq!(serves(2)["origin"], "[W]/here/libcounter_two.so");

    let told = world.lcr(&["rollback", pid, "counter"]).ok().out;
    assert!(told.starts_with("counter replaced: version 2 → 1, compiled in\n  prepared in "), "{told}");
    assert_eq!(serves(1)["origin"], "static");

    let history = world.lcr(&["history", pid, "--json"]).ok().json();
    let entries = history.as_array().unwrap();
    assert_eq!(entries.len(), 2, "{history}");
    for key in ["time", "interface", "from", "to", "file", "sha256", "uid", "result"] {
        assert!(keys(&entries[0]).contains(&key), "{key} in {history}");
    }
    let sum = std::process::Command::new("sha256sum").arg(&library).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap();
    assert_eq!(entries[0]["sha256"].as_str().unwrap(), sum.split_whitespace().next().unwrap());
    assert_eq!(
        (&entries[1]["from"], &entries[1]["to"], &entries[1]["sha256"]),
        (&json!(2), &json!(1), &Value::Null)
    );
    let table = world.lcr(&["history", pid]).ok().out;
    assert!(table.contains("1 → 2") && table.contains("2 → 1") && table.contains("compiled in"), "{table}");
    program.end();
}

#[test]
fn two_interfaces_are_one_transaction() {
    let world = World::new();
    let program = world.serve();
    world.counter_two();
    let done =
        world.lcr(&["replace", "lcr", "greeter", "--also", "counter=libcounter_two.so", "--json"]).ok();
    let report = done.json();
    assert_eq!(
        (&report["interface"], &report["also"][0]["interface"]),
        (&json!("greeter"), &json!("counter"))
    );
    assert_eq!(report["also"][0]["to"], 2);
    let failed = world.lcr(&["replace", "lcr", "greeter", "--also", "counter=missing.so", "--json"]);
    assert_eq!(failed.code, Some(1));
    let report = failed.json();
    assert_eq!((&report["interface"], &report["from"]), (&json!("counter"), &json!(2)), "{report}");
    program.end();
}

#[test]
fn what_fails_exits_1_with_a_sentence_and_the_whole_report() {
    let world = World::new();
    let program = world.serve();
    let arguments = ["replace", "lcr", "counter", "--with", "missing.so"];
    let done = world.lcr(&arguments);
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert_eq!(
        done.err,
        "lcr: `counter` was not replaced (prepare): [W]/here/missing.so: cannot be opened: No such file or directory \
         (os error 2)\n  version 1 serves on\n"
    );
    let done = world.lcr(&[&arguments[..], &["--json"]].concat());
    assert_eq!(done.code, Some(1));
    assert!(done.err.starts_with("lcr: `counter` was not replaced (prepare)"), "{}", done.err);
    assert_eq!(
        done.json(),
        json!({
            "interface": "counter", "from": 1, "to": null, "file": "[W]/here/missing.so", "prepared_us": null,
            "held_us": null, "switched_us": null, "drained_us": null, "held_calls": null, "result": "failed",
            "step": "prepare", "inside": [], "kept": [],
            "error": "[W]/here/missing.so: cannot be opened: No such file or directory (os error 2)",
        })
    );
    let never = world.lcr(&["rollback", "lcr", "greeter"]);
    assert_eq!(
        (never.code, never.err.as_str()),
        (
            Some(1),
            "lcr: `greeter` was not replaced (prepare): `greeter` was not replaced since the program started, so \
             there is nothing to go back to\n  version 2 serves on\n"
        )
    );
    for wrong in [
        &["replace"][..],
        &["replace", "lcr"],
        &["watch"],
        &["replace", "lcr", "a", "--version", "x"],
        &["replace", "lcr", "a", "--also", "=x"],
        &["plan", "lcr", "a", "--also", "b="],
    ] {
        assert_eq!(world.lcr(wrong).code, Some(2), "{wrong:?}");
    }
    program.end();
}

#[test]
fn targets_that_are_not_there_are_told_apart() {
    let world = World::new();
    let dead = world.serve();
    let socket = dead.socket.clone();
    drop(dead);
    // Killed, so its socket is there still.
    assert!(socket.exists());
    let done = world.lcr(&["history", socket.to_str().unwrap()]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.starts_with("lcr: nobody listens on [W]/run/"), "{}", done.err);
    let done = world.lcr(&["status", "/etc/passwd"]);
    assert_eq!((done.code, done.err.lines().next()), (Some(1), Some("lcr: /etc/passwd is no socket")));
    assert_eq!(world.lcr(&["status", "--json"]).ok().json(), json!([]));
    let own = std::process::id().to_string();
    let done = world.lcr(&["status", &own]);
    assert!(
        done.err.starts_with(&format!("lcr: process {own} has no control socket of yours\n")),
        "{}",
        done.err
    );
    assert_eq!(
        world.lcr(&["status", "4194305"]).err.lines().next(),
        Some("lcr: there is no process 4194305")
    );
    // The next one sweeps.
    let next = world.serve();
    assert!(!socket.exists());
    next.end();
}

#[test]
fn a_program_that_is_stopped_delays_only_what_is_asked_of_it() {
    let world = World::new();
    let (stopped, runs) = (world.serve(), world.serve_as("runs"));
    stopped.signal(Signal::STOP);
    let done = world.lcr(&["status", "--json"]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.json().as_array().unwrap().len(), 1);
    let is_silent = format!("lcr: {} does not answer", stopped.pid);
    assert_eq!(done.err.lines().next().unwrap(), is_silent);
    let pid = &*stopped.pid;
    for asked in [&["history", pid][..], &["watch", pid], &["rollback", pid, "counter", "--timeout", "500"]] {
        let done = world.lcr(asked);
        assert_eq!((done.code, done.err.lines().next()), (Some(1), Some(&*is_silent)), "{asked:?}");
    }
    stopped.signal(Signal::CONT);
    stopped.end();
    runs.end();
}

/// Also where the program sees what it has asked, and that it has gone, at once.
#[test]
fn what_a_client_has_asked_for_that_has_gone_is_not_done() {
    let world = World::new();
    let program = world.serve();
    for _ in 0..30 {
        program.signal(Signal::STOP);
        let mut client = UnixStream::connect(&program.socket).unwrap();
        let ask = b"{\"method\":\"io.lcr.Control.Replace\",\"parameters\":{\"interface\":\"counter\"}}\0";
        client.write_all(ask).unwrap();
        drop(client);
        program.signal(Signal::CONT);
        let history = world.lcr(&["history", "lcr", "--json"]).ok().json();
        let done = history.as_array().unwrap().iter().filter(|entry| entry["result"] == "done").count();
        assert_eq!(done, 0, "{history}");
    }
    program.end();
}

#[test]
fn watching_shows_replacements_as_they_happen_and_how_often_interfaces_are_called() {
    let world = World::new();
    let program = world.serve();
    let mut watch = world.command(&["watch", "lcr", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut next = |wanted: &str| {
        let event = events
            .by_ref()
            .find(|event| event["event"] == wanted && event["interface"] == "counter")
            .unwrap();
        assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");
        event
    };
    assert_eq!(next("serving")["version"], 1);
    world.lcr(&["replace", "lcr", "counter"]).ok();
    assert_eq!(next("replaced")["to"], 1);
    assert_eq!(world.lcr(&["replace", "lcr", "counter", "--version", "9"]).code, Some(1));
    assert!(next("failed")["error"].as_str().unwrap().contains("no version 9"));
    assert!(next("calls")["calls_per_second"].as_u64().unwrap() > 0);
    let counter = |world: &World| {
        let status = world.lcr(&["status", "lcr", "--json"]).ok().json();
        find(&status[0]["interfaces"], "name", "counter")["calls"].clone()
    };
    assert!(counter(&world).is_u64());
    watch.kill().unwrap();
    watch.wait().unwrap();
    while !counter(&world).is_null() {}
    program.end();
}

#[test]
fn the_originals_message_needs_somebody_who_listens() {
    let world = World::new();
    // Nobody would answer to this either.
    for text in ["hello", "livereplace counter", "livereplace counter versionx", ""] {
        let done = world.lcr(&["uic", text]);
        assert_eq!(done.code, Some(2), "{text}");
        assert!(done.err.contains("wanted `livereplace NAME versionN`"), "{}", done.err);
    }
    // As root in a network of its own; else another program may listen, and this one
    // is not what the test is about.
    let mut command = std::process::Command::new("unshare");
    command.args(["--net", env!("CARGO_BIN_EXE_lcr"), "uic", "livereplace counter version2"]);
    let done = world.run(&mut command);
    if done.err.starts_with("unshare") {
        // Shown loudly: no namespace, no proof.
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "SKIPPED uic: {}", done.err);
        return;
    }
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.starts_with("lcr: no program listens on the abstract socket lcr.socket\n"),
        "{}",
        done.err
    );
}
