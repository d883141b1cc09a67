//! A keeper: a process that has locks for a guest that runs already.
//!
//! What a guest has at its start it inherits; nothing can be given to it later. So a
//! lock that it needs later (a disk that is plugged, an incoming guest's) is kept by a
//! process of its own, which waits for the guest's end and then ends, whatever has
//! become of the manager. It is a fork of the manager's process that closes all but the
//! locks, ignores every signal it can, executes nothing, and is seen as
//! `lcr-lock-keeper`.
//!
//! It is forked twice, so that it is nobody's child to wait for.

use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::process;

/// A running keeper. Ended when its last lock was given up.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) pid: u32,
    pub(crate) process: OwnedFd,
}

impl Keeper {
    /// Ends it: it keeps nothing any more.
    pub(crate) fn end(&self) {
        process::kill(&self.process);
    }

    /// Keeps these until the process `guest` has ended.
    pub(crate) fn start(guest: &OwnedFd, locks: &[BorrowedFd<'_>]) -> io::Result<Keeper> {
        let (tells, told) = pipe_with(PipeFlags::CLOEXEC)?;
        // All that the child needs is made here: between fork and its end it must not
        // allocate, another thread may have held the allocator's lock.
        let mut numbers: Vec<i32> = locks.iter().map(|lock| lock.as_raw_fd()).collect();
        let (guest, told_number) = (guest.as_raw_fd(), told.as_raw_fd());
        numbers.extend([guest, told_number]);
        numbers.sort_unstable();
        numbers.dedup();
        // SAFETY: the child makes nothing but system calls, on memory that is its own
        // copy, and never returns from here.
        let child = unsafe { libc::fork() };
        match child {
            -1 => return Err(io::Error::last_os_error()),
            // SAFETY: this is the child, and the numbers are open.
            0 => unsafe { keep(guest, told_number, &numbers) },
            _ => {}
        }
        drop(told);
        loop {
            // SAFETY: it waits for our own child; nothing is written but the null's nothing.
            let waited = unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
            // A program that waits for any child may have taken it: that is as good.
            if waited == child || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                break;
            }
        }
        let mut pid = [0; 4];
        std::fs::File::from(tells)
            .read_exact(&mut pid)
            .map_err(|_| io::Error::other("the process that was to keep the lock did not start"))?;
        let pid = u32::from_ne_bytes(pid);
        Ok(Keeper { pid, process: process::open(pid)? })
    }
}

/// The keeper's whole life.
///
/// # Safety
///
/// Only in a forked child. The numbers must be open, and sorted.
unsafe fn keep(guest: i32, told: i32, numbers: &[i32]) -> ! {
    // SAFETY: system calls on numbers and on memory of this process alone.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
        match libc::fork() {
            0 => {}
            -1 => libc::_exit(1),
            _ => libc::_exit(0),
        }
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        libc::prctl(libc::PR_SET_NAME, c"lcr-lock-keeper".as_ptr());
        let mut next: libc::c_uint = 0;
        for number in numbers {
            let number = number.cast_unsigned();
            if number > next && libc::syscall(libc::SYS_close_range, next, number - 1, 0) != 0 {
                libc::_exit(1);
            }
            next = number + 1;
        }
        // What stays open is held: another guest's lock must not be.
        if libc::syscall(libc::SYS_close_range, next, libc::c_uint::MAX, 0) != 0 {
            libc::_exit(1);
        }
        let pid = libc::getpid();
        if libc::write(told, (&raw const pid).cast(), size_of_val(&pid)) != 4 {
            libc::_exit(1);
        }
        libc::close(told);
        let mut wait = libc::pollfd { fd: guest, events: libc::POLLIN, revents: 0 };
        while libc::poll(&raw mut wait, 1, -1) == -1 && *libc::__errno_location() == libc::EINTR {}
        libc::_exit(0)
    }
}
