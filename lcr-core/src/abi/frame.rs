//! The memory of one call.
//!
//! A borrowed argument that has no wire layout of its own, `&[String]` say, must
//! be converted, and what it is converted into must outlive the call and no more.
//! A [`Frame`] stands on the stack of the caller's proxy, another on that of the
//! component's thunk. It holds blocks of memory and frees them when it is dropped;
//! it never drops what stands in them, because that is wires, which are `Copy`, or
//! views, which own nothing.
//!
//! An unused frame is a null pointer: nothing is allocated, and dropping it is one
//! comparison.

use std::alloc::{self, Layout};
use std::cell::Cell;
use std::fmt;
use std::ptr::{self, NonNull};

/// Keeps alive, until a call returns, what its borrowed arguments were converted into.
pub struct Frame {
    newest: Cell<*mut Block>,
}

/// What stands before the room in a block.
struct Block {
    older: *mut Block,
    layout: Layout,
}

impl Frame {
    /// A frame that holds nothing.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Frame { newest: Cell::new(ptr::null_mut()) }
    }

    /// Room for `count` values, uninitialized, until the frame is dropped.
    ///
    /// The values will not be dropped.
    pub fn room<T>(&self, count: usize) -> *mut T {
        if count == 0 || size_of::<T>() == 0 {
            return NonNull::dangling().as_ptr();
        }
        let room = Layout::array::<T>(count).expect("a converted argument is larger than the address space");
        let (layout, offset) = Layout::new::<Block>().extend(room).expect("as above");
        // SAFETY: the layout holds a `Block`: its size is not 0.
        let start = unsafe { alloc::alloc(layout) };
        if start.is_null() {
            alloc::handle_alloc_error(layout);
        }
        let block = start.cast::<Block>();
        // SAFETY: the block begins with a `Block`, and `offset` is where `extend`
        // put the array, both in the allocation and aligned.
        unsafe {
            block.write(Block { older: self.newest.get(), layout });
            self.newest.set(block);
            start.add(offset).cast()
        }
    }

    /// Frees every block.
    #[cold]
    fn free(&mut self) {
        let mut next = self.newest.get();
        while !next.is_null() {
            // SAFETY: the list holds only blocks that `room` allocated and wrote,
            // and the frame is being dropped: nobody will walk it again.
            unsafe {
                let Block { older, layout } = next.read();
                alloc::dealloc(next.cast(), layout);
                next = older;
            }
        }
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        if !self.newest.get().is_null() {
            self.free();
        }
    }
}

impl Default for Frame {
    fn default() -> Self {
        Frame::new()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.newest.get().is_null() { "Frame (unused)" } else { "Frame (in use)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_word() {
        assert_eq!(size_of::<Frame>(), size_of::<usize>());
    }

    #[test]
    fn rooms_are_apart_and_aligned() {
        #[repr(align(64))]
        struct Wide([u8; 64]);

        let frame = Frame::new();
        let bytes = frame.room::<u8>(3);
        let wide = frame.room::<Wide>(2);
        assert!(wide.is_aligned());
        // SAFETY: each room has place for what is written into it.
        unsafe {
            bytes.write_bytes(1, 3);
            wide.write_bytes(2, 2);
            assert_eq!(*bytes.add(2), 1);
            assert_eq!((*wide.add(1)).0, [2; 64]);
        }
    }

    #[test]
    fn room_for_nothing_allocates_nothing() {
        let frame = Frame::new();
        assert!(frame.room::<u64>(0).is_aligned());
        assert!(frame.room::<[u64; 0]>(9).is_aligned());
        assert!(frame.newest.get().is_null());
    }
}
