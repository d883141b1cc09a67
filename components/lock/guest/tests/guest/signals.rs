//! Signals, and the terminal that some of them come from.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::Signal;

use crate::world::{Program, World, is_alive, library, lines_of, pid, signal, soon, test_program};

#[test]
fn what_a_process_sends_to_the_supervisor_goes_to_the_guest() {
    let world = World::new();
    let host = world.host("host");
    let guest = test_program("lock-guest");
    let mut web = Program::start(host.command(&["run", "--name", "web", "--", &guest]));
    assert_eq!(web.line(), "ready");
    host.until("web", "running");
    for (sent, line) in
        [(Signal::INT, "int"), (Signal::HUP, "hup"), (Signal::USR1, "usr1"), (Signal::TERM, "term")]
    {
        signal(web.pid(), sent);
        assert_eq!(web.line(), line);
    }
    assert_eq!(web.wait().code(), Some(3), "the guest's own status");
}

/// As a parent that never waits for its children: what ignores SIGCHLD passes that on, and
/// then nobody is told how a child has ended.
#[test]
fn a_parent_that_ignores_its_children_gets_the_guests_status() {
    let world = World::new();
    let host = world.host("host");
    let library = library("lcr-lock-inside-library", "lock_inside");
    // That of the kernel's list which says what is ignored: bit 16 is SIGCHLD.
    let script = "grep SigIgn /proc/self/status; exit 7";
    for ignores in [true, false] {
        for driver in ["file", "inside"] {
            let host = host.clone().with(library.clone());
            let disk = world.disk("a");
            let arguments = ["run", "--driver", driver, "--name", "web", "--disk", &disk];
            let all: Vec<&str> = arguments.into_iter().chain(["--", "bash", "-c", script]).collect();
            let mut command = host.command(&all);
            let ignore = move || {
                let action = if ignores { libc::SIG_IGN } else { libc::SIG_DFL };
                // SAFETY: a system call of a child that is about to become another program.
                unsafe { libc::signal(libc::SIGCHLD, action) };
                Ok(())
            };
            // SAFETY: it makes one system call.
            unsafe { command.pre_exec(ignore) };
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(7), "{driver}, {ignores}: {said}");
            assert_eq!(said, "");
            // The guest finds it as it would have without a supervisor.
            let line = String::from_utf8(output.stdout).unwrap();
            let ignored = u64::from_str_radix(line.trim_start_matches("SigIgn:").trim(), 16).unwrap();
            assert_eq!(ignored & 1 << (libc::SIGCHLD - 1) != 0, ignores, "{driver}: {line}");
            assert!(host.list().is_empty());
        }
    }
}

/// A terminal whose foreground is a supervisor with its guest.
struct Terminal {
    keyboard: File,
    lines: std::sync::mpsc::Receiver<String>,
    child: Child,
}

impl Terminal {
    fn start(mut command: Command) -> Terminal {
        // SAFETY: system calls; the descriptor is new, and the name is copied at once.
        let (keyboard, name) = unsafe {
            let number = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            assert!(
                number >= 0 && libc::grantpt(number) == 0 && libc::unlockpt(number) == 0,
                "there is no terminal"
            );
            let mut name = [0; 100];
            assert_eq!(libc::ptsname_r(number, name.as_mut_ptr(), name.len()), 0);
            (File::from_raw_fd(number), std::ffi::CStr::from_ptr(name.as_ptr()).to_owned())
        };
        let open = || -> OwnedFd {
            File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap().into()
        };
        command.stdin(open()).stdout(open()).stderr(open());
        let control = || {
            // SAFETY: system calls of a child that is about to become another program.
            if unsafe { libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 } {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        };
        // SAFETY: it makes two system calls.
        unsafe { command.pre_exec(control) };
        let child = command.spawn().unwrap();
        assert!(keyboard.as_raw_fd() > 2);
        Terminal { lines: lines_of(keyboard.try_clone().unwrap()), keyboard, child }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// The next line that is on it, but for what was typed.
    #[track_caller]
    fn line(&self) -> String {
        let line =
            self.lines.recv_timeout(std::time::Duration::from_secs(60)).expect("there is another line");
        line.trim_end().trim_start_matches("^C").to_owned()
    }

    #[track_caller]
    fn wait(&mut self) -> Option<i32> {
        soon("it ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The guest is in the terminal's foreground: it reads from it, and Ctrl-C reaches it
/// once. The supervisor stays.
#[test]
fn at_a_terminal_the_guest_has_the_keyboard() {
    let world = World::new();
    let host = world.host("host");
    let guest = test_program("lock-guest");
    let mut terminal = Terminal::start(host.command(&["run", "--name", "web", "--", &guest]));
    assert_eq!(terminal.line(), "ready");
    host.until("web", "running");
    terminal.press("hello\n");
    assert_eq!((terminal.line(), terminal.line()), ("hello".into(), "read hello".into()));
    terminal.press("\x03");
    assert_eq!(terminal.line(), "int");
    // Had the supervisor passed it on, that had come before this.
    signal(terminal.child.id(), Signal::USR1);
    assert_eq!(terminal.line(), "usr1");
    terminal.press("\x04");
    assert_eq!(terminal.wait(), Some(0));
}

/// The guest has closed what it does not know when its supervisor leaves: then a keeper has
/// the locks.
#[test]
fn a_supervisor_that_leaves_takes_no_locks_along() {
    let world = World::new();
    let host = world.host("host");
    let disk = world.disk("a");
    let script = r#"read line; for n in /proc/self/fd/*; do n=${n##*/}; [ "$n" -gt 2 ] && eval "exec $n<&-"; done
        echo closed; read line"#;
    let mut web =
        Program::start(host.command(&["run", "--name", "web", "--disk", &disk, "--", "bash", "-c", script]));
    host.until("web", "running");
    web.kill();
    let mut terminal = Terminal::start(host.command(&["attach", "web"]));
    host.until("web", "running");
    web.write("\n");
    assert_eq!(web.line(), "closed");
    terminal.press("\x03");
    assert_eq!(terminal.line(), "lcr-guest: guest web runs on, and is locked: lcr-guest attach web");
    assert_eq!(terminal.wait(), Some(128 + 2));
    assert!(host.is_held(&disk));
    assert_eq!(host.look("web").unwrap()["state"], "unsupervised");
    host.done(&["stop", "web"]);
    host.free_soon(&disk);
}

/// Ctrl-C is for what a person sees running: the supervisor, where that has adopted a
/// guest.
#[test]
fn at_a_terminal_an_adopting_supervisor_leaves_and_its_guest_runs_on() {
    let world = World::new();
    let host = world.host("host");
    let disk = world.disk("a");
    let mut web = host.run("web", &["--disk", &disk]);
    let guest = pid(&host.look("web").unwrap());
    web.kill();
    let mut terminal = Terminal::start(host.command(&["attach", "web"]));
    host.until("web", "running");
    terminal.press("\x03");
    assert_eq!(terminal.line(), "lcr-guest: guest web runs on, and is locked: lcr-guest attach web");
    assert_eq!(terminal.wait(), Some(128 + 2));
    assert!(is_alive(guest) && host.is_held(&disk));
    assert_eq!(host.look("web").unwrap()["state"], "unsupervised");
}
