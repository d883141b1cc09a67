//! The control service, as C programs start it.

use std::ffi::{c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lcr_control::{Builder, Running};
use lcr_core::c;

use crate::set_up;

/// `LCR_CONTROL_LEGACY`.
const LEGACY: c_int = 1;
const NOT_STARTED: &str = "the control service does not run: call lcr_control_start";

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

fn running() -> MutexGuard<'static, Option<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the control service.
#[unsafe(no_mangle)]
pub extern "C" fn lcr_control_start(flags: c_int) -> c_int {
    set_up();
    c::answer(|| {
        if flags & !LEGACY != 0 {
            return Err(format!(
                "lcr_control_start was called with flags {flags:#x}, which this lcr does not know"
            ));
        }
        let mut running = running();
        if let Some(running) = &*running {
            return Err(format!("the control service runs already, on {}", running.socket().display()));
        }
        let started = Builder::new().legacy(flags & LEGACY != 0).start();
        *running = Some(started.map_err(|error| error.to_string())?);
        Ok(())
    })
}

/// The socket's path.
///
/// # Safety
///
/// `path` is null, or `size` bytes from there can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcr_control_socket(path: *mut c_char, size: usize) -> c_int {
    c::answer(|| {
        let running = running();
        let socket = running.as_ref().ok_or(NOT_STARTED)?.socket().as_os_str().as_bytes();
        if path.is_null() || size <= socket.len() {
            return Err(format!(
                "the socket's path takes {} bytes, and there is room for {size}",
                socket.len() + 1
            ));
        }
        // SAFETY: the caller's word; it does not overlap with ours.
        unsafe {
            path.copy_from_nonoverlapping(socket.as_ptr().cast(), socket.len());
            path.add(socket.len()).write(0);
        }
        Ok(())
    })
}

/// Stops it.
#[unsafe(no_mangle)]
pub extern "C" fn lcr_control_stop() -> c_int {
    c::answer(|| {
        // Not under the lock: its thread ends first.
        let stopped = running().take();
        stopped.map(drop).ok_or_else(|| NOT_STARTED.to_owned())
    })
}
