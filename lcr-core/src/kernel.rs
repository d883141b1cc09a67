//! The system calls of the gate: sleeping and waking on a word, `membarrier`, the timer's
//! slack and the thread's number.
//!
//! By libc, which is small: a program that loads no libraries needs no rustix then, which
//! takes a clean build as long as all its other dependencies but syn.

#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) use linux::{private_barrier, register_private_barrier, set_timer_slack, timer_slack};
#[cfg(target_os = "linux")]
pub(crate) use linux::{wait, wake};

/// The kernel's number of the calling thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: answers a number; there is nothing that it could touch.
    unsafe { libc::gettid() }
}

#[cfg(target_os = "linux")]
#[cfg_attr(miri, allow(dead_code, reason = "it knows the futex alone"))]
mod linux {
    use std::io;
    use std::ptr;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    /// Sleeps while `word` is `seen`, or for so long. Who is woken looks again: it may have
    /// been for nothing.
    pub(crate) fn wait(word: &AtomicU32, seen: u32, longest: Option<Duration>) {
        let longest = longest.map(|longest| libc::timespec {
            tv_sec: longest.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: longest.subsec_nanos().into(),
        });
        let longest = longest.as_ref().map_or(ptr::null(), ptr::from_ref);
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word and the time are borrowed for the call, which only reads them.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, seen, longest) };
    }

    /// Wakes at most `count` of those who sleep on `word`.
    pub(crate) fn wake(word: &AtomicU32, count: i32) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word's address is a name here: nothing is read or written.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, count) };
    }

    fn membarrier(command: libc::c_int) -> io::Result<libc::c_long> {
        // SAFETY: the commands that are used here take no memory of ours.
        match unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } {
            -1 => Err(io::Error::last_os_error()),
            answer => Ok(answer),
        }
    }

    /// Has the process registered for [`private_barrier`], if the kernel knows it.
    pub(crate) fn register_private_barrier() -> io::Result<()> {
        let known = membarrier(libc::MEMBARRIER_CMD_QUERY)?;
        if known & libc::c_long::from(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED).map(drop)
    }

    /// A full memory barrier on every thread of the process that is running.
    pub(crate) fn private_barrier() -> io::Result<()> {
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED).map(drop)
    }

    /// By how many nanoseconds the kernel may prolong a sleep of this thread.
    pub(crate) fn timer_slack() -> Option<libc::c_ulong> {
        // SAFETY: answers a number.
        let slack = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
        libc::c_ulong::try_from(slack).ok()
    }

    /// Sets it.
    pub(crate) fn set_timer_slack(nanoseconds: libc::c_ulong) {
        // SAFETY: a number for this thread alone.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) };
    }
}
