//! A guest moves between two run directories: two hosts that share a disk.

use std::path::Path;

use lcr_lock_tests::programs::Rival;
use rustix::process::Signal;
use serde_json::Value;

use crate::world::{Host, Program, World, is_alive, library, pid, signal, soon, test_program};

/// Two hosts, with a guest on the first.
struct Moving {
    world: World,
    here: Host,
    there: Host,
    disk: String,
    web: Program,
    guest: Value,
}

fn moving(driver: &str) -> Moving {
    let world = World::new();
    let (mut here, mut there) = (world.host("here"), world.host("there"));
    if driver == "inside" {
        let library = library("lcr-lock-inside-library", "lock_inside");
        (here, there) = (here.with(library.clone()), there.with(library));
    }
    let disk = world.disk("a");
    let web = here.run("web", &["--driver", driver, "--disk", &disk]);
    let guest = here.look("web").unwrap();
    Moving { world, here, there, disk, web, guest }
}

impl Moving {
    fn migrate(&self, more: &[&str]) -> Program {
        let to = self.there.directory.to_str().unwrap();
        let all: Vec<&str> = ["migrate", "web", "--to", to].iter().chain(more).copied().collect();
        Program::start(self.here.command(&all))
    }

    #[track_caller]
    fn arrived(&self) -> Value {
        let arrived = self.there.until("web", "running");
        assert_eq!(arrived["uuid"], self.guest["uuid"]);
        assert_eq!(arrived["disks"], self.guest["disks"]);
        soon("it is gone here", || self.here.look("web").is_none().then_some(()));
        assert!(self.here.is_held(&self.disk) && self.there.is_held(&self.disk));
        arrived
    }

    /// It is where it was, as it was, and can do all that it could.
    #[track_caller]
    fn stayed(&self) {
        assert_eq!(self.here.until("web", "running"), self.guest);
        assert!(self.there.list().is_empty());
        assert!(self.here.is_held(&self.disk));
        let more = self.world.disk("more");
        self.here.done(&["plug", "web", "--disk", &more]);
        self.here.done(&["unplug", "web", "--disk", &more]);
    }
}

#[test]
fn a_process_goes_on_as_it_is_on_another_host() {
    for driver in ["file", "nop", "inside"] {
        let world = World::new();
        drop(world);
        let mut moving = moving(driver);
        let mut migrate = moving.migrate(&[]);
        let arrived = moving.there.until("web", "running");
        assert_eq!(arrived["pid"], moving.guest["pid"]);
        assert_eq!(arrived["supervisor_pid"], migrate.pid());
        assert!(moving.web.wait().success());
        assert!(moving.here.list().is_empty());
        assert!(is_alive(pid(&arrived)));
        if driver != "nop" {
            assert!(moving.here.is_held(&moving.disk));
        }
        // It ends there.
        let Moving { web, there, disk, .. } = moving;
        let said = web.said();
        assert!(said.contains("guest web has moved to"), "{said}");
        assert!(migrate.wait().success());
        assert!(there.list().is_empty());
        there.free_soon(&disk);
    }
}

#[test]
fn a_refusal_names_a_guest_that_has_moved() {
    let moving = moving("file");
    let _migrate = moving.migrate(&[]);
    let arrived = moving.arrived();
    let said = moving.there.refused(125, &["run", "--name", "rival", "--disk", &moving.disk, "--", "true"]);
    assert!(
        said.contains(&format!("held by guest web (uuid {}, pid", arrived["uuid"].as_str().unwrap())),
        "{said}"
    );
    assert!(said.contains("it is a guest of this host"), "{said}");
}

/// The process here stands still while the locks pass over, and is killed then.
#[test]
fn a_command_goes_on_where_the_process_has_ended() {
    for driver in ["file", "inside"] {
        let mut moving = moving(driver);
        let mut migrate = moving.migrate(&["--", "sh", "-c", "echo here; exec cat"]);
        assert_eq!(migrate.line(), "here");
        let arrived = moving.arrived();
        assert_ne!(arrived["pid"], moving.guest["pid"]);
        assert!(moving.web.wait().success(), "it has moved, not failed");
        assert!(!is_alive(pid(&moving.guest)));
        assert!(migrate.end().success());
        assert!(moving.there.list().is_empty());
        moving.there.free_soon(&moving.disk);
    }
}

/// As `qemu -incoming`: the command is there before, and waits for what is moved.
#[test]
fn a_command_that_waits_gets_what_is_moved() {
    for driver in ["file", "inside"] {
        let mut moving = moving(driver);
        let pipe = moving.world.path("pipe");
        let pipe = pipe.to_str().unwrap();
        lcr_tests::run(std::process::Command::new("mkfifo").arg(pipe));
        let coming = format!("read memory < {pipe}; echo \"$memory\"; exec cat");
        let mover =
            format!("echo \"$LCR_GUEST_NAME $LCR_GUEST_PID $LCR_GUEST_INCOMING_PID $LCR_GUEST_TO\" > {pipe}");
        let mut migrate = moving.migrate(&["--move", &mover, "--", "sh", "-c", &coming]);
        let line = migrate.line();
        let arrived = moving.arrived();
        let there = moving.there.directory.display();
        assert_eq!(line, format!("web {} {} {there}", moving.guest["pid"], arrived["pid"]));
        assert!(moving.web.wait().success());
        assert!(!is_alive(pid(&moving.guest)));
        // Its locks end with it, as if it had inherited them.
        assert!(migrate.end().success());
        moving.there.free_soon(&moving.disk);
    }
}

#[test]
fn what_cannot_be_moved_stays() {
    let moving = moving("file");
    for more in [&["--move", "exit 5"][..], &["--move", "exit 5", "--", "cat"]] {
        let mut migrate = moving.migrate(more);
        assert_eq!(migrate.wait().code(), Some(125));
        let said = migrate.said();
        assert!(said.contains("`exit 5` has not moved the guest: exit status: 5"), "{said}");
        assert!(said.contains("guest web goes on in"), "{said}");
        moving.stayed();
    }
    // A command that is not there is refused before anything is asked for.
    assert_eq!(moving.migrate(&["--", "no-such-command"]).wait().code(), Some(127));
    moving.stayed();
}

/// The locks have been the other side's already when its command fails.
#[test]
fn a_command_that_cannot_be_executed_there_brings_the_guest_back() {
    let moving = moving("file");
    // Its interpreter is itself: only the kernel sees that this comes to nothing.
    let itself = moving.world.path("broken");
    let broken = moving.world.script("broken", &format!("#!{}\n", itself.display()));
    let mut migrate = moving.migrate(&["--", &broken]);
    assert_eq!(migrate.wait().code(), Some(125));
    let said = migrate.said();
    assert!(said.contains("cannot be started") && said.contains("guest web goes on in"), "{said}");
    moving.stayed();
    // It does not stand still any more.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid(&moving.guest))).unwrap();
    assert!(!stat.contains(") T "), "{stat}");
}

/// What is open is what is locked: the name that it has by then is another matter.
#[test]
fn a_disk_that_is_renamed_while_its_guest_moves_stays_locked() {
    let moving = moving("file");
    let (disk, renamed) = (moving.disk.clone(), moving.world.path("renamed").display().to_string());
    let plugged = moving.world.disk("plugged");
    moving.here.done(&["plug", "web", "--disk", &plugged]);
    let rename = format!("mv {disk} {renamed}");
    // Another process would not find it, and the guest goes on.
    let mut migrate = moving.migrate(&["--move", &rename, "--", "cat"]);
    assert_eq!(migrate.wait().code(), Some(125));
    let said = migrate.said();
    assert!(said.contains("cannot be opened") && said.contains("guest web goes on in"), "{said}");
    moving.here.until("web", "running");
    assert!(moving.there.list().is_empty());
    assert!(moving.here.is_held(&renamed) && moving.here.is_held(&plugged));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid(&moving.guest))).unwrap();
    assert!(!stat.contains(") T "), "{stat}");
    // The same process has it open, and takes it along.
    let _migrate = moving.migrate(&[]);
    moving.there.until("web", "running");
    assert!(moving.there.is_held(&renamed) && moving.there.is_held(&plugged));
}

#[test]
fn what_cannot_be_prepared_starts_nothing() {
    let moving = moving("file");
    let marker = moving.world.path("marker");
    let touch = ["--", "touch", marker.to_str().unwrap()];
    // Its name is taken there,
    let mut other = moving.there.run("web", &[""; 0]);
    let mut migrate = moving.migrate(&touch);
    assert_eq!(migrate.wait().code(), Some(125));
    assert!(migrate.said().contains("there is a guest web already"));
    other.end();
    // or that is here.
    let here = moving.here.directory.to_str().unwrap();
    let said = moving.here.refused(125, &["migrate", "web", "--to", here]);
    assert!(said.contains("guest web is in") && said.contains("already"), "{said}");
    // Or it cannot be a run directory.
    let said = moving.here.refused(125, &["migrate", "web", "--to", &moving.disk]);
    assert!(said.contains("no guests can be recorded in"), "{said}");
    assert!(!marker.exists());
    moving.stayed();
}

#[test]
fn a_destination_that_is_killed_leaves_the_guest_where_it_was() {
    let moving = moving("file");
    // Its parent is the destination; then what waits there is nobody's.
    let mut migrate = moving.migrate(&["--move", "kill -9 $PPID; exit 0", "--", "cat"]);
    migrate.wait();
    moving.stayed();
    let mut migrate = moving.migrate(&["--move", "kill -9 $PPID; exit 0"]);
    migrate.wait();
    moving.stayed();
}

/// The guest's command kills the destination as soon as it runs: before or after that has
/// written down that the guest has arrived. Either side has the guest then; never both.
#[test]
fn a_destination_that_is_killed_at_any_moment_leaves_one_guest() {
    for _ in 0..5 {
        let Moving { world, here, there, disk, web, guest } = moving("file");
        let plugged = world.disk("plugged");
        here.done(&["plug", "web", "--disk", &plugged]);
        let script = "kill -9 $PPID; echo $$; exec cat";
        let to = there.directory.to_str().unwrap();
        let mut migrate =
            Program::start(here.command(&["migrate", "web", "--to", to, "--", "sh", "-c", script]));
        let mut incoming: Option<u32> = None;
        let arrived = soon("one side has it", || {
            let (at_source, at_destination) = (here.look("web"), there.look("web"));
            match (at_source, at_destination) {
                (Some(source), None) if source["state"] == "running" => Some(false),
                (None, Some(destination)) if destination["state"] == "unsupervised" => {
                    incoming = Some(pid(&destination));
                    Some(true)
                }
                _ => None,
            }
        });
        let source = pid(&guest);
        match incoming {
            Some(incoming) => {
                assert!(arrived && is_alive(incoming));
                soon("the source's process has ended", || (!is_alive(source)).then_some(()));
            }
            None => assert!(is_alive(source)),
        }
        assert!(here.is_held(&disk) && here.is_held(&plugged));
        drop((web, migrate.wait()));
    }
}

/// Its supervisor is killed while it moves. The other side cannot go on, and who takes
/// the guest up finds that it has not arrived.
#[test]
fn a_source_that_is_killed_before_the_locks_pass_over_keeps_the_guest() {
    let mut moving = moving("file");
    let mover = format!("kill -9 {}", moving.web.pid());
    let mut migrate = moving.migrate(&["--move", &mover, "--", "cat"]);
    assert_eq!(migrate.wait().code(), Some(125));
    moving.web.wait();
    assert!(moving.there.list().is_empty());
    assert!(moving.here.is_held(&moving.disk));
    let _attached = Program::start(moving.here.command(&["attach", "web"]));
    let adopted = moving.here.until("web", "running");
    assert_eq!(adopted["pid"], moving.guest["pid"]);
    let _migrate = moving.migrate(&[]);
    moving.arrived();
}

#[test]
fn nothing_else_is_done_for_a_guest_that_moves() {
    let moving = moving("file");
    let pipe = moving.world.path("pipe");
    lcr_tests::run(std::process::Command::new("mkfifo").arg(&pipe));
    let mut migrate = moving.migrate(&["--move", &format!("read line < {}", pipe.display())]);
    moving.here.until("web", "leaving");
    moving.there.until("web", "arriving");
    let said = moving.here.refused(1, &["plug", "web", "--disk", &moving.world.disk("b")]);
    assert!(said.contains("guest web is moving"), "{said}");
    let elsewhere = moving.world.path("elsewhere").display().to_string();
    let said = moving.here.refused(125, &["migrate", "web", "--to", &elsewhere]);
    assert!(said.contains("guest web is moving"), "{said}");
    std::fs::write(&pipe, b"go\n").unwrap();
    moving.arrived();
    drop(moving);
    migrate.wait();
}

#[test]
fn a_rival_never_gets_the_disk_of_a_guest_that_moves_to_and_fro() {
    let world = World::new();
    let hosts = [world.host("here"), world.host("there")];
    let disk = world.disk("a");
    let mut programs = vec![hosts[0].run("web", &["--disk", &disk])];
    let rival = Rival::trying(&test_program("lock-rival"), Path::new(&disk));
    for number in 0..12 {
        let (from, to) = (&hosts[number % 2], &hosts[(number + 1) % 2]);
        let directory = to.directory.to_str().unwrap();
        let mut arguments = vec!["migrate", "web", "--to", directory];
        match number % 3 {
            0 => {}
            1 => arguments.extend(["--", "cat"]),
            _ => arguments.extend(["--move", "true", "--", "cat"]),
        }
        programs.push(Program::start(from.command(&arguments)));
        to.until("web", "running");
        soon("it is gone", || from.look("web").is_none().then_some(()));
    }
    let (tried, got) = rival.ended();
    assert_eq!(got, 0, "of {tried}");
    assert!(tried > 1000, "it hardly tried: {tried} times");
}

/// Who takes up a guest that is on its way waits for the other side, and says so; not for one
/// that is stopped, and not after Ctrl-C.
#[test]
fn a_destination_that_does_not_decide_is_told_of() {
    let mut moving = moving("file");
    let pipe = moving.world.path("pipe");
    lcr_tests::run(std::process::Command::new("mkfifo").arg(&pipe));
    let mut migrate = moving.migrate(&["--move", &format!("read line < {}", pipe.display())]);
    moving.here.until("web", "leaving");
    moving.there.until("web", "arriving");
    moving.web.kill();
    let attach = Program::start(moving.here.command(&["attach", "web"]));
    soon("it has taken the guest up", || {
        (moving.here.look("web")?["supervisor_pid"] == attach.pid()).then_some(())
    });
    let mut attach = attach;
    signal(attach.pid(), Signal::INT);
    assert_eq!(attach.wait().code(), Some(125));
    let said = attach.said();
    assert!(said.contains("was left as it is, on its way"), "{said}");
    signal(migrate.pid(), Signal::STOP);
    let said = moving.here.refused(125, &["attach", "web"]);
    let hint = format!("let it go on: kill -CONT {}", migrate.pid());
    assert!(said.contains("is stopped") && said.contains(&hint), "{said}");
    signal(migrate.pid(), Signal::CONT);
    std::fs::write(&pipe, b"go\n").unwrap();
    assert_eq!(migrate.wait().code(), Some(125), "its source is gone");
    let _attached = Program::start(moving.here.command(&["attach", "web"]));
    let adopted = moving.here.until("web", "running");
    assert_eq!(adopted["pid"], moving.guest["pid"]);
    assert!(moving.here.is_held(&moving.disk) && moving.there.list().is_empty());
}
