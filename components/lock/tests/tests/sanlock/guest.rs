//! `lcr-guest` with the real daemon: as a person uses it, on one host and on two.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lcr_lock::{Mode, Resource};
use lcr_tests::{Profile, Scratch};

use crate::Hosts;

/// How long anything may take that sanlock has a hand in.
const PATIENCE: Duration = Duration::from_secs(60);

#[track_caller]
fn within<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "not within a minute: {what}");
        std::thread::yield_now();
    }
}

/// Run directories of the two hosts.
struct Guests<'a> {
    hosts: &'a Hosts,
    program: PathBuf,
    scratch: Scratch,
}

impl<'a> Guests<'a> {
    fn of(hosts: &'a Hosts) -> Guests<'a> {
        let program = lcr_tests::build(&["lcr-guest"], Profile::Dev).program("lcr-guest");
        Guests { hosts, program, scratch: Scratch::new() }
    }

    fn directory(&self, host: &str) -> PathBuf {
        self.scratch.path().join(host)
    }

    /// `lcr-guest` with the daemon of `daemon`, in the run directory of `host`.
    fn command(&self, daemon: &str, host: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped());
        command.env("SANLOCK_RUN_DIR", self.hosts.storage.path().join(format!("run-{daemon}")));
        command.env("LCR_RUNTIME_DIR", self.directory(host)).env_remove("LCR_PATH");
        command
    }

    /// What the driver is told on a host.
    fn parameters(&self, host: &str) -> Vec<String> {
        let starter = self.hosts.on(host);
        let all = starter.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        all.flat_map(|parameter| ["--parameter".to_owned(), parameter]).collect()
    }

    /// Starts `lcr-guest run`.
    fn start(&self, host: &str, name: &str, options: &[&str], command: &[&str]) -> Program {
        let parameters = self.parameters(host);
        let mut all = vec!["run", "--driver", "sanlock", "--name", name];
        all.extend(parameters.iter().map(String::as_str).chain(options.iter().copied()));
        all.push("--");
        all.extend(command);
        Program::start(self.command(host, host, &all))
    }

    /// Starts a guest that runs until it is ended, and waits until it is running.
    #[track_caller]
    fn run(&self, host: &str, name: &str, options: &[&str]) -> Program {
        let mut program = self.start(host, name, options, &["cat"]);
        within("it is running", || {
            assert_eq!(program.child.try_wait().unwrap(), None, "{}", program.said());
            self.pid(host, name)
        });
        program
    }

    /// Runs it, and it must refuse. Answers why.
    #[track_caller]
    fn refused(&self, host: &str, name: &str, options: &[&str]) -> String {
        let mut program = self.start(host, name, options, &["true"]);
        let said = program.said();
        assert_eq!(program.ended().code(), Some(125), "{said}");
        said
    }

    /// Runs it, and it must do what it is asked for.
    #[track_caller]
    fn done(&self, host: &str, arguments: &[&str]) {
        let output = self.command(host, host, arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    }

    fn list(&self, host: &str) -> String {
        let output = self.command(host, host, &["list"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The process of a guest that is running.
    fn pid(&self, host: &str, name: &str) -> Option<u32> {
        let list = self.list(host);
        let row: Vec<&str> = list.lines().find(|line| line.starts_with(name))?.split_whitespace().collect();
        if row[1] == "running" { row[2].parse().ok() } else { None }
    }

    /// Hands `web` over from a to b, to its end.
    fn migrate(&self, more: &[&str]) -> Program {
        let to = self.directory("b").display().to_string();
        let mut all = vec!["migrate", "web", "--to", &to, "--parameter", "host_id=2"];
        all.extend(more);
        Program::start(self.command("b", "a", &all))
    }
}

/// `lcr-guest` as a supervisor; its guest ends with its standard input.
struct Program {
    child: Child,
}

impl Program {
    fn start(mut command: Command) -> Program {
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        Program { child: command.spawn().unwrap() }
    }

    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        within("it ends", || self.child.try_wait().unwrap())
    }

    /// What it has said, when it has ended.
    fn said(&mut self) -> String {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut said).unwrap();
        said
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that ends with the test, whatever it is at.
struct Killed(u32);

impl Drop for Killed {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.0.cast_signed()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// A process' state: `T` if it is stopped.
fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|_| "0 () X ".to_owned());
    stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap()
}

fn disk(hosts: &Hosts, name: &str) -> String {
    hosts.disk(name, Mode::Exclusive).path().display().to_string()
}

/// As the command line has it.
fn lease(resource: &Resource) -> String {
    let Resource::Lease(lease) = resource else { panic!("{resource}") };
    let path = Path::display(&lease.path);
    format!("{},path={path},offset={},lockspace={}", lease.name, lease.offset, lease.lockspace)
}

#[test]
fn disks_and_leases_of_a_guest_are_refused_to_others_on_both_hosts() {
    let Some(hosts) = Hosts::new() else { return };
    let guests = Guests::of(&hosts);
    let disk = disk(&hosts, "disk");
    let (made, more) = (lease(&hosts.lease("made")), lease(&hosts.lease("more")));
    let mut web = guests.run("a", "web", &["--disk", &disk, "--lease", &made]);
    let said = guests.refused("a", "rival", &["--disk", &disk]);
    assert!(said.contains("held by guest web") && said.contains("(-17 EEXIST: "), "{said}");
    let said = guests.refused("a", "rival", &["--lease", &made]);
    assert!(
        said.contains("lease made of lockspace __LIBVIRT__DISKS__") && said.contains("guest web"),
        "{said}"
    );
    let said = guests.refused("b", "rival", &["--lease", &made]);
    assert!(said.contains(": held by guest web") && said.contains("number 1 of its lockspace"), "{said}");

    guests.done("a", &["plug", "web", "--lease", &more]);
    assert!(guests.list("a").contains(&format!("lease:made lease:more {disk}\n")), "{}", guests.list("a"));
    let said = guests.refused("a", "rival", &["--lease", &more]);
    assert!(said.contains("held by guest web"), "{said}");
    let link = guests.directory("link");
    std::os::unix::fs::symlink(&disk, &link).unwrap();
    let output =
        guests.command("a", "a", &["plug", "web", "--disk", link.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&format!("it is the same as disk {disk}")), "{said}");
    guests.done("a", &["unplug", "web", "--lease", &more]);
    assert!(guests.start("a", "rival", &["--lease", &more], &["true"]).ended().success());
    drop(web.child.stdin.take());
    assert!(web.ended().success());
    assert!(guests.start("a", "rival", &["--lease", &made, "--disk", &disk], &["true"]).ended().success());
}

/// Each guest with another action; then its storage is gone.
#[test]
fn failure_actions_are_carried_out_or_refused() {
    let Some(hosts) = Hosts::new() else { return };
    let guests = Guests::of(&hosts);
    let program = lcr_tests::build(&["lcr-lock-sanlock"], Profile::Dev).program("lcr-lock-failure");
    let handler = format!("handler={}", program.display());
    let disks = ["none", "off", "paused", "ignoring", "family"].map(|name| disk(&hosts, name));
    let [none, off, paused, ignoring, family] = &disks;
    for action in ["restart", "pause", "ignore"] {
        let said = guests.refused("a", "none", &["--disk", none, "--on-failure", action]);
        let expected =
            format!("for `{action}` it needs a program that does it; name one, as lcr-lock-failure");
        assert!(said.contains(&expected), "{said}");
    }
    let mut killed = guests.run("a", "killed", &["--disk", none]);
    // It may write, too, and nobody else would end it.
    let left = guests.directory("left");
    let script = format!("sleep 600 < /dev/null > /dev/null 2>&1 & echo $! > {}; cat", left.display());
    let mut parent = guests.start("a", "family", &["--disk", family], &["sh", "-c", &script]);
    within("it has a child", || {
        guests.pid("a", "family")?;
        fs::read_to_string(&left).ok().filter(|text| text.ends_with('\n'))
    });
    let child = Killed(fs::read_to_string(left).unwrap().trim().parse().unwrap());
    let mut powered_off = guests.run("a", "off", &["--disk", off, "--on-failure", "poweroff"]);
    let with = |disk: &str, action: &str| {
        guests.run("a", action, &["--disk", disk, "--on-failure", action, "--parameter", &handler])
    };
    let _pausing = with(paused, "pause");
    let mut writes_on = with(ignoring, "ignore");
    let pid = guests.pid("a", "pause").unwrap();
    let _stopped = Killed(pid);
    let writing = guests.pid("a", "ignore").unwrap();

    fs::File::options()
        .write(true)
        .open(hosts.leases().join("__LIBVIRT__DISKS__"))
        .unwrap()
        .set_len(0)
        .unwrap();
    for (what, guest) in [("killed", &mut killed), ("off", &mut powered_off), ("family", &mut parent)] {
        let code = guest.ended().code();
        assert!(matches!(code, Some(143 | 137)), "{what}: {code:?}");
    }
    assert!(matches!(state(child.0), 'Z' | 'X'), "{}", guests.list("a"));
    within("the guest that pauses has stopped", || (state(pid) == 'T').then_some(()));
    assert_eq!(writes_on.child.try_wait().unwrap(), None);
    assert!(!matches!(state(writing), 'T' | 'Z' | 'X'), "{}", guests.list("a"));
    // What has become of them is seen.
    for name in ["pause", "ignore"] {
        within("it is shown as lost", || {
            let list = guests.list("a");
            let row = list.lines().find(|line| line.starts_with(name)).unwrap();
            (row.split_whitespace().nth(1) == Some("lost")).then_some(())
        });
    }
}

/// The guest's command is started on the other host, and has the disk there.
#[test]
fn a_guest_migrates_between_two_hosts() {
    let Some(hosts) = Hosts::new() else { return };
    let guests = Guests::of(&hosts);
    let (disk, made) = (disk(&hosts, "disk"), lease(&hosts.lease("made")));
    let mut here = guests.run("a", "web", &["--disk", &disk, "--lease", &made]);
    let before = guests.pid("a", "web").unwrap();

    // What cannot be leaves the guest where it was, with its leases:
    let stays = |what: &str, mut migrate: Program, expected: &str| {
        let code = migrate.ended().code();
        let said = migrate.said();
        assert_eq!(code, Some(125), "{what}: {said}");
        assert!(said.contains(expected) && said.contains("guest web goes on in"), "{what}: {said}");
        assert_eq!(guests.pid("a", "web"), Some(before), "{what}");
        assert_ne!(state(before), 'T', "{what}");
        assert_eq!(guests.list("b").lines().count(), 1, "{what}");
        for wanted in [["--disk", &disk], ["--lease", &made]] {
            let said = guests.refused("a", "rival", &wanted);
            assert!(said.contains("held by guest web"), "{what}: {said}");
        }
    };
    // a process that is registered with another daemon,
    stays("the same process", guests.migrate(&[]), "is not registered");
    // a move that fails,
    stays("the move", guests.migrate(&["--move", "exit 5", "--", "cat"]), "`exit 5` has not moved the guest");

    let mut there = guests.migrate(&["--", "cat"]);
    let after = within("it has arrived", || {
        assert_eq!(there.child.try_wait().unwrap(), None, "{}", there.said());
        guests.pid("b", "web")
    });
    assert_ne!(after, before);
    assert!(here.ended().success());
    assert!(here.said().contains("guest web has moved to"));
    assert_eq!(guests.list("a").lines().count(), 1);
    for wanted in [["--disk", &disk], ["--lease", &made]] {
        let said = guests.refused("a", "rival", &wanted);
        assert!(said.contains("held by guest web") && said.contains("number 2 of its lockspace"), "{said}");
        let said = guests.refused("b", "rival", &wanted);
        assert!(said.contains(&format!("pid {after}, running cat")), "{said}");
    }
    drop(there.child.stdin.take());
    assert!(there.ended().success());
    assert!(guests.start("b", "rival", &["--disk", &disk, "--lease", &made], &["true"]).ended().success());
}

/// The source has completed already when the other host cannot: it takes its leases back.
#[test]
fn a_destination_that_cannot_complete_brings_the_guest_back() {
    let Some(hosts) = Hosts::new() else { return };
    let guests = Guests::of(&hosts);
    let disk = disk(&hosts, "disk");
    let _here = guests.run("a", "web", &["--disk", &disk]);
    let before = guests.pid("a", "web").unwrap();
    let kill = format!("kill -9 {}", hosts.b.id());
    let mut migrate = guests.migrate(&["--move", &kill, "--", "cat"]);
    let code = migrate.ended().code();
    let said = migrate.said();
    assert_eq!(code, Some(125), "{said}");
    assert!(said.contains("cannot be reached") && said.contains("guest web goes on in"), "{said}");
    assert_eq!(guests.pid("a", "web"), Some(before));
    assert_ne!(state(before), 'T');
    let said = guests.refused("a", "rival", &["--disk", &disk]);
    assert!(said.contains("held by guest web"), "{said}");
}

/// What a guest leaves behind has its connection to the daemon, and so its leases.
#[test]
fn a_child_that_a_guest_leaves_behind_keeps_its_leases_and_is_said_to() {
    let Some(hosts) = Hosts::new() else { return };
    let guests = Guests::of(&hosts);
    let disk = disk(&hosts, "disk");
    let left = guests.directory("left");
    let script = format!("sleep 600 < /dev/null 2> /dev/null & echo $! > {}", left.display());
    let mut web = guests.start("a", "web", &["--disk", &disk], &["sh", "-c", &script]);
    within("its own process has ended", || {
        let own = guests.pid("a", "web")?;
        let is_over = !Path::new("/proc").join(own.to_string()).exists() || matches!(state(own), 'Z' | 'X');
        is_over.then_some(())
    });
    // Its supervisor has them, too, and waits for the child.
    assert_eq!(web.child.try_wait().unwrap(), None);
    web.child.kill().unwrap();
    web.ended();
    let left = Killed(fs::read_to_string(left).unwrap().trim().parse().unwrap());
    let Killed(pid) = left;
    let said = guests.refused("a", "rival", &["--disk", &disk]);
    let expected = format!("; process {pid} has it from the guest's own process, ");
    assert!(
        said.contains("held by guest web") && said.contains(&format!("pid {pid}, running sleep")),
        "{said}"
    );
    assert!(said.contains(&expected) && said.contains("(-17 EEXIST: "), "{said}");
    drop(left);
    within("the disk is free", || {
        let mut rival = guests.start("a", "rival", &["--disk", &disk], &["true"]);
        let (said, code) = (rival.said(), rival.ended().code());
        assert!(matches!(code, Some(0 | 125)), "{said}");
        (code == Some(0)).then_some(())
    });
}

/// Nobody ends the guest: its supervisor says that it ought to be.
#[test]
fn a_guest_whose_daemon_is_killed_is_lost_and_said_to_be() {
    let Some(hosts) = Hosts::new() else { return };
    let guests = Guests::of(&hosts);
    let disk = disk(&hosts, "disk");
    let mut web = guests.run("a", "web", &["--disk", &disk]);
    let guest = guests.pid("a", "web").unwrap();
    let daemon = rustix::process::Pid::from_raw(hosts.a.id().cast_signed()).unwrap();
    rustix::process::kill_process(daemon, rustix::process::Signal::KILL).unwrap();
    within("it is shown as lost", || {
        let list = guests.list("a");
        let row = list.lines().find(|line| line.starts_with("web")).unwrap();
        (row.split_whitespace().nth(1) == Some("lost")).then_some(())
    });
    assert!(!matches!(state(guest), 'Z' | 'X'), "it writes on");
    drop(web.child.stdin.take());
    web.ended();
    let said = web.said();
    assert!(said.contains("the daemon of lock.sanlock has ended: the locks of guest web"), "{said}");
}
