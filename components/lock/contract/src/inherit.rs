//! Descriptors that a command's process inherits.
//!
//! Descriptors are closed when a program is executed, unless told otherwise, and it is
//! told in the child, between fork and exec: in the parent another thread could start a
//! program meanwhile, which would inherit the locks as well.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};

/// Has the command's process inherit these, under the numbers that they have here.
/// They must be open when it is started.
pub(crate) fn on_start(command: &mut Command, descriptors: &[OwnedFd]) {
    let numbers: Vec<i32> = descriptors.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
    let inherit = move || {
        for number in &numbers {
            // SAFETY: the caller keeps them open until the process is started, and the
            // child has all that its parent has; a number that is not open is an error.
            fcntl_setfd(unsafe { BorrowedFd::borrow_raw(*number) }, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call for each descriptor, and
    // allocates nothing.
    unsafe { command.pre_exec(inherit) };
}
