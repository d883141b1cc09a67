//! The lock driver of a guest that runs is replaced, by an operator.

use std::path::Path;
use std::process::Command;

use lcr_lock_tests::programs::Rival;
use lcr_lock_tests::stripped;
use lcr_tests::{Profile, Scratch};

use crate::world::{World, is_alive, library, pid, test_program};

/// How often: `LCR_REPLACEMENTS`, else a hundred times. In one process, where it costs
/// less, it is done more often: `replaced_while_held` of lcr-lock-tests.
fn replacements() -> usize {
    let wanted = std::env::var("LCR_REPLACEMENTS").ok();
    wanted.map_or(100, |wanted| wanted.parse().expect("LCR_REPLACEMENTS is a number"))
}

#[test]
fn the_driver_is_replaced_while_a_rival_tries_all_the_time() {
    let world = World::new();
    let host = world.host("host");
    let (disk, plugged) = (world.disk("a"), world.disk("b"));
    let scratch = Scratch::new();
    let second = stripped(&library("lcr-lock-file-two", "lock_file_two"), &scratch);
    let lcr = lcr_tests::build(&["lcr-cli"], Profile::Dev).program("lcr");
    let mut web = host.run("web", &["--disk", &disk]);
    host.done(&["plug", "web", "--disk", &plugged]);
    let guest = host.look("web").unwrap();
    assert_eq!(guest["driver_version"], 1);

    let supervisor = web.pid().to_string();
    let lcr = |arguments: &[&str]| {
        let mut command = Command::new(&lcr);
        command.args(arguments).env("LCR_RUNTIME_DIR", &host.directory);
        lcr_tests::run(&mut command);
    };
    let rival = Rival::trying(&test_program("lock-rival"), Path::new(&disk));
    for number in 0..replacements() {
        if number % 2 == 0 {
            let file = second.to_str().unwrap();
            lcr(&["replace", &supervisor, "lock.file", "--with", file, "--timeout", "60000"]);
        } else {
            lcr(&["rollback", &supervisor, "lock.file"]);
        }
    }
    let (tried, got) = rival.ended();
    println!("{} replacements, {tried} attempts, {got} acquired", replacements());
    assert_eq!(got, 0);
    assert!(tried > 1000, "it hardly tried: {tried} times");

    lcr(&["replace", &supervisor, "lock.file", "--with", second.to_str().unwrap(), "--timeout", "60000"]);
    let now = host.look("web").unwrap();
    assert_eq!(now["driver_version"], 2);
    assert_eq!(
        (&now["pid"], &now["state"], &now["disks"]),
        (&guest["pid"], &guest["state"], &guest["disks"])
    );
    // The second version does what the first did, with what that has taken.
    host.done(&["unplug", "web", "--disk", &plugged]);
    assert!(!host.is_held(&plugged) && host.is_held(&disk));
    assert!(is_alive(pid(&guest)));
    // And the guest that it holds can be taken up by a supervisor with the first.
    web.kill();
    let mut attached = crate::world::Program::start(host.command(&["attach", "web"]));
    assert_eq!(host.until("web", "running")["driver_version"], 1);
    assert!(host.is_held(&disk));
    web.end();
    assert!(attached.wait().success());
    host.free_soon(&disk);
}
