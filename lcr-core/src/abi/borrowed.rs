//! References: what a call lends.
//!
//! `&str`, and slices and references of plain types, are an address and a length.
//! Any other `&T` and `&[T]` is converted twice: the sender lends each value into
//! an array of wires in its frame, the receiver borrows each into an array of
//! views in its own.

use std::mem::ManuallyDrop;

use super::{Abi, Frame, RawSlice, RawStr, assert_plain, lend_is_copy};
use crate::text::Piece;

// SAFETY: the wire is the text's address and length, of which `RawStr` is the
// fixed layout.
unsafe impl Abi for &str {
    type Wire = RawStr;
    type At<'f> = &'f str;
    const SHAPE: &'static [Piece] = &[Piece::Str("&str")];
    const BORROWS: bool = true;

    #[inline]
    fn into_wire(self, _: &Frame) -> RawStr {
        RawStr::new(self)
    }

    #[inline]
    unsafe fn from_wire<'f>(wire: RawStr, _: &'f Frame) -> Self::At<'f> {
        // SAFETY: a `&str` of the sender, alive as long as the caller uses ours.
        unsafe { wire.as_str() }
    }

    lend_is_copy!();
}

// SAFETY: the wire points at an array of wires, which is the slice itself if its
// elements are plain.
unsafe impl<T: Abi> Abi for &[T] {
    type Wire = RawSlice<T::Wire>;
    type At<'f> = &'f [T::At<'f>];
    const SHAPE: &'static [Piece] = &[Piece::Str("&["), Piece::List(T::SHAPE), Piece::Str("]")];
    const BORROWS: bool = true;

    #[inline]
    fn into_wire(self, frame: &Frame) -> Self::Wire {
        RawSlice::from_parts(lend_all(self, frame), self.len())
    }

    #[inline]
    unsafe fn from_wire<'f>(wire: Self::Wire, frame: &'f Frame) -> Self::At<'f> {
        let (ptr, len) = (wire.as_ptr(), wire.len());
        // SAFETY: the wires are as the caller says, and `borrow_all` returns as
        // many values, which live as long as they and the frame do.
        unsafe { std::slice::from_raw_parts(borrow_all::<T>(ptr, len, frame), len) }
    }

    lend_is_copy!();
}

// SAFETY: the wire points at the value's wire, which is the value itself if it is
// plain.
unsafe impl<T: Abi> Abi for &T {
    type Wire = *const T::Wire;
    type At<'f> = &'f T::At<'f>;
    const SHAPE: &'static [Piece] = &[Piece::Str("&"), Piece::List(T::SHAPE)];
    const BORROWS: bool = true;

    #[inline]
    fn into_wire(self, frame: &Frame) -> Self::Wire {
        lend_all(std::slice::from_ref(self), frame)
    }

    #[inline]
    unsafe fn from_wire<'f>(wire: Self::Wire, frame: &'f Frame) -> Self::At<'f> {
        // SAFETY: as for a slice of one.
        unsafe { &*borrow_all::<T>(wire, 1, frame) }
    }

    lend_is_copy!();
}

/// The wires of `values`: themselves if they are plain, else an array in `frame`.
#[inline]
pub(super) fn lend_all<T: Abi>(values: &[T], frame: &Frame) -> *const T::Wire {
    const { assert_plain::<T>() };
    if T::PLAIN {
        return values.as_ptr().cast();
    }
    let wires = frame.room::<T::Wire>(values.len());
    for (i, value) in values.iter().enumerate() {
        let wire = value.lend(frame);
        // SAFETY: `i` is below the number of wires that there is room for.
        unsafe { wires.add(i).write(wire) };
    }
    wires
}

/// Views of the values that were lent as `len` wires at `wires`: themselves if
/// they are plain, else an array in `frame`.
///
/// # Safety
///
/// As for [`Abi::borrow`], for each of the wires.
#[inline]
pub(super) unsafe fn borrow_all<'f, T: Abi>(
    wires: *const T::Wire,
    len: usize,
    frame: &'f Frame,
) -> *const T::At<'f> {
    const { assert_plain::<T>() };
    if T::PLAIN {
        return wires.cast();
    }
    let views = frame.room::<ManuallyDrop<T::At<'f>>>(len);
    for i in 0..len {
        // SAFETY: the caller's word for each wire; there is room for `len` views.
        unsafe {
            let view = T::borrow(*wires.add(i), frame);
            views.add(i).write(view);
        }
    }
    // `ManuallyDrop` does not change a layout.
    views.cast()
}
