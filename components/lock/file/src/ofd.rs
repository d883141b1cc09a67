//! Open-file-description locks.
//!
//! A lock of this kind belongs to an open file, not to a process: whoever has a
//! descriptor of it, inherited or duplicated, holds it; the kernel drops it with the
//! last one, or when one of them unlocks. It is in conflict with the older kind, which
//! belongs to a process (`fcntl(F_SETLK)`), in both directions.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;

/// A file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Inode {
    pub(crate) device: u64,
    pub(crate) number: u64,
}

impl Inode {
    pub(crate) fn of(metadata: &Metadata) -> Inode {
        Inode { device: metadata.dev(), number: metadata.ino() }
    }

    pub(crate) fn of_descriptor(descriptor: impl AsFd) -> io::Result<Inode> {
        let status = rustix::fs::fstat(descriptor)?;
        Ok(Inode { device: status.st_dev, number: status.st_ino })
    }
}

impl fmt::Display for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.number)
    }
}

/// What an attempt to lock came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The descriptor's open file has the lock.
    Locked,
    /// Another one has a lock that does not get on with it.
    Busy,
}

/// Locks the byte at `offset`, or says that it cannot be had now.
pub(crate) fn try_lock(file: impl AsFd, exclusive: bool, offset: i64) -> io::Result<Attempt> {
    let kind = if exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    match control(file, libc::F_OFD_SETLK, kind, offset) {
        Ok(_) => Ok(Attempt::Locked),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(Attempt::Busy),
        Err(error) => Err(error),
    }
}

/// Gives the byte up, for all who share the open file.
pub(crate) fn unlock(file: impl AsFd, offset: i64) -> io::Result<()> {
    control(file, libc::F_OFD_SETLK, libc::F_UNLCK, offset).map(drop)
}

/// The process that has a lock of the older kind in the way; none if the lock there is
/// of this kind, or there is none any more.
pub(crate) fn older_holder(file: impl AsFd, exclusive: bool, offset: i64) -> Option<u32> {
    let kind = if exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    let found = control(file, libc::F_OFD_GETLK, kind, offset).ok()?;
    let taken = i32::from(found.l_type) != libc::F_UNLCK;
    u32::try_from(found.l_pid).ok().filter(|pid| taken && *pid > 0)
}

/// Whether a lock is in the way. A descriptor that cannot take it can ask.
pub(crate) fn is_taken(file: impl AsFd, exclusive: bool, offset: i64) -> bool {
    let kind = if exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    let found = control(file, libc::F_OFD_GETLK, kind, offset);
    found.is_ok_and(|found| i32::from(found.l_type) != libc::F_UNLCK)
}

fn control(
    file: impl AsFd,
    command: libc::c_int,
    kind: libc::c_int,
    offset: i64,
) -> io::Result<libc::flock64> {
    // SAFETY: a structure of integers, for which zeros are a value.
    let mut lock: libc::flock64 = unsafe { zeroed() };
    lock.l_type = kind as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = offset;
    lock.l_len = 1;
    // SAFETY: the descriptor is open while it is borrowed, and the command takes a
    // `flock64`, which lives until it returns.
    let answer = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw mut lock) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(lock) }
}
