//! What is made of other types: `Option`, `Result`, tuples, arrays.

use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};

use super::{Abi, Frame, unknown_variant};
use crate::text::Piece;

/// An `Option`: a tag, then the value if there is one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OptionWire<W: Copy> {
    /// 0: none. 1: some.
    pub tag: u32,
    /// The value, if the tag is 1.
    pub value: MaybeUninit<W>,
}

impl<W: Copy> fmt::Debug for OptionWire<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OptionWire({})", self.tag)
    }
}

// SAFETY: the wire is the tag and the value's wire.
unsafe impl<T: Abi> Abi for Option<T> {
    type Wire = OptionWire<T::Wire>;
    type At<'f> = Option<T::At<'f>>;
    const SHAPE: &'static [Piece] = &[Piece::Str("Option<"), Piece::List(T::SHAPE), Piece::Str(">")];
    const BORROWS: bool = T::BORROWS;

    #[inline]
    fn into_wire(self, frame: &Frame) -> Self::Wire {
        match self {
            None => OptionWire { tag: 0, value: MaybeUninit::uninit() },
            Some(value) => OptionWire { tag: 1, value: MaybeUninit::new(value.into_wire(frame)) },
        }
    }

    #[inline]
    unsafe fn from_wire<'f>(wire: Self::Wire, frame: &'f Frame) -> Self::At<'f> {
        match wire.tag {
            0 => None,
            // SAFETY: the tag says that there is a value; the caller's word for it.
            1 => Some(unsafe { T::from_wire(wire.value.assume_init(), frame) }),
            tag => unknown_variant("Option", tag, &["None", "Some"]),
        }
    }

    #[inline]
    fn lend(&self, frame: &Frame) -> Self::Wire {
        match self {
            None => OptionWire { tag: 0, value: MaybeUninit::uninit() },
            Some(value) => OptionWire { tag: 1, value: MaybeUninit::new(value.lend(frame)) },
        }
    }

    #[inline]
    unsafe fn borrow<'f>(wire: Self::Wire, frame: &'f Frame) -> ManuallyDrop<Self::At<'f>> {
        match wire.tag {
            0 => ManuallyDrop::new(None),
            1 => {
                // SAFETY: as for `from_wire`.
                let view = unsafe { T::borrow(wire.value.assume_init(), frame) };
                ManuallyDrop::new(Some(ManuallyDrop::into_inner(view)))
            }
            tag => unknown_variant("Option", tag, &["None", "Some"]),
        }
    }
}

/// A `Result`: a tag, then one of two values in the same place.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ResultWire<W: Copy, E: Copy> {
    /// 0: ok. 1: an error.
    pub tag: u32,
    /// The one that the tag names.
    pub payload: ResultPayload<W, E>,
}

/// What stands behind the tag of a [`ResultWire`].
#[repr(C)]
#[derive(Clone, Copy)]
pub union ResultPayload<W: Copy, E: Copy> {
    /// The value.
    pub ok: W,
    /// The error.
    pub err: E,
}

impl<W: Copy, E: Copy> fmt::Debug for ResultWire<W, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResultWire({})", self.tag)
    }
}

impl<W: Copy, E: Copy> fmt::Debug for ResultPayload<W, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResultPayload")
    }
}

// SAFETY: the wire is the tag and the wire of what the tag names.
unsafe impl<T: Abi, E: Abi> Abi for Result<T, E> {
    type Wire = ResultWire<T::Wire, E::Wire>;
    type At<'f> = Result<T::At<'f>, E::At<'f>>;
    const SHAPE: &'static [Piece] = &[
        Piece::Str("Result<"),
        Piece::List(T::SHAPE),
        Piece::Str(", "),
        Piece::List(E::SHAPE),
        Piece::Str(">"),
    ];
    const BORROWS: bool = T::BORROWS || E::BORROWS;

    #[inline]
    fn into_wire(self, frame: &Frame) -> Self::Wire {
        match self {
            Ok(ok) => ResultWire { tag: 0, payload: ResultPayload { ok: ok.into_wire(frame) } },
            Err(err) => ResultWire { tag: 1, payload: ResultPayload { err: err.into_wire(frame) } },
        }
    }

    #[inline]
    unsafe fn from_wire<'f>(wire: Self::Wire, frame: &'f Frame) -> Self::At<'f> {
        match wire.tag {
            // SAFETY: the tag names the field; the caller's word for what is in it.
            0 => Ok(unsafe { T::from_wire(wire.payload.ok, frame) }),
            // SAFETY: as above.
            1 => Err(unsafe { E::from_wire(wire.payload.err, frame) }),
            tag => unknown_variant("Result", tag, &["Ok", "Err"]),
        }
    }

    #[inline]
    fn lend(&self, frame: &Frame) -> Self::Wire {
        match self {
            Ok(ok) => ResultWire { tag: 0, payload: ResultPayload { ok: ok.lend(frame) } },
            Err(err) => ResultWire { tag: 1, payload: ResultPayload { err: err.lend(frame) } },
        }
    }

    #[inline]
    unsafe fn borrow<'f>(wire: Self::Wire, frame: &'f Frame) -> ManuallyDrop<Self::At<'f>> {
        match wire.tag {
            0 => {
                // SAFETY: as for `from_wire`.
                let view = unsafe { T::borrow(wire.payload.ok, frame) };
                ManuallyDrop::new(Ok(ManuallyDrop::into_inner(view)))
            }
            1 => {
                // SAFETY: as for `from_wire`.
                let view = unsafe { E::borrow(wire.payload.err, frame) };
                ManuallyDrop::new(Err(ManuallyDrop::into_inner(view)))
            }
            tag => unknown_variant("Result", tag, &["Ok", "Err"]),
        }
    }
}

macro_rules! tuples {
    ($($wire:ident: $first:ident $first_at:tt $(, $rest:ident $rest_at:tt)*;)*) => { $(
        /// A tuple.
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct $wire<$first $(, $rest)*>(
            #[doc = "Element 0."] pub $first
            $(, #[doc = concat!("Element ", $rest_at, ".")] pub $rest)*
        );

        // SAFETY: the wire is the elements' wires in their order.
        unsafe impl<$first: Abi $(, $rest: Abi)*> Abi for ($first, $($rest,)*) {
            type Wire = $wire<$first::Wire $(, $rest::Wire)*>;
            type At<'f> = ($first::At<'f>, $($rest::At<'f>,)*);
            const SHAPE: &'static [Piece] = &[
                Piece::Str("("),
                Piece::List($first::SHAPE),
                $(Piece::Str(", "), Piece::List($rest::SHAPE),)*
                tuples!(@end $($rest)*),
            ];
            const BORROWS: bool = $first::BORROWS $(|| $rest::BORROWS)*;

            #[inline]
            fn into_wire(self, frame: &Frame) -> Self::Wire {
                $wire(self.$first_at.into_wire(frame) $(, self.$rest_at.into_wire(frame))*)
            }

            #[inline]
            unsafe fn from_wire<'f>(wire: Self::Wire, frame: &'f Frame) -> Self::At<'f> {
                // SAFETY: the caller's word for each element.
                unsafe {
                    ($first::from_wire(wire.$first_at, frame), $($rest::from_wire(wire.$rest_at, frame),)*)
                }
            }

            #[inline]
            fn lend(&self, frame: &Frame) -> Self::Wire {
                $wire(self.$first_at.lend(frame) $(, self.$rest_at.lend(frame))*)
            }

            #[inline]
            unsafe fn borrow<'f>(wire: Self::Wire, frame: &'f Frame) -> ManuallyDrop<Self::At<'f>> {
                // SAFETY: the caller's word for each element. All are views before
                // the first is unwrapped: a panic drops none.
                let views = unsafe {
                    ($first::borrow(wire.$first_at, frame), $($rest::borrow(wire.$rest_at, frame),)*)
                };
                ManuallyDrop::new((
                    ManuallyDrop::into_inner(views.$first_at),
                    $(ManuallyDrop::into_inner(views.$rest_at),)*
                ))
            }
        }
    )* };
    (@end) => { Piece::Str(",)") };
    (@end $($rest:ident)+) => { Piece::Str(")") };
}

tuples! {
    Tuple1: A 0;
    Tuple2: A 0, B 1;
    Tuple3: A 0, B 1, C 2;
    Tuple4: A 0, B 1, C 2, D 3;
    Tuple5: A 0, B 1, C 2, D 3, E 4;
    Tuple6: A 0, B 1, C 2, D 3, E 4, F 5;
    Tuple7: A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    Tuple8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
}

/// An array, in a structure so that C's rules let it be passed by value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ArrayWire<W, const N: usize>(
    /// The elements.
    pub [W; N],
);

// SAFETY: the wire is the elements' wires in their order; if they are plain, so is
// the array, because an array has no padding of its own.
unsafe impl<T: Abi, const N: usize> Abi for [T; N] {
    type Wire = ArrayWire<T::Wire, N>;
    type At<'f> = [T::At<'f>; N];
    const SHAPE: &'static [Piece] =
        &[Piece::Str("["), Piece::List(T::SHAPE), Piece::Str("; "), Piece::Int(N as i64), Piece::Str("]")];
    const PLAIN: bool = T::PLAIN;
    const BORROWS: bool = T::BORROWS;

    #[inline]
    fn into_wire(self, frame: &Frame) -> Self::Wire {
        ArrayWire(self.map(|value| value.into_wire(frame)))
    }

    #[inline]
    unsafe fn from_wire<'f>(wire: Self::Wire, frame: &'f Frame) -> Self::At<'f> {
        // SAFETY: the caller's word for each element.
        wire.0.map(|wire| unsafe { T::from_wire(wire, frame) })
    }

    #[inline]
    fn lend(&self, frame: &Frame) -> Self::Wire {
        ArrayWire(self.each_ref().map(|value| value.lend(frame)))
    }

    #[inline]
    unsafe fn borrow<'f>(wire: Self::Wire, frame: &'f Frame) -> ManuallyDrop<Self::At<'f>> {
        // SAFETY: the caller's word for each element.
        let views = wire.0.map(|wire| unsafe { T::borrow(wire, frame) });
        // SAFETY: a `ManuallyDrop<T>` has the layout of a `T`; dropping an array of
        // them drops nothing.
        unsafe { std::mem::transmute_copy(&views) }
    }
}
