//! Processes: which one a number means.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use lcr_lock::process::{Stat, start_of};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process: its number, and when it was started in the kernel's ticks. No other
/// process has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) start: u64,
}

impl Process {
    /// This one.
    pub(crate) fn own() -> io::Result<Process> {
        Process::of(std::process::id()).ok_or_else(|| io::Error::other("/proc is not there"))
    }

    /// The one that has this number now, if there is one that has not ended.
    pub(crate) fn of(pid: u32) -> Option<Process> {
        Some(Process { pid, start: start_of(pid)? })
    }

    /// What a process has copied out of its `/proc/self/stat`.
    pub(crate) fn of_stat(text: &str) -> Option<Process> {
        let pid = text.split_once(' ')?.0.parse().ok()?;
        Some(Process { pid, start: Stat::parse(text)?.start })
    }

    pub(crate) fn is_alive(self) -> bool {
        Process::of(self.pid) == Some(self)
    }

    /// A descriptor of this very process, if it has not ended.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.pid.cast_signed())?;
        let opened = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        self.is_alive().then_some(opened)
    }

    /// Its number and what it runs, for people: `12 (sleep)`.
    pub(crate) fn shown(self) -> String {
        let program = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        format!("{} ({})", self.pid, program.trim_end())
    }

    /// Whether all of its threads are stopped, or it has ended.
    pub(crate) fn is_stopped(self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let state = |stat: String| stat[stat.rfind(')')? + 1..].trim_start().chars().next();
        !self.is_alive()
            || tasks
                .filter_map(|task| state(fs::read_to_string(task.path().join("stat")).ok()?))
                .all(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
    }

    /// Sends it a signal. One that has ended is no error.
    pub(crate) fn signal(self, signal: Signal) -> io::Result<()> {
        self.open().map_or(Ok(()), |process| send(&process, signal))
    }
}

/// Sends a signal to a process. One that has ended is no error.
pub(crate) fn send(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(process.as_fd(), signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        sent => Ok(sent?),
    }
}

/// Waits for a process' end, at most so long. False if it has not ended.
pub(crate) fn wait(process: &OwnedFd, at_most: Option<std::time::Duration>) -> bool {
    let deadline = at_most.map(|at_most| std::time::Instant::now() + at_most);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(std::time::Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut wait = [PollFd::new(process, PollFlags::IN)];
        match poll(&mut wait, left.as_ref()) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_no_process() {
        let own = Process::own().unwrap();
        assert!(own.is_alive() && own.open().is_some());
        let other = Process { start: own.start + 1, ..own };
        assert!(!other.is_alive() && other.open().is_none());
    }
}
