//! Values that are their own bytes: numbers, `bool`, `char`, `()`, `Duration`.

use std::mem::ManuallyDrop;
use std::time::Duration;

use super::{Abi, Frame, lend_is_copy};
use crate::text::Piece;

macro_rules! numbers {
    ($($number:ident)*) => { $(
        // SAFETY: the wire is the number itself; every pattern of bits is one.
        unsafe impl Abi for $number {
            type Wire = $number;
            type At<'f> = $number;
            const SHAPE: &'static [Piece] = &[Piece::Str(stringify!($number))];
            const PLAIN: bool = true;
            const BORROWS: bool = false;

            #[inline]
            fn into_wire(self, _: &Frame) -> Self::Wire {
                self
            }

            #[inline]
            unsafe fn from_wire<'f>(wire: Self::Wire, _: &'f Frame) -> Self::At<'f> {
                wire
            }

            lend_is_copy!();
        }
    )* };
}

numbers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64);

/// A 128-bit integer, aligned as its halves. Compilers have disagreed on how the
/// whole is aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct U128Wire {
    /// The lower 64 bits.
    pub low: u64,
    /// The upper 64 bits.
    pub high: u64,
}

macro_rules! wide_numbers {
    ($($number:ident)*) => { $(
        // SAFETY: the wire is the two halves.
        unsafe impl Abi for $number {
            type Wire = U128Wire;
            type At<'f> = $number;
            const SHAPE: &'static [Piece] = &[Piece::Str(stringify!($number))];
            const BORROWS: bool = false;

            #[inline]
            fn into_wire(self, _: &Frame) -> Self::Wire {
                U128Wire { low: self as u64, high: (self >> 64) as u64 }
            }

            #[inline]
            unsafe fn from_wire<'f>(wire: Self::Wire, _: &'f Frame) -> Self::At<'f> {
                $number::from(wire.low) | (wire.high as $number) << 64
            }

            lend_is_copy!();
        }
    )* };
}

wide_numbers!(u128 i128);

// SAFETY: the wire is 0 or 1, and no other is made a `bool`. Not plain: a byte
// that is neither must be found.
unsafe impl Abi for bool {
    type Wire = u8;
    type At<'f> = bool;
    const SHAPE: &'static [Piece] = &[Piece::Str("bool")];
    const BORROWS: bool = false;

    #[inline]
    fn into_wire(self, _: &Frame) -> Self::Wire {
        u8::from(self)
    }

    #[inline]
    unsafe fn from_wire<'f>(wire: Self::Wire, _: &'f Frame) -> Self::At<'f> {
        match wire {
            0 => false,
            1 => true,
            other => invalid_bool(other),
        }
    }

    lend_is_copy!();
}

#[cold]
fn invalid_bool(wire: u8) -> ! {
    panic!("a `bool` came from another module as {wire}, which is neither 0 nor 1")
}

// SAFETY: the wire is the scalar value's number, and no other is made a `char`.
// Not plain, as `bool`.
unsafe impl Abi for char {
    type Wire = u32;
    type At<'f> = char;
    const SHAPE: &'static [Piece] = &[Piece::Str("char")];
    const BORROWS: bool = false;

    #[inline]
    fn into_wire(self, _: &Frame) -> Self::Wire {
        u32::from(self)
    }

    #[inline]
    unsafe fn from_wire<'f>(wire: Self::Wire, _: &'f Frame) -> Self::At<'f> {
        char::from_u32(wire).unwrap_or_else(|| invalid_char(wire))
    }

    lend_is_copy!();
}

#[cold]
fn invalid_char(wire: u32) -> ! {
    panic!("a `char` came from another module as {wire:#x}, which is no Unicode scalar value")
}

// SAFETY: there is nothing to pass.
unsafe impl Abi for () {
    type Wire = ();
    type At<'f> = ();
    const SHAPE: &'static [Piece] = &[Piece::Str("()")];
    const PLAIN: bool = true;
    const BORROWS: bool = false;

    #[inline]
    fn into_wire(self, _: &Frame) -> Self::Wire {}

    #[inline]
    unsafe fn from_wire<'f>(_: Self::Wire, _: &'f Frame) -> Self::At<'f> {}

    #[inline]
    fn lend(&self, _: &Frame) -> Self::Wire {}

    #[inline]
    unsafe fn borrow<'f>(_: Self::Wire, _: &'f Frame) -> ManuallyDrop<Self::At<'f>> {
        ManuallyDrop::new(())
    }
}

/// A span of time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationWire {
    /// Whole seconds.
    pub secs: u64,
    /// The rest in nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

// SAFETY: the wire is what `as_secs` and `subsec_nanos` say.
unsafe impl Abi for Duration {
    type Wire = DurationWire;
    type At<'f> = Duration;
    const SHAPE: &'static [Piece] = &[Piece::Str("Duration")];
    const BORROWS: bool = false;

    #[inline]
    fn into_wire(self, _: &Frame) -> Self::Wire {
        DurationWire { secs: self.as_secs(), nanos: self.subsec_nanos() }
    }

    #[inline]
    unsafe fn from_wire<'f>(wire: Self::Wire, _: &'f Frame) -> Self::At<'f> {
        check_nanos("Duration", wire.nanos);
        Duration::new(wire.secs, wire.nanos)
    }

    lend_is_copy!();
}

/// Panics if a second's part is a second or more.
#[inline]
pub(super) fn check_nanos(name: &str, nanos: u32) {
    assert!(
        nanos < 1_000_000_000,
        "a `{name}` came from another module with {nanos} nanoseconds in a second"
    );
}
