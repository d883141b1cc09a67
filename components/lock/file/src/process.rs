//! Processes: which one a number means, and what is open in it.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use lcr_lock::process::files_of;
pub(crate) use lcr_lock::process::{program_of, start_of};
use lcr_lock::record::Record;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open, pidfd_send_signal};

use crate::card::Card;
use crate::ofd::Inode;

/// A descriptor that stands for the process.
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    let number = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(number, PidfdFlags::empty())?)
}

/// Ends it at once.
pub(crate) fn kill(process: &OwnedFd) {
    // It may have ended by itself.
    let _ = pidfd_send_signal(process.as_fd(), Signal::KILL);
}

/// A lock that some process has.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    /// The descriptor in it.
    pub(crate) number: i32,
    pub(crate) inode: Inode,
    pub(crate) offset: i64,
    pub(crate) exclusive: bool,
    /// What the process says of the guest that it is for.
    pub(crate) card: Option<Record>,
    /// See [`is_trusted`].
    pub(crate) trusted: bool,
}

impl Seen {
    /// A duplicate of the very open file.
    pub(crate) fn fetch(&self) -> io::Result<OwnedFd> {
        let process = open(self.pid)?;
        Ok(pidfd_getfd(process, self.number, PidfdGetfdFlags::empty())?)
    }

    /// Whether it is a [keeper](crate::keeper) that has it.
    pub(crate) fn is_a_keepers(&self) -> bool {
        program_of(self.pid).as_deref() == Some("lcr-lock-keeper")
    }

    /// Whether what the process starts has it, too.
    pub(crate) fn is_inherited(&self) -> bool {
        let text = fs::read_to_string(files_of(self.pid).join(format!("fdinfo/{}", self.number)));
        let flags = text
            .unwrap_or_default()
            .lines()
            .find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        flags.is_some_and(|flags| flags & libc::O_CLOEXEC.cast_unsigned() == 0)
    }

    /// The process of the guest that it is for, where the process says so.
    pub(crate) fn guest_pid(&self) -> Option<u32> {
        self.card.as_ref().and_then(|card| card.value("pid"))
    }

    /// Whether it is the lock of this guest's process: held by itself or for it.
    pub(crate) fn is_of(&self, pid: u32, start: Option<u64>) -> bool {
        self.pid == pid
            || self.trusted
                && self.guest_pid() == Some(pid)
                && start.is_some()
                && self.card.as_ref().and_then(|card| card.value("start")) == start
    }
}

/// All processes that can be looked into.
pub(crate) fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Whether a process is this user's or root's: others may say what they like.
pub(crate) fn is_trusted(pid: u32) -> bool {
    let owner = fs::metadata(format!("/proc/{pid}")).map(|metadata| metadata.uid());
    owner.is_ok_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
}

/// The locks on these files in a process, with the card that each belongs to.
pub(crate) fn locks_in(pid: u32, wanted: impl Fn(Inode) -> bool) -> Vec<Seen> {
    let Ok(entries) = fs::read_dir(files_of(pid).join("fd")) else { return Vec::new() };
    let mut locks = Vec::new();
    let numbers: Vec<i32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in &numbers {
        let Ok(metadata) = fs::metadata(files_of(pid).join(format!("fd/{number}"))) else { continue };
        let inode = Inode::of(&metadata);
        if !wanted(inode) {
            continue;
        }
        for (offset, exclusive) in locks_of(pid, *number) {
            locks.push(Seen { pid, number: *number, inode, offset, exclusive, card: None, trusted: false });
        }
    }
    if locks.is_empty() {
        return locks;
    }
    let cards: Vec<Record> = numbers.iter().filter_map(|number| Card::read(pid, *number)).collect();
    let trusted = is_trusted(pid);
    for lock in &mut locks {
        lock.card = cards.iter().find(|card| Card::tells_of(card, lock.inode, lock.offset)).cloned();
        lock.trusted = trusted;
    }
    locks
}

/// The locks of one descriptor: offset, and whether exclusive. The kernel lists them as
/// `lock: 1: OFDLCK ADVISORY WRITE -1 08:01:1234 0 0`.
fn locks_of(pid: u32, number: i32) -> Vec<(i64, bool)> {
    let text = fs::read_to_string(files_of(pid).join(format!("fdinfo/{number}"))).unwrap_or_default();
    let locks = text.lines().filter_map(|line| line.strip_prefix("lock:"));
    locks
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, "OFDLCK", _, kind, _, _, start, _] = words[..] else { return None };
            Some((start.parse().ok()?, kind == "WRITE"))
        })
        .collect()
}

/// Whether an open file of this process has a lock at that byte.
pub(crate) fn has_lock(file: &OwnedFd, offset: i64) -> bool {
    locks_of(std::process::id(), file.as_raw_fd()).iter().any(|(at, _)| *at == offset)
}

/// Whether it can be seen what is open in it.
pub(crate) fn can_be_looked_into(pid: u32) -> bool {
    let Ok(mut entries) = fs::read_dir(files_of(pid).join("fd")) else { return false };
    let denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    !entries.any(|entry| entry.is_ok_and(|entry| fs::read_link(entry.path()).is_err_and(denied)))
}

/// Whether any lock is left in it.
pub(crate) fn holds_any(pid: u32) -> bool {
    let Ok(entries) = fs::read_dir(files_of(pid).join("fd")) else { return false };
    let mut numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.any(|number| !locks_of(pid, number).is_empty())
}
