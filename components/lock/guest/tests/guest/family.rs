//! What a guest leaves behind.

use rustix::process::Signal;

use crate::world::{Host, Program, World, is_alive, library, pid, signal, soon, test_program};

/// A child of a shell, with nothing open but its standard streams, which are nobody's; in a
/// session of its own. Its number is written.
const CHILD: &str = r#"setsid bash -c '
    for n in /proc/self/fd/*; do n=${n##*/}; [ "$n" -gt 2 ] && eval "exec $n<&-"; done; exec sleep 600
' </dev/null >/dev/null 2>&1 & echo $!"#;

/// A guest with such a child.
struct Guest {
    web: Program,
    child: u32,
}

impl Guest {
    /// Whose own process then does this.
    #[track_caller]
    fn start(host: &Host, arguments: &[&str], then: &str) -> Guest {
        let script = format!("{CHILD}; {then}");
        let all: Vec<&str> = ["run", "--name", "web"]
            .into_iter()
            .chain(arguments.iter().copied())
            .chain(["--", "bash", "-c", &script])
            .collect();
        let web = Program::start(host.command(&all));
        let child = web.line().parse().unwrap();
        host.until("web", "running");
        let disks = || {
            let open = std::fs::read_dir(format!("/proc/{child}/fd")).unwrap();
            let mut links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
            links.any(|link| link.starts_with(host.directory.parent().unwrap()))
        };
        soon("it has closed what it does not know", || (is_sleep(child) && !disks()).then_some(()));
        Guest { web, child }
    }
}

fn is_sleep(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
}

impl Drop for Guest {
    fn drop(&mut self) {
        if is_sleep(self.child) {
            signal(self.child, Signal::KILL);
        }
    }
}

/// It may write: what its guest has plugged, too.
#[test]
fn a_disk_stays_locked_until_the_last_process_has_ended() {
    let world = World::new();
    let host = world.host("host");
    let (disk, plugged) = (world.disk("a"), world.disk("b"));
    let mut guest = Guest::start(&host, &["--disk", &disk], "read line; exit 7");
    host.done(&["plug", "web", "--disk", &plugged]);
    let own = pid(&host.look("web").unwrap());
    guest.web.write("\n");
    soon("its own process has ended", || (!is_alive(own)).then_some(()));
    assert_eq!(host.look("web").unwrap()["state"], "running");
    assert!(host.is_held(&disk) && host.is_held(&plugged));
    assert_eq!(guest.web.child.try_wait().unwrap(), None);
    // Only its own process could move.
    let to = world.path("there").display().to_string();
    let said = host.refused(125, &["migrate", "web", "--to", &to]);
    assert!(said.contains("own process has ended") && said.contains(&guest.child.to_string()), "{said}");
    signal(guest.child, Signal::TERM);
    assert_eq!(guest.web.wait().code(), Some(7), "its own status");
    assert!(host.list().is_empty());
    host.free_soon(&disk);
    host.free_soon(&plugged);
}

#[test]
fn what_is_left_is_said_and_gets_the_signals() {
    let world = World::new();
    let host = world.host("host");
    let mut guest = Guest::start(&host, &["--disk", &world.disk("a")], "exit 0");
    let supervisor = guest.web.pid();
    soon("the supervisor waits for the child", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", guest.child)).unwrap();
        stat.contains(&format!(") S {supervisor} ")).then_some(())
    });
    host.until("web", "running");
    let own = pid(&host.look("web").unwrap());
    soon("its own process has ended", || (!is_alive(own)).then_some(()));
    // The supervisor may not have noticed before.
    soon("the child has ended", || {
        signal(supervisor, Signal::TERM);
        (!is_alive(guest.child)).then_some(())
    });
    assert_eq!(guest.web.wait().code(), Some(0));
    let child = guest.child;
    let Guest { web, .. } = &mut guest;
    let said = std::mem::replace(web, Program::start(std::process::Command::new("true"))).said();
    assert!(said.contains(&format!("has left others: {child} (")), "{said}");
    assert!(said.contains("lcr-guest stop web ends them"), "{said}");
}

#[test]
fn stop_ends_all_processes_before_the_locks_are_free() {
    let world = World::new();
    let host = world.host("host");
    let disk = world.disk("a");
    for (then, supervised) in
        [("read line", true), ("exit 0", true), ("read line", false), ("trap '' TERM; read line", true)]
    {
        let mut guest = Guest::start(&host, &["--disk", &disk], then);
        if !supervised {
            guest.web.kill();
            host.until("web", "unsupervised");
        }
        let said = host.done(&["stop", "web", "--kill-after", "1"]);
        assert!(!is_alive(guest.child), "{then}: {said}");
        assert!(
            said.contains(&format!("has left processes behind, which are ended: {}", guest.child)),
            "{said}"
        );
        assert!(host.list().is_empty());
        host.free_soon(&disk);
    }
}

/// As one that ignores the signal that asks.
#[test]
fn stop_kills_what_does_not_end() {
    let world = World::new();
    let host = world.host("host");
    let guest = Guest::start(&host, &["--disk", &world.disk("a")], "trap '' TERM; read line");
    let script = "trap '' TERM; exec setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $!; read line";
    let other = Program::start(host.command(&["run", "--name", "db", "--", "bash", "-c", script]));
    let child: u32 = other.line().parse().unwrap();
    host.until("db", "running");
    soon("it ignores it", || is_sleep(child).then_some(()));
    host.done(&["stop", "db", "--kill-after", "0"]);
    assert!(!is_alive(child));
    assert!(is_alive(guest.child), "that is another guest's");
}

/// Its supervisor is gone, and so is its parent: it is known by its mark.
#[test]
fn an_orphan_is_known_when_another_supervisor_has_taken_the_guest_up() {
    let world = World::new();
    let host = world.host("host");
    let disk = world.disk("a");
    let mut guest = Guest::start(&host, &["--disk", &disk], "read line");
    let own = pid(&host.look("web").unwrap());
    guest.web.kill();
    let mut attached = Program::start(host.command(&["attach", "web"]));
    host.until("web", "running");
    signal(own, Signal::KILL);
    soon("its own process has ended", || (!is_alive(own)).then_some(()));
    soon("it is an orphan", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", guest.child)).unwrap();
        (!stat.contains(&format!(" S {own} "))).then_some(())
    });
    assert!(host.is_held(&disk) && is_alive(guest.child));
    host.done(&["stop", "web"]);
    assert!(!is_alive(guest.child));
    assert!(attached.wait().success());
    host.free_soon(&disk);
}

/// Nobody has supervised its end: what it has left is the guest still.
#[test]
fn what_is_left_without_a_supervisor_can_be_stopped() {
    let world = World::new();
    let host = world.host("host");
    let mut guest = Guest::start(&host, &["--disk", &world.disk("a")], "read line");
    let own = pid(&host.look("web").unwrap());
    guest.web.kill();
    signal(own, Signal::KILL);
    soon("its own process has ended", || (!is_alive(own)).then_some(()));
    assert_eq!(host.look("web").unwrap()["state"], "unsupervised");
    assert!(
        host.refused(125, &["run", "--name", "web", "--", "true"]).contains("there is a guest web already")
    );
    let said = host.refused(125, &["attach", "web"]);
    let expected = format!("guest web's own process has ended, and has left others: {} (sleep)", guest.child);
    assert!(said.contains(&expected) && said.contains("lcr-guest stop web ends them"), "{said}");
    host.done(&["stop", "web"]);
    assert!(!is_alive(guest.child) && host.list().is_empty());
}

/// A shell that becomes the supervisor has children of its own.
#[test]
fn what_was_there_before_is_not_the_guests() {
    let world = World::new();
    let host = world.host("host");
    let program = env!("CARGO_BIN_EXE_lcr-guest");
    let script = format!(
        "sleep 600 </dev/null >/dev/null 2>&1 & echo $!; until [ $(cat /proc/$!/comm) = sleep ]; do :; done; \
         exec {program} run --name web -- cat"
    );
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &script]).env("LCR_RUNTIME_DIR", &host.directory);
    let mut web = Program::start(shell);
    let before: u32 = web.line().parse().unwrap();
    host.until("web", "running");
    let said = host.done(&["stop", "web"]);
    assert_eq!(said, "");
    assert_eq!(web.wait().code(), Some(128 + 15));
    assert!(is_sleep(before), "it was ended");
    signal(before, Signal::KILL);
}

/// Before the locks have left. Without a command all go on as they are.
#[test]
fn a_guest_with_children_moves_as_it_is_or_not_at_all() {
    let world = World::new();
    let (here, there) = (world.host("here"), world.host("there"));
    let disk = world.disk("a");
    let guest = Guest::start(&here, &["--disk", &disk], "read line");
    let before = here.look("web").unwrap();
    let to = there.directory.to_str().unwrap();
    for more in [&["--", "sleep", "600"][..], &["--move", "true", "--", "sleep", "600"]] {
        let all: Vec<&str> = ["migrate", "web", "--to", to].iter().chain(more).copied().collect();
        let said = here.refused(125, &all);
        let expected = format!("guest web has other processes than its own: {} (sleep)", guest.child);
        assert!(said.contains(&expected) && said.contains("guest web goes on in"), "{said}");
        assert_eq!(here.until("web", "running"), before);
        assert!(here.is_held(&disk) && there.list().is_empty());
    }
    let mut migrate = Program::start(here.command(&["migrate", "web", "--to", to]));
    assert_eq!(there.until("web", "running")["pid"], before["pid"]);
    assert!(is_alive(guest.child));
    soon("it is gone here", || here.look("web").is_none().then_some(()));
    there.done(&["stop", "web"]);
    assert!(!is_alive(guest.child) && migrate.wait().success());
    there.free_soon(&disk);
}

/// The process that takes the locks hands what holds them to its supervisor.
#[test]
fn a_driver_that_is_asked_within_the_guests_process_keeps_what_is_left_locked() {
    let world = World::new();
    let host = world.host("host").with(library("lcr-lock-inside-library", "lock_inside"));
    let disk = world.disk("a");
    let mut guest = Guest::start(&host, &["--driver", "inside", "--disk", &disk], "exit 3");
    let own = pid(&host.look("web").unwrap());
    soon("its own process has ended", || (!is_alive(own)).then_some(()));
    assert!(host.is_held(&disk));
    signal(guest.child, Signal::TERM);
    assert_eq!(guest.web.wait().code(), Some(3));
    host.free_soon(&disk);
}

/// A supervisor that has adopted the guest cannot hold its locks, with that driver: then
/// nothing is left that could write without them.
#[test]
fn what_has_no_locks_any_more_is_killed() {
    let world = World::new();
    let host = world.host("host").with(library("lcr-lock-inside-library", "lock_inside"));
    let disk = world.disk("a");
    let mut guest = Guest::start(&host, &["--driver", "inside", "--disk", &disk], "read line");
    guest.web.kill();
    let mut attached = Program::start(host.command(&["attach", "web"]));
    host.until("web", "running");
    guest.web.write("\n");
    assert!(attached.wait().success());
    assert!(!is_alive(guest.child));
    let said = attached.said();
    assert!(said.contains(&format!("what it has left is killed: {} (sleep)", guest.child)), "{said}");
}

/// Orphans fall to the supervisor: it does not collect them.
#[test]
fn orphans_that_have_ended_are_taken_away() {
    let world = World::new();
    let host = world.host("host");
    let script = "for n in 1 2 3 4 5 6 7 8; do (true & ) ; done; echo done; exec cat";
    let mut web = Program::start(host.command(&["run", "--name", "web", "--", "bash", "-c", script]));
    assert_eq!(web.line(), "done");
    host.until("web", "running");
    let supervisor = web.pid();
    let over = || {
        let entries = std::fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
        let stats = pids.filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        stats.filter(|stat| stat.contains(&format!(") Z {supervisor} "))).count()
    };
    soon("none is left", || (over() == 0).then_some(()));
    assert_eq!(web.end().code(), Some(0), "the guest's status is the guest's");
}

/// A process lives as long as one of its threads.
#[test]
fn a_guest_whose_first_thread_has_ended_runs_on() {
    let world = World::new();
    let host = world.host("host");
    let disk = world.disk("a");
    let guest = test_program("lock-guest");
    let run = host.command(&["run", "--name", "web", "--disk", &disk, "--", &guest, "headless"]);
    let mut web = Program::start(run);
    assert_eq!(web.line(), "ready");
    let own = pid(&host.until("web", "running"));
    soon("its first thread has ended", || {
        let stat = std::fs::read_to_string(format!("/proc/{own}/stat")).unwrap();
        stat.contains(") Z ").then_some(())
    });
    let said = host.refused(125, &["run", "--name", "db", "--disk", &disk, "--", "true"]);
    assert!(said.contains("held by guest web"), "{said}");
    // Without a supervisor, too.
    web.kill();
    assert_eq!(host.until("web", "unsupervised")["pid"], own);
    assert!(host.is_held(&disk));
    host.done(&["stop", "web"]);
    assert!(host.list().is_empty());
    host.free_soon(&disk);
}

/// A guest may have started a supervisor of another guest, whose environment tells nothing.
#[test]
fn another_supervisor_that_a_guest_leaves_behind_is_the_guests() {
    let world = World::new();
    let (host, inner) = (world.host("host"), world.host("inner"));
    let disk = world.disk("a");
    let script = format!(
        "env -i PATH=\"$PATH\" LCR_RUNTIME_DIR={} setsid {} run --name inner -- sleep 600 </dev/null >/dev/null 2>&1 &",
        inner.directory.display(),
        env!("CARGO_BIN_EXE_lcr-guest"),
    );
    let run = host.command(&[
        "run",
        "--name",
        "web",
        "--disk",
        &disk,
        "--",
        "bash",
        "-c",
        &format!("{script} read line"),
    ]);
    let mut web = Program::start(run);
    let left = inner.until("inner", "running");
    let own = pid(&host.look("web").unwrap());
    web.write("\n");
    soon("its own process has ended", || (!is_alive(own)).then_some(()));
    assert_eq!(host.look("web").unwrap()["state"], "running");
    assert!(host.is_held(&disk));
    host.done(&["stop", "web"]);
    web.wait();
    assert!(!is_alive(pid(&left)));
    host.free_soon(&disk);
}
