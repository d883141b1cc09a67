//! Locks that are lost, and supervisors that do not answer: what is said, and what can be
//! done then.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};

use crate::world::{Host, Program, World, is_alive, is_stopped, pid, signal, soon};

/// Another one's lock on a disk, until it is dropped.
struct Stolen {
    _file: File,
}

fn control(file: &impl std::os::fd::AsRawFd, kind: libc::c_int) -> bool {
    // SAFETY: a structure of integers, for which zeros are a value.
    let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_len = 1;
    // SAFETY: the file is open, and the command takes a `flock64`.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) == 0 }
}

/// Unlocks a disk in the guest's own open file, and locks it in another one: as nothing
/// does that keeps to the rules.
fn steal(guest: u32, disk: &str) -> Stolen {
    let process = pidfd_open(Pid::from_raw(guest.cast_signed()).unwrap(), PidfdFlags::empty()).unwrap();
    let open = std::fs::read_dir(format!("/proc/{guest}/fd")).unwrap().map(|entry| entry.unwrap());
    let of_disk =
        open.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|link| link == Path::new(disk)));
    let number = of_disk.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap()).next().unwrap();
    let of_guest: OwnedFd = pidfd_getfd(process, number, PidfdGetfdFlags::empty()).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(disk).unwrap();
    assert!(!control(&file, libc::F_WRLCK), "it was locked");
    assert!(control(&of_guest, libc::F_UNLCK) && control(&file, libc::F_WRLCK));
    Stolen { _file: file }
}

#[test]
fn a_guest_that_has_lost_its_locks_is_not_taken_up() {
    let world = World::new();
    let host = world.host("host");
    let disk = world.disk("a");
    let mut web = host.run("web", &["--disk", &disk]);
    let guest = pid(&host.look("web").unwrap());
    let stolen = steal(guest, &disk);
    assert_eq!(host.look("web").unwrap()["state"], "lost");
    web.kill();
    assert_eq!(host.look("web").unwrap()["state"], "lost");
    for _ in 0..2 {
        let said = host.refused(125, &["attach", "web"]);
        let expected =
            format!("cannot inquire disk {disk} (exclusive): process {guest} of guest web has no lock of it");
        assert!(said.contains(&expected), "{said}");
        assert!(
            said.contains("guest web runs without its locks") && said.contains("lcr-guest stop web"),
            "{said}"
        );
        assert_eq!(host.look("web").unwrap()["state"], "lost");
        assert!(is_alive(guest) && !is_stopped(guest), "it was left as it is");
    }
    drop(stolen);
    host.done(&["stop", "web"]);
    assert!(!is_alive(guest) && host.list().is_empty());
}

/// A guest whose migration has failed, and whose disk somebody else has by then.
struct Stopped {
    _world: World,
    host: Host,
    disk: String,
    web: Program,
    guest: u32,
    stolen: Stolen,
}

fn stopped(command: &[&str]) -> Stopped {
    stopped_guest(&["cat"], command)
}

fn stopped_guest(of_guest: &[&str], command: &[&str]) -> Stopped {
    let world = World::new();
    let (host, there) = (world.host("here"), world.host("there"));
    let disk = world.disk("a");
    let run = ["run", "--name", "web", "--disk", &disk, "--"];
    let all: Vec<&str> = run.into_iter().chain(of_guest.iter().copied()).collect();
    let web = Program::start(host.command(&all));
    host.until("web", "running");
    let guest = pid(&host.look("web").unwrap());
    let pipe = world.path("pipe");
    lcr_tests::run(std::process::Command::new("mkfifo").arg(&pipe));
    let mover = format!("read line < {}; exit 5", pipe.display());
    let to = there.directory.to_str().unwrap();
    let all: Vec<&str> =
        ["migrate", "web", "--to", to, "--move", &mover].into_iter().chain(command.iter().copied()).collect();
    let mut migrate = Program::start(host.command(&all));
    there.until("web", "arriving");
    host.until("web", "leaving");
    let stolen = steal(guest, &disk);
    std::fs::write(&pipe, b"go\n").unwrap();
    assert_eq!(migrate.wait().code(), Some(125));
    let said = migrate.said();
    assert!(
        said.contains("has not moved the guest") && said.contains("guest web does not go on in"),
        "{said}"
    );
    assert!(said.contains("guest web stands still (SIGSTOP), without its locks"), "{said}");
    assert!(said.contains("lcr-guest attach web") && said.contains("lcr-guest stop web"), "{said}");
    assert!(is_stopped(guest));
    assert_eq!(host.look("web").unwrap()["state"], "stopped");
    assert!(there.list().is_empty());
    Stopped { _world: world, host, disk, web, guest, stolen }
}

#[test]
fn a_guest_that_cannot_have_its_locks_back_stands_still_until_it_can() {
    for command in [&[][..], &["--", "cat"]] {
        let Stopped { _world, host, disk, mut web, guest, stolen } = stopped(command);
        let said = host.refused(1, &["plug", "web", "--disk", &disk]);
        assert!(said.contains("guest web stands still, without its locks"), "{said}");
        let said = host.refused(125, &["attach", "web"]);
        assert!(said.contains("held by") && said.contains("stands still"), "{said}");
        assert!(is_stopped(guest));
        drop(stolen);
        let said = host.done(&["attach", "web"]);
        assert!(said.contains("guest web has its locks again, and goes on"), "{said}");
        let running = host.until("web", "running");
        assert_eq!((pid(&running), &running["supervisor_pid"]), (guest, &web.pid().into()));
        assert!(host.is_held(&disk));
        soon("it goes on", || (!is_stopped(guest)).then_some(()));
        assert!(web.end().success());
    }
}

#[test]
fn such_a_guest_is_taken_up_by_another_supervisor_when_it_can_have_its_locks() {
    let Stopped { _world, host, disk, mut web, guest, stolen } = stopped(&["--", "cat"]);
    web.kill();
    assert_eq!(host.look("web").unwrap()["state"], "stopped");
    let said = host.refused(125, &["attach", "web"]);
    assert!(said.contains("held by") && said.contains("stands still (SIGSTOP), without its locks"), "{said}");
    assert!(is_stopped(guest));
    drop(stolen);
    let mut attached = Program::start(host.command(&["attach", "web"]));
    host.until("web", "running");
    assert!(host.is_held(&disk));
    soon("it goes on", || (!is_stopped(guest)).then_some(()));
    web.end();
    assert!(attached.wait().success());
    host.free_soon(&disk);
}

/// They have its disks, too.
#[test]
fn its_other_processes_stand_still_as_well() {
    let script = "sleep 600 & echo $!; exec cat";
    let Stopped { _world, host, web, guest, stolen, .. } = stopped_guest(&["bash", "-c", script], &[]);
    let child = web.line().parse().unwrap();
    soon("both stand still", || (is_stopped(guest) && is_stopped(child)).then_some(()));
    drop(stolen);
    host.done(&["attach", "web"]);
    soon("both go on", || (!is_stopped(guest) && !is_stopped(child)).then_some(()));
    host.done(&["stop", "web"]);
    assert!(!is_alive(guest) && !is_alive(child));
}

#[test]
fn such_a_guest_can_be_stopped() {
    let Stopped { _world, host, mut web, guest, .. } = stopped(&["--", "cat"]);
    host.done(&["stop", "web"]);
    assert!(!is_alive(guest));
    assert_eq!(web.wait().code(), Some(128 + 9), "it has not gone on before");
    assert!(host.list().is_empty());
}

/// Who is asked is stopped: it is said who, and what was wanted; and it is not done later.
#[test]
fn a_supervisor_that_does_not_answer_is_told_of() {
    let world = World::new();
    let host = world.host("host");
    let (disk, more) = (world.disk("a"), world.disk("b"));
    let mut web = host.run("web", &["--disk", &disk]);
    let (guest, supervisor) = (pid(&host.look("web").unwrap()), web.pid());
    signal(supervisor, Signal::STOP);
    soon("it is stopped", || is_stopped(supervisor).then_some(()));
    let said = host.refused(1, &["plug", "web", "--disk", &more]);
    assert!(
        said.contains(&format!("the supervisor of guest web, process {supervisor}, has not answered in")),
        "{said}"
    );
    assert!(said.contains(&format!("kill -CONT {supervisor}")) && said.contains("asked for Plug"), "{said}");
    signal(supervisor, Signal::CONT);
    host.done(&["plug", "web", "--disk", &world.disk("c")]);
    assert_eq!(host.look("web").unwrap()["disks"].as_array().unwrap().len(), 2);
    assert!(!host.is_held(&more));

    signal(supervisor, Signal::STOP);
    soon("it is stopped", || is_stopped(supervisor).then_some(()));
    let said = host.refused(1, &["stop", "web"]);
    let expected = format!("guest web has ended, but its supervisor, process {supervisor}, has not in 3 s");
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains(&format!("kill -CONT {supervisor}")), "{said}");
    assert!(!is_alive(guest) && host.is_held(&disk));
    signal(supervisor, Signal::CONT);
    assert_eq!(web.wait().code(), Some(128 + 15));
    host.free_soon(&disk);
}
