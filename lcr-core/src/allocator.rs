//! Whose memory it is.
//!
//! An owned buffer crosses the border with the allocator that must free it. A
//! library that `library!` made uses the program's allocator for everything
//! ([`Forward`] is its global allocator), so that a `String` can change hands
//! without a copy; a library that declares `own_allocator` has another one, and
//! its buffers are copied and freed by their owner.
//!
//! Invariants: [`own`] answers the same pointer in two modules exactly when a
//! block from one may be freed by the other, except for the few blocks that a
//! library's ELF constructors allocated before the program handed over its
//! services. Those stand in an arena inside the library, are recognised by
//! address, and [`owner_of`] names their owner.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// An allocator as a table of functions; its address is its identity.
///
/// `align` is a power of two and `size` is not zero, as for [`GlobalAlloc`].
#[repr(C)]
#[derive(Debug)]
pub struct Allocator {
    /// A new block, or null.
    pub alloc: unsafe extern "C" fn(size: usize, align: usize) -> *mut u8,
    /// Frees a block.
    pub dealloc: unsafe extern "C" fn(block: *mut u8, size: usize, align: usize),
    /// Changes a block's size, or answers null and leaves the block alone.
    pub realloc: unsafe extern "C" fn(block: *mut u8, size: usize, align: usize, new: usize) -> *mut u8,
    /// A new block of zeros, or null.
    pub alloc_zeroed: unsafe extern "C" fn(size: usize, align: usize) -> *mut u8,
}

/// Makes the table of an allocator from four expressions over `Layout`s.
macro_rules! table {
    ($alloc:expr, $dealloc:expr, $realloc:expr, $zeroed:expr) => {{
        unsafe extern "C" fn alloc(size: usize, align: usize) -> *mut u8 {
            // SAFETY: the caller passes what was a layout's size and alignment.
            unsafe { $alloc(Layout::from_size_align_unchecked(size, align)) }
        }
        unsafe extern "C" fn dealloc(block: *mut u8, size: usize, align: usize) {
            // SAFETY: as above, and the block came from this table.
            unsafe { $dealloc(block, Layout::from_size_align_unchecked(size, align)) }
        }
        unsafe extern "C" fn realloc(block: *mut u8, size: usize, align: usize, new: usize) -> *mut u8 {
            // SAFETY: as above.
            unsafe { $realloc(block, Layout::from_size_align_unchecked(size, align), new) }
        }
        unsafe extern "C" fn alloc_zeroed(size: usize, align: usize) -> *mut u8 {
            // SAFETY: as for `alloc`.
            unsafe { $zeroed(Layout::from_size_align_unchecked(size, align)) }
        }
        Allocator { alloc, dealloc, realloc, alloc_zeroed }
    }};
}

/// This module's global allocator, whichever it is.
pub(crate) static GLOBAL: Allocator =
    table!(std::alloc::alloc, std::alloc::dealloc, std::alloc::realloc, std::alloc::alloc_zeroed);

/// The C library's allocator: what [`Forward`] falls back to when no program
/// hands over its own.
static SYSTEM: Allocator = table!(
    |layout| System.alloc(layout),
    |block, layout| System.dealloc(block, layout),
    |block, layout, new| System.realloc(block, layout, new),
    |layout| System.alloc_zeroed(layout)
);

/// Where [`Forward`] sends its requests: null while that is not yet decided, then
/// [`SYSTEM`] or the program's allocator, for ever.
static TARGET: AtomicPtr<Allocator> = AtomicPtr::new(null_mut());

/// What [`own`] says.
static OWN: AtomicPtr<Allocator> = AtomicPtr::new((&raw const GLOBAL).cast_mut());

/// The identity of the allocator behind this module's `Box`, `String` and `Vec`.
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

/// The allocator that must free `block`, a block of this module: [`own`], but for
/// the blocks that a library's ELF constructors allocated.
#[inline]
#[must_use]
pub fn owner_of(block: *const u8) -> *const Allocator {
    if ARENA.holds(block) { &raw const GLOBAL } else { own() }
}

/// Decides where a library's allocations go. Has no effect if [`Forward`] is not
/// the global allocator, except on [`own`]: call it only where it is.
pub(crate) fn forward_to(host: *const Allocator) {
    // Fails when constructors overflowed the arena: the library then stays with the
    // C library's allocator, and `own` says so.
    if TARGET.compare_exchange(null_mut(), host.cast_mut(), Ordering::AcqRel, Ordering::Acquire).is_ok() {
        OWN.store(host.cast_mut(), Ordering::Relaxed);
    }
}

/// The global allocator of a library: the program's.
///
/// `library!` installs it. Until the program's services arrive, which is while
/// ELF constructors run, blocks come from an arena in the library itself; should
/// that overflow (or nobody ever hand services over, because the crate was linked
/// into a program), the C library's allocator serves from then on.
#[derive(Debug)]
pub struct Forward;

// SAFETY: every block comes from the arena, which is recognised by address, or
// from the one target, which never changes once it is decided.
unsafe impl GlobalAlloc for Forward {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match target() {
            // SAFETY: the target lives as long as the process; the layout is the caller's.
            Some(to) => unsafe { (to.alloc)(layout.size(), layout.align()) },
            None => early(layout),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if ARENA.holds(block) {
            return;
        }
        if let Some(to) = target() {
            // SAFETY: not from the arena, thus from the target.
            unsafe { (to.dealloc)(block, layout.size(), layout.align()) }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        if !ARENA.holds(block)
            && let Some(to) = target()
        {
            // SAFETY: not from the arena, thus from the target.
            return unsafe { (to.realloc)(block, layout.size(), layout.align(), new) };
        }
        // SAFETY: `new` is the caller's, not zero, and does not overflow with this alignment.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(new, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both blocks are at least that long, and distinct.
            unsafe { block.copy_to_nonoverlapping(moved, layout.size().min(new)) };
        }
        moved
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match target() {
            // SAFETY: as for `alloc`.
            Some(to) => unsafe { (to.alloc_zeroed)(layout.size(), layout.align()) },
            // The arena is zero where it has not been used, and is never used twice.
            None => early(layout),
        }
    }
}

fn target() -> Option<&'static Allocator> {
    // SAFETY: null, `SYSTEM`, or the program's table, which outlives this module.
    unsafe { TARGET.load(Ordering::Acquire).as_ref() }
}

/// A block of zeros before the target is decided; decides when the arena is full.
#[cold]
fn early(layout: Layout) -> *mut u8 {
    if let Some(block) = ARENA.take(layout) {
        return block;
    }
    let system: *const Allocator = &raw const SYSTEM;
    let _ = TARGET.compare_exchange(null_mut(), system.cast_mut(), Ordering::AcqRel, Ordering::Acquire);
    match target() {
        // SAFETY: as for `Forward::alloc`.
        Some(to) => unsafe { (to.alloc_zeroed)(layout.size(), layout.align()) },
        None => null_mut(),
    }
}

const ARENA_SIZE: usize = 64 * 1024;

#[repr(C, align(64))]
struct Arena {
    bytes: UnsafeCell<[u8; ARENA_SIZE]>,
    used: AtomicUsize,
}

// SAFETY: `take` hands out each byte once.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena { bytes: UnsafeCell::new([0; ARENA_SIZE]), used: AtomicUsize::new(0) };

impl Arena {
    fn holds(&self, block: *const u8) -> bool {
        block.addr().wrapping_sub(self.bytes.get().addr()) < ARENA_SIZE
    }

    fn take(&self, layout: Layout) -> Option<*mut u8> {
        let base = self.bytes.get().addr();
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let start = (base + used).next_multiple_of(layout.align()) - base;
            let end = start.checked_add(layout.size()).filter(|&end| end <= ARENA_SIZE)?;
            match self.used.compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed) {
                // SAFETY: `start` lies within the arena.
                Ok(_) => return Some(unsafe { self.bytes.get().cast::<u8>().add(start) }),
                Err(now) => used = now,
            }
        }
    }
}
