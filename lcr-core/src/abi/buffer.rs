//! Owned memory: `String`, `Vec`, `Box`.
//!
//! A buffer crosses as its address, length, capacity and owner. If the receiver
//! allocates from the same owner it takes the buffer as it is. If not, it copies
//! the contents and has the owner free the buffer before the conversion returns:
//! afterwards nothing of the receiver points into the sender's heap.
//!
//! The elements of a vector that is not plain are converted one by one, into a
//! new buffer of wires; what the elements own moves as it would alone, so the
//! texts of a `Vec<String>` stay where they are.
//!
//! A lent buffer has neither capacity nor owner: a view takes nothing.

use std::mem::ManuallyDrop;
use std::ptr;

use super::borrowed::{borrow_all, lend_all};
use super::{Abi, Frame};
use crate::allocator::{self, Allocator};
use crate::text::Piece;

/// An owned array on its way to another module.
#[repr(C)]
#[derive(Debug)]
pub struct Buffer<W> {
    /// The first element; aligned and not null, also if there is none.
    pub ptr: *mut W,
    /// How many elements there are.
    pub len: usize,
    /// For how many there is room. With 0, or elements without size, nothing is allocated.
    pub cap: usize,
    /// Who frees it; null if it is only lent.
    pub owner: *const Allocator,
}

impl<W> Clone for Buffer<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Buffer<W> {}

impl<W: Copy> Buffer<W> {
    /// Gives a vector up.
    #[inline]
    fn give(values: Vec<W>) -> Self {
        let mut values = ManuallyDrop::new(values);
        Buffer {
            ptr: values.as_mut_ptr(),
            len: values.len(),
            cap: values.capacity(),
            owner: allocator::owner_of(values.as_ptr().cast()),
        }
    }

    /// Takes the buffer as a vector, with a copy if another module owns it.
    ///
    /// # Safety
    ///
    /// The buffer comes from `give`, in this module or another, and is taken once.
    #[inline]
    unsafe fn take(self) -> Vec<W> {
        if self.owner == allocator::own() {
            // SAFETY: the vector that `give` took apart, whose allocator is this
            // module's.
            return unsafe { Vec::from_raw_parts(self.ptr, self.len, self.cap) };
        }
        let held = Held(self);
        // SAFETY: `len` elements stand in the buffer until it is freed.
        let values = unsafe { std::slice::from_raw_parts(self.ptr, self.len) }.to_vec();
        drop(held);
        values
    }

    /// A buffer that is only lent.
    #[inline]
    pub(super) fn lent(ptr: *const W, len: usize) -> Self {
        Buffer { ptr: ptr.cast_mut(), len, cap: len, owner: ptr::null() }
    }
}

/// A buffer whose memory is freed by its owner when this is dropped. Its elements
/// are not looked at.
struct Held<W>(Buffer<W>);

impl<W> Drop for Held<W> {
    fn drop(&mut self) {
        let Buffer { ptr, cap, owner, .. } = self.0;
        let size = cap * size_of::<W>();
        if size != 0 {
            // SAFETY: the owner's allocation of `cap` elements, freed once; the
            // module whose allocator it is stays mapped while it is called.
            unsafe { ((*owner).dealloc)(ptr.cast(), size, align_of::<W>()) };
        }
    }
}

/// The same vector, with another type for its elements.
///
/// # Safety
///
/// The bytes of an `A` must be those of a `B`.
#[inline]
unsafe fn cast<A, B>(values: Vec<A>) -> Vec<B> {
    assert!(size_of::<A>() == size_of::<B>() && align_of::<A>() == align_of::<B>());
    let mut values = ManuallyDrop::new(values);
    // SAFETY: the allocation is the vector's, of the same size and alignment for
    // either type; the elements are the caller's word.
    unsafe { Vec::from_raw_parts(values.as_mut_ptr().cast(), values.len(), values.capacity()) }
}

// SAFETY: the wire is a buffer of wires, which are the elements themselves if they
// are plain. A view is a vector over lent elements: that `Vec`'s capacity and
// allocator are not those of its memory matters only when it grows or is dropped,
// and behind a shared reference it does neither.
unsafe impl<T: Abi> Abi for Vec<T> {
    type Wire = Buffer<T::Wire>;
    type At<'f> = Vec<T::At<'f>>;
    const SHAPE: &'static [Piece] = &[Piece::Str("Vec<"), Piece::List(T::SHAPE), Piece::Str(">")];
    const BORROWS: bool = T::BORROWS;

    #[inline]
    fn into_wire(self, frame: &Frame) -> Self::Wire {
        if T::PLAIN {
            // SAFETY: the elements are plain: their bytes are their wires'.
            return Buffer::give(unsafe { cast(self) });
        }
        Buffer::give(self.into_iter().map(|value| value.into_wire(frame)).collect())
    }

    #[inline]
    unsafe fn from_wire<'f>(wire: Self::Wire, frame: &'f Frame) -> Self::At<'f> {
        if T::PLAIN {
            // SAFETY: the caller's word, and a plain element is what its wire's
            // bytes are.
            return unsafe { cast(wire.take()) };
        }
        // The wires' memory goes back to its owner also if a wire is invalid; then
        // what the wires after it hold is lost.
        let held = Held(wire);
        let mut values = Vec::with_capacity(wire.len);
        for i in 0..wire.len {
            // SAFETY: each wire is taken once; the caller's word for the rest.
            values.push(unsafe { T::from_wire(*wire.ptr.add(i), frame) });
        }
        drop(held);
        values
    }

    #[inline]
    fn lend(&self, frame: &Frame) -> Self::Wire {
        Buffer::lent(lend_all(self, frame), self.len())
    }

    #[inline]
    unsafe fn borrow<'f>(wire: Self::Wire, frame: &'f Frame) -> ManuallyDrop<Self::At<'f>> {
        // SAFETY: `len` values are there, and they are not dropped. See above.
        unsafe {
            let values = borrow_all::<T>(wire.ptr, wire.len, frame);
            ManuallyDrop::new(Vec::from_raw_parts(values.cast_mut(), wire.len, wire.len))
        }
    }
}

// SAFETY: as for `Vec<u8>`.
unsafe impl Abi for String {
    type Wire = Buffer<u8>;
    type At<'f> = String;
    const SHAPE: &'static [Piece] = &[Piece::Str("String")];
    const BORROWS: bool = false;

    #[inline]
    fn into_wire(self, frame: &Frame) -> Self::Wire {
        self.into_bytes().into_wire(frame)
    }

    #[inline]
    unsafe fn from_wire<'f>(wire: Self::Wire, frame: &'f Frame) -> Self::At<'f> {
        // SAFETY: the bytes of a `String` of the sender.
        unsafe { String::from_utf8_unchecked(Vec::<u8>::from_wire(wire, frame)) }
    }

    #[inline]
    fn lend(&self, _: &Frame) -> Self::Wire {
        Buffer::lent(self.as_ptr(), self.len())
    }

    #[inline]
    unsafe fn borrow<'f>(wire: Self::Wire, _: &'f Frame) -> ManuallyDrop<Self::At<'f>> {
        // SAFETY: the bytes of a `String` of the sender; a view as for `Vec`.
        ManuallyDrop::new(unsafe { String::from_raw_parts(wire.ptr, wire.len, wire.len) })
    }
}

// SAFETY: a box is a vector of one. Its view is a box in the frame: a `Box` must
// not share its memory, not even to be read.
unsafe impl<T: Abi> Abi for Box<T> {
    type Wire = Buffer<T::Wire>;
    type At<'f> = Box<T::At<'f>>;
    const SHAPE: &'static [Piece] = &[Piece::Str("Box<"), Piece::List(T::SHAPE), Piece::Str(">")];
    const BORROWS: bool = T::BORROWS;

    fn into_wire(self, frame: &Frame) -> Self::Wire {
        let one = Box::into_raw(self).cast::<[T; 1]>();
        // SAFETY: an array of one has the layout of its element.
        let one: Box<[T]> = unsafe { Box::from_raw(one) };
        one.into_vec().into_wire(frame)
    }

    unsafe fn from_wire<'f>(wire: Self::Wire, frame: &'f Frame) -> Self::At<'f> {
        // SAFETY: `into_wire` made it of a vector; the caller's word for the rest.
        let one = unsafe { Vec::<T>::from_wire(wire, frame) };
        let Ok(one) = Box::<[T::At<'f>; 1]>::try_from(one.into_boxed_slice()) else {
            panic!("a `Box` came from another module with {} values instead of one", wire.len);
        };
        // SAFETY: as in `into_wire`.
        unsafe { Box::from_raw(Box::into_raw(one).cast()) }
    }

    fn lend(&self, frame: &Frame) -> Self::Wire {
        Buffer::lent(lend_all(std::slice::from_ref(&**self), frame), 1)
    }

    unsafe fn borrow<'f>(wire: Self::Wire, frame: &'f Frame) -> ManuallyDrop<Self::At<'f>> {
        let room = frame.room::<ManuallyDrop<T::At<'f>>>(1);
        // SAFETY: one value was lent. The view stands in room of its own, to which
        // nothing else points, and is neither dropped nor freed through the box.
        unsafe {
            room.write(T::borrow(*wire.ptr, frame));
            ManuallyDrop::new(Box::from_raw(room.cast()))
        }
    }
}
