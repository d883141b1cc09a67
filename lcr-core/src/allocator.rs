//! Whose memory a buffer is.
//!
//! Every library has its own copy of std, and may have its own allocator: what
//! one allocates another must not free. So a buffer that crosses a border names
//! its *owner*, an [`Allocator`]: three functions, and an address that is the
//! allocator's identity. Two modules that share an allocator show the same
//! address, and buffers move between them without a copy.
//!
//! - A host is its own owner: the functions end in its global allocator.
//! - A library that forwards has a global allocator that calls the host's
//!   functions; it [adopts](adopt) the host's identity when it starts.
//! - A library that declares `own_allocator` keeps its own identity.

use std::alloc::{self, Layout};
use std::sync::atomic::{AtomicPtr, Ordering};

/// An allocator as other modules see it. Its address is its identity.
#[repr(C)]
#[derive(Debug)]
pub struct Allocator {
    /// `size` bytes at a multiple of `align`, or null. `size` is not 0.
    pub alloc: unsafe extern "C" fn(size: usize, align: usize) -> *mut u8,
    /// Frees what `alloc` or `realloc` returned, with the size and alignment it has.
    pub dealloc: unsafe extern "C" fn(ptr: *mut u8, size: usize, align: usize),
    /// Changes the size from `old` to `new`, neither 0. Null: the old block stays.
    pub realloc: unsafe extern "C" fn(ptr: *mut u8, old: usize, align: usize, new: usize) -> *mut u8,
}

/// The global allocator of the module that this copy of lcr-core is linked into.
pub(crate) static GLOBAL: Allocator =
    Allocator { alloc: global_alloc, dealloc: global_dealloc, realloc: global_realloc };

/// What [`own`] says.
static OWN: AtomicPtr<Allocator> = AtomicPtr::new((&raw const GLOBAL).cast_mut());

/// The owner of what this module allocates.
#[inline]
#[must_use]
pub fn own() -> *const Allocator {
    // Relaxed: it is set once, before the module can be called.
    OWN.load(Ordering::Relaxed)
}

/// From now on, what this module allocates belongs to `owner`.
///
/// # Safety
///
/// This module's global allocator must allocate and free through `owner`, or do
/// what `owner` does. No buffer that names another owner as this module's may be
/// on its way: it would be freed correctly, but no longer adopted without a copy.
pub unsafe fn adopt(owner: &'static Allocator) {
    OWN.store(std::ptr::from_ref(owner).cast_mut(), Ordering::Relaxed);
}

unsafe extern "C" fn global_alloc(size: usize, align: usize) -> *mut u8 {
    // SAFETY: the caller promises a size above 0; size and alignment are those
    // of a layout that it holds.
    unsafe { alloc::alloc(Layout::from_size_align_unchecked(size, align)) }
}

unsafe extern "C" fn global_dealloc(ptr: *mut u8, size: usize, align: usize) {
    // SAFETY: the block came from `global_alloc` or from this module's global
    // allocator itself, with this layout, by the caller's word.
    unsafe { alloc::dealloc(ptr, Layout::from_size_align_unchecked(size, align)) }
}

unsafe extern "C" fn global_realloc(ptr: *mut u8, old: usize, align: usize, new: usize) -> *mut u8 {
    // SAFETY: as for `global_dealloc`, and `new` is not 0.
    unsafe { alloc::realloc(ptr, Layout::from_size_align_unchecked(old, align), new) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_owns_what_it_allocates_until_it_adopts() {
        assert_eq!(own(), &raw const GLOBAL);
    }

    #[test]
    fn a_block_keeps_its_bytes_when_it_grows() {
        // SAFETY: the layouts are those of the blocks, and no size is 0.
        unsafe {
            let block = ((*own()).alloc)(8, 8);
            assert!(!block.is_null());
            block.cast::<u64>().write(0x0123_4567_89ab_cdef);
            let block = ((*own()).realloc)(block, 8, 8, 64);
            assert_eq!(block.cast::<u64>().read(), 0x0123_4567_89ab_cdef);
            ((*own()).dealloc)(block, 64, 8);
        }
    }
}
