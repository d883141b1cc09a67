//! What belongs to the operating system: paths, descriptors, its clock.

use std::ffi::{OsStr, OsString};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::values::check_nanos;
use super::{Abi, Buffer, Frame, RawSlice, lend_is_copy};
use crate::text::Piece;

// SAFETY: on Unix a path is any bytes: the wire is theirs.
unsafe impl Abi for PathBuf {
    type Wire = Buffer<u8>;
    type At<'f> = PathBuf;
    const SHAPE: &'static [Piece] = &[Piece::Str("PathBuf")];
    const BORROWS: bool = false;

    fn into_wire(self, frame: &Frame) -> Self::Wire {
        self.into_os_string().into_vec().into_wire(frame)
    }

    unsafe fn from_wire<'f>(wire: Self::Wire, frame: &'f Frame) -> Self::At<'f> {
        // SAFETY: the caller's word.
        PathBuf::from(OsString::from_vec(unsafe { Vec::<u8>::from_wire(wire, frame) }))
    }

    fn lend(&self, _: &Frame) -> Self::Wire {
        let bytes = self.as_os_str().as_bytes();
        Buffer::lent(bytes.as_ptr(), bytes.len())
    }

    unsafe fn borrow<'f>(wire: Self::Wire, frame: &'f Frame) -> ManuallyDrop<Self::At<'f>> {
        // SAFETY: the caller's word; the view of the bytes goes into that of the
        // path, and nothing here can panic in between.
        let bytes = ManuallyDrop::into_inner(unsafe { Vec::<u8>::borrow(wire, frame) });
        ManuallyDrop::new(PathBuf::from(OsString::from_vec(bytes)))
    }
}

// SAFETY: as for `PathBuf`.
unsafe impl Abi for &Path {
    type Wire = RawSlice<u8>;
    type At<'f> = &'f Path;
    const SHAPE: &'static [Piece] = &[Piece::Str("&Path")];
    const BORROWS: bool = true;

    fn into_wire(self, _: &Frame) -> Self::Wire {
        RawSlice::new(self.as_os_str().as_bytes())
    }

    unsafe fn from_wire<'f>(wire: Self::Wire, _: &'f Frame) -> Self::At<'f> {
        // SAFETY: the bytes are alive as long as the caller uses the path.
        Path::new(OsStr::from_bytes(unsafe { wire.as_slice() }))
    }

    lend_is_copy!();
}

// SAFETY: a descriptor's number is the whole process's; whoever takes it closes it.
unsafe impl Abi for OwnedFd {
    type Wire = RawFd;
    type At<'f> = OwnedFd;
    const SHAPE: &'static [Piece] = &[Piece::Str("OwnedFd")];
    const BORROWS: bool = false;

    fn into_wire(self, _: &Frame) -> Self::Wire {
        self.into_raw_fd()
    }

    unsafe fn from_wire<'f>(wire: Self::Wire, _: &'f Frame) -> Self::At<'f> {
        check_fd("OwnedFd", wire);
        // SAFETY: an open descriptor that the sender has given up.
        unsafe { OwnedFd::from_raw_fd(wire) }
    }

    fn lend(&self, _: &Frame) -> Self::Wire {
        self.as_raw_fd()
    }

    unsafe fn borrow<'f>(wire: Self::Wire, _: &'f Frame) -> ManuallyDrop<Self::At<'f>> {
        check_fd("OwnedFd", wire);
        // SAFETY: an open descriptor of the sender, which the view does not close.
        ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(wire) })
    }
}

// SAFETY: as for `OwnedFd`, and nobody closes it.
unsafe impl Abi for BorrowedFd<'_> {
    type Wire = RawFd;
    type At<'f> = BorrowedFd<'f>;
    const SHAPE: &'static [Piece] = &[Piece::Str("BorrowedFd")];
    const BORROWS: bool = true;

    fn into_wire(self, _: &Frame) -> Self::Wire {
        self.as_raw_fd()
    }

    unsafe fn from_wire<'f>(wire: Self::Wire, _: &'f Frame) -> Self::At<'f> {
        check_fd("BorrowedFd", wire);
        // SAFETY: a descriptor that is open as long as the caller uses ours.
        unsafe { BorrowedFd::borrow_raw(wire) }
    }

    lend_is_copy!();
}

/// Panics at -1, which Rust's descriptors cannot hold, and at its like.
fn check_fd(name: &str, fd: RawFd) {
    assert!(fd >= 0, "a descriptor (`{name}`) came from another module as {fd}, which is none");
}

/// A time, as Unix counts it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWire {
    /// Whole seconds since 1970, rounded down: negative before it.
    pub secs: i64,
    /// The rest in nanoseconds, below 1,000,000,000, always forward.
    pub nanos: u32,
}

// SAFETY: on Unix a `SystemTime` is a `timespec`, whose seconds and nanoseconds
// the wire holds.
unsafe impl Abi for SystemTime {
    type Wire = TimeWire;
    type At<'f> = SystemTime;
    const SHAPE: &'static [Piece] = &[Piece::Str("SystemTime")];
    const BORROWS: bool = false;

    fn into_wire(self, _: &Frame) -> Self::Wire {
        match self.duration_since(UNIX_EPOCH) {
            Ok(after) => TimeWire { secs: after.as_secs() as i64, nanos: after.subsec_nanos() },
            Err(error) => {
                let before = error.duration();
                // At most 2^63 seconds, which wrap to `i64::MIN` and back.
                let secs = (before.as_secs() as i64).wrapping_neg();
                match before.subsec_nanos() {
                    0 => TimeWire { secs, nanos: 0 },
                    nanos => TimeWire { secs: secs - 1, nanos: 1_000_000_000 - nanos },
                }
            }
        }
    }

    unsafe fn from_wire<'f>(wire: Self::Wire, _: &'f Frame) -> Self::At<'f> {
        check_nanos("SystemTime", wire.nanos);
        let seconds = Duration::from_secs(wire.secs.unsigned_abs());
        let whole = if wire.secs < 0 { UNIX_EPOCH - seconds } else { UNIX_EPOCH + seconds };
        whole + Duration::from_nanos(wire.nanos.into())
    }

    lend_is_copy!();
}
