//! A supervisor's signals.
//!
//! They are blocked in all of its threads, and read from a descriptor, which also says
//! who has sent them: those of the terminal come from the kernel.
//!
//! A parent that ignores SIGCHLD passes that on. The kernel then takes away what has ended
//! before anybody could wait for it, and the guest's status with it: so a supervisor never
//! ignores it, and what it starts does as the parent wanted.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::Signal;

/// What is passed on.
const PASSED_ON: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// A process' signals, taken from it for as long as it lives.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: OwnedFd,
    /// As it was.
    mask: libc::sigset_t,
    /// Whether SIGCHLD was ignored.
    ignored_children: bool,
}

/// A signal that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) signal: Signal,
    /// The terminal has sent it, to all that are in its foreground.
    pub(crate) of_terminal: bool,
}

impl Signals {
    /// Takes them. To be called before there is another thread.
    pub(crate) fn take() -> io::Result<Signals> {
        // SAFETY: sets and actions are made before they are used, and live for the calls; the
        // default action runs no code of ours; the mask is this thread's alone; the
        // descriptor is new, and nobody else's.
        unsafe {
            let mut wanted: libc::sigset_t = std::mem::zeroed();
            let mut mask: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut wanted);
            for signal in PASSED_ON {
                libc::sigaddset(&raw mut wanted, signal.as_raw());
            }
            // Not to be passed on: it wakes who waits.
            libc::sigaddset(&raw mut wanted, libc::SIGCHLD);
            if libc::pthread_sigmask(libc::SIG_BLOCK, &raw const wanted, &raw mut mask) != 0 {
                return Err(io::Error::last_os_error());
            }
            let descriptor = libc::signalfd(-1, &raw const wanted, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            let descriptor = OwnedFd::from_raw_fd(descriptor);
            // All zero is the default action, without flags.
            let usual: libc::sigaction = std::mem::zeroed();
            let mut was: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGCHLD, &raw const usual, &raw mut was) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Signals { descriptor, mask, ignored_children: was.sa_sigaction == libc::SIG_IGN })
        }
    }

    /// What to poll.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// The next one that has come and is to be passed on.
    pub(crate) fn next(&self) -> Option<Came> {
        loop {
            let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
            if rustix::io::read(&self.descriptor, &mut info) != Ok(info.len()) {
                return None;
            }
            // As signalfd(2) lays them out: signo, errno, code.
            let [signo, _, code] =
                [0, 4, 8].map(|at| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]));
            if let Some(signal) = PASSED_ON.into_iter().find(|signal| signal.as_raw() == signo) {
                return Some(Came { signal, of_terminal: code == libc::SI_KERNEL });
            }
        }
    }

    /// Has a command's process get its signals as this one would have.
    pub(crate) fn restored_in(&self, command: &mut Command) {
        let Signals { mask, ignored_children, .. } = *self;
        let restore = move || {
            // SAFETY: to ignore a signal runs no code of ours.
            if ignored_children && unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the set is a copy, and the mask is that of the only thread.
            match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut()) } {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        };
        // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
        unsafe { command.pre_exec(restore) };
    }
}
