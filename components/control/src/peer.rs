//! Who is at the other end of a socket.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// The user at the other end, as it was when the connection was made.
///
/// # Errors
///
/// The system's: it is no connected Unix socket.
//
// Not rustix's: its process number may not be 0, and the kernel answers 0 for a
// peer in another PID namespace.
pub fn uid(socket: impl AsFd) -> io::Result<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the call, and `length` says how many bytes
    // may be written to `credentials`, which any bytes are valid for.
    let said = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if said != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(credentials.uid)
}

/// Whether a user may ask for anything: this one, and root.
#[must_use]
pub fn may_ask(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}
