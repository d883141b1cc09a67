//! The cells that threads write into: blocks of eight, one block a thread.
//!
//! Blocks live in chunks that are never freed, so that a replacer may look into
//! any of them at any time, and that a guard may be dropped after its thread's
//! locals are gone. A thread takes a block at its first call and gives it back
//! when it ends. One that nests deeper than eight gates takes another, chained
//! to the first.
//!
//! A block's `owner` is one word, so that no step of its life can be half seen:
//!
//! | state | meaning |
//! |---|---|
//! | free | anyone may take it |
//! | taken | the block of a thread that lives, or ended without running its destructors |
//! | lingering | nobody enters through it any more; free as soon as its cells are empty |
//!
//! Lingering is what remains of a call made while the thread's locals are being
//! destroyed (nothing will run afterwards that could give a block back), and of
//! a guard that outlives its thread's block. Leaving is one store in every case.

use std::cell::Cell;
use std::ptr::{self, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use crate::kernel;

/// Cells a block.
pub(super) const CELLS: usize = 8;
/// Blocks a chunk.
const BLOCKS: usize = 32;

/// Two cache lines: processors fetch lines in pairs.
#[repr(C, align(128))]
pub(super) struct Block {
    cells: [AtomicUsize; CELLS],
    owner: AtomicU64,
    /// The block that this one overflows into.
    next: AtomicPtr<Block>,
}

struct Chunk {
    blocks: [Block; BLOCKS],
    next: *mut Chunk,
}

static CHUNKS: AtomicPtr<Chunk> = AtomicPtr::new(null_mut());

const FREE: u64 = 0;
const TAKEN: u64 = 1;
const LINGERING: u64 = 2;
const STATE: u64 = 3;

/// An owner's word: process, thread, state.
fn owned(pid: u32, tid: u32, state: u64) -> u64 {
    u64::from(pid) << 32 | u64::from(tid) << 2 | state
}

fn tid_of(owner: u64) -> u32 {
    (owner as u32) >> 2
}

fn pid_of(owner: u64) -> u32 {
    (owner >> 32) as u32
}

fn pid() -> u32 {
    std::process::id()
}

/// The kernel's number of the calling thread.
pub(super) fn tid() -> u32 {
    kernel::thread_id().cast_unsigned()
}

impl Block {
    const fn new() -> Self {
        Block {
            cells: [const { AtomicUsize::new(0) }; CELLS],
            owner: AtomicU64::new(FREE),
            next: AtomicPtr::new(null_mut()),
        }
    }

    const fn occupied() -> Self {
        Block { cells: [const { AtomicUsize::new(1) }; CELLS], ..Block::new() }
    }

    fn is_empty(&self) -> bool {
        self.cells.iter().all(|c| c.load(Ordering::Acquire) == 0)
    }

    fn free_cell(&self) -> Option<&AtomicUsize> {
        self.cells.iter().find(|c| c.load(Ordering::Relaxed) == 0)
    }

    fn next(&self) -> Option<&'static Block> {
        // SAFETY: null, or a block of a chunk; chunks are never freed.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }

    /// Makes the block someone else's, as soon as that may be.
    fn give_back(&self, pid: u32, tid: u32) {
        self.next.store(null_mut(), Ordering::Relaxed);
        let then = if self.is_empty() { FREE } else { owned(pid, tid, LINGERING) };
        self.owner.store(then, Ordering::Release);
    }
}

/// What a thread points to that has not called yet: all cells look occupied, so
/// that the fast way needs no test for "no block".
static FRESH: Block = Block::occupied();
/// What a thread points to whose block was given back.
static ENDED: Block = Block::occupied();

thread_local! {
    /// The calling thread's first block. Without `Drop`: usable at any time in
    /// the thread's life, and at a fixed distance from the thread pointer.
    static BLOCK: Cell<*const Block> = const { Cell::new(&raw const FRESH) };
    /// Touched when a block is taken: gives it back when the thread ends.
    static GIVE_BACK: GiveBack = const { GiveBack };
    /// Which thread the one that forks was, in the parent.
    static FORKING: Cell<u32> = const { Cell::new(0) };
}

struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        let mut block = own_first();
        BLOCK.set(&raw const ENDED);
        let (pid, tid) = (pid(), tid());
        while let Some(this) = block {
            block = this.next();
            this.give_back(pid, tid);
        }
    }
}

/// The thread's first block, if it has one.
#[inline]
fn own_first() -> Option<&'static Block> {
    let block = BLOCK.get();
    if ptr::eq(block, &raw const FRESH) || ptr::eq(block, &raw const ENDED) {
        return None;
    }
    // SAFETY: only blocks of chunks are stored besides the two; never freed.
    Some(unsafe { &*block })
}

/// The address of the first cell of the calling thread, or of something that
/// looks occupied; `offset` is [`super::barrier::TLS_OFFSET`]'s value.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux", not(miri)))]
#[inline(always)]
pub(super) fn first_cell_at(offset: isize) -> *const AtomicUsize {
    let cell;
    // SAFETY: `offset` is 0, where the ABI puts the thread pointer itself (System
    // V, x86-64, variant II), or was found to lead to `BLOCK` in the executable's
    // static TLS, which every thread has at the same distance.
    unsafe {
        core::arch::asm!(
            "mov {cell}, qword ptr fs:[{offset}]",
            offset = in(reg) offset,
            cell = lateout(reg) cell,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    cell
}

/// How far `BLOCK` lies from the thread pointer, where that is the same for
/// every thread: if this copy of the crate is in the executable. Else 0.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux", not(miri)))]
pub(super) fn offset_from_thread_pointer() -> isize {
    unsafe extern "C" fn first_object(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        size_of_tls: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: dl_iterate_phdr gives a valid description, with `dlpi_phnum`
        // program headers behind `dlpi_phdr`.
        let headers = unsafe {
            let info = &*info;
            std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum))
        };
        if let Some(tls) = headers.iter().find(|h| h.p_type == libc::PT_TLS) {
            let align = usize::try_from(tls.p_align).unwrap_or(1).max(1);
            let size = usize::try_from(tls.p_memsz).unwrap_or(0);
            // SAFETY: the caller below passes its own `usize`.
            unsafe { *size_of_tls.cast::<usize>() = size.next_multiple_of(align) };
        }
        1 // The first object is the executable; no other is wanted.
    }
    let mut size = 0usize;
    // SAFETY: the callback keeps to its contract, and `size` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(first_object), (&raw mut size).cast()) };

    let block = BLOCK.with(|b| ptr::from_ref(b).addr());
    let thread_pointer = first_cell_at(0).addr();
    let offset = block.wrapping_sub(thread_pointer).cast_signed();
    // The executable's thread-locals end where the thread pointer points.
    let inside = offset < 0 && offset.unsigned_abs() <= size;
    if inside && ptr::eq(first_cell_at(offset).cast(), BLOCK.get()) { offset } else { 0 }
}

#[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux", not(miri))))]
pub(super) fn offset_from_thread_pointer() -> isize {
    0
}

/// Every block there is.
pub(super) fn blocks() -> impl Iterator<Item = &'static Block> {
    let mut chunk = CHUNKS.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: null, or a chunk, which is never freed nor changed but for
        // the atomics in it.
        let this: &'static Chunk = unsafe { chunk.as_ref()? };
        chunk = this.next;
        Some(this.blocks.iter())
    })
    .flatten()
}

/// Takes a block: one that is free, or a new one. Its cells are empty.
fn take() -> &'static Block {
    let (pid, tid) = (pid(), tid());
    let me = owned(pid, tid, TAKEN);
    let take_if = |block: &Block, may: &dyn Fn(u64) -> bool| {
        let owner = block.owner.load(Ordering::Relaxed);
        if !may(owner) || !block.is_empty() {
            return false;
        }
        if block.owner.compare_exchange(owner, me, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return false;
        }
        // The same word may have stood for another stay in between.
        if !block.is_empty() {
            block.owner.store(owner, Ordering::Release);
            return false;
        }
        block.next.store(null_mut(), Ordering::Relaxed);
        true
    };
    if let Some(block) = blocks().find(|b| take_if(b, &|owner| owner & STATE != TAKEN)) {
        return block;
    }
    // Before memory grows: blocks of threads that ended without a word.
    let abandoned = |owner: u64| owner & STATE == TAKEN && pid_of(owner) == pid && is_gone(tid_of(owner));
    if let Some(block) = blocks().find(|b| take_if(b, &abandoned)) {
        return block;
    }
    let chunk = Box::into_raw(Box::new(Chunk { blocks: [const { Block::new() }; BLOCKS], next: null_mut() }));
    // SAFETY: just made, leaked, and nobody else's yet.
    let block: &'static Block = unsafe { &(&(*chunk).blocks)[0] };
    block.owner.store(me, Ordering::Relaxed);
    let mut head = CHUNKS.load(Ordering::Acquire);
    loop {
        // SAFETY: the chunk is not yet in the list, so nobody reads `next`.
        unsafe { (*chunk).next = head };
        match CHUNKS.compare_exchange(head, chunk, Ordering::SeqCst, Ordering::Acquire) {
            Ok(_) => return block,
            Err(now) => head = now,
        }
    }
}

/// Runs `enter` with an empty cell of the calling thread, which is in use
/// afterwards if `enter` says so.
#[inline]
pub(super) fn in_free_cell(enter: impl FnOnce(&AtomicUsize) -> bool) -> Option<&'static AtomicUsize> {
    if let Some(first) = own_first().or_else(claim) {
        let cell = free_cell_from(first);
        return enter(cell).then_some(cell);
    }
    // The thread's locals are being destroyed: borrow a block for this one call.
    let block = take();
    let cell = &block.cells[0];
    let entered = enter(cell);
    block.give_back(pid(), tid());
    entered.then_some(cell)
}

/// Gives the thread its first block; not if it could not be given back.
#[cold]
fn claim() -> Option<&'static Block> {
    if ptr::eq(BLOCK.get(), &raw const ENDED) || GIVE_BACK.try_with(|_| ()).is_err() {
        return None;
    }
    let block = take();
    BLOCK.set(block);
    Some(block)
}

#[inline]
fn free_cell_from(first: &'static Block) -> &'static AtomicUsize {
    let mut block = first;
    loop {
        if let Some(cell) = block.free_cell() {
            return cell;
        }
        block = match block.next() {
            Some(next) => next,
            None => {
                let more = take();
                block.next.store(ptr::from_ref(more).cast_mut(), Ordering::Release);
                more
            }
        };
    }
}

/// Whether `is` holds for one of the calling thread's occupied cells and the
/// address in it.
pub(super) fn own_cells_any(is: impl Fn(&AtomicUsize, usize) -> bool) -> bool {
    let any = |block: &Block| {
        block.cells.iter().any(|c| {
            let v = c.load(Ordering::Relaxed);
            v != 0 && is(c, v)
        })
    };
    let mut block = own_first();
    while let Some(this) = block {
        if any(this) {
            return true;
        }
        block = this.next();
    }
    if !ptr::eq(BLOCK.get(), &raw const ENDED) {
        return false;
    }
    // Calls that the thread made, or did not leave, while its locals went.
    let me = owned(pid(), tid(), LINGERING);
    blocks().any(|b| b.owner.load(Ordering::Acquire) == me && any(b))
}

/// An occupied cell.
#[derive(Clone, Copy)]
pub(super) struct Occupied {
    pub(super) cell: *const AtomicUsize,
    pub(super) instance: usize,
    pub(super) tid: u32,
}

/// Looks into every cell there is.
pub(super) fn each_occupied(mut found: impl FnMut(Occupied)) {
    for block in blocks() {
        for cell in &block.cells {
            let instance = cell.load(Ordering::Acquire);
            if instance != 0 {
                found(Occupied { cell, instance, tid: tid_of(block.owner.load(Ordering::Relaxed)) });
            }
        }
    }
}

/// Whether the process has no thread of that number. Unsure means no.
pub(super) fn is_gone(tid: u32) -> bool {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        let Ok(pid) = libc::pid_t::try_from(pid()) else { return false };
        let Ok(tid) = libc::pid_t::try_from(tid) else { return false };
        // SAFETY: signal 0 sends nothing, it only asks.
        let answer = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) };
        answer == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    {
        let _ = tid;
        false
    }
}

/// Has a child of `fork` forget the threads that it does not have.
pub(super) fn survive_fork() {
    #[cfg(not(miri))]
    {
        extern "C" fn prepare() {
            FORKING.set(tid());
        }
        extern "C" fn child() {
            after_fork(FORKING.get());
            super::hold::after_fork(FORKING.get());
        }
        static ONCE: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
        if !ONCE.swap(true, Ordering::Relaxed) {
            // SAFETY: the handlers only use atomics, thread-locals without
            // Drop, getpid and gettid.
            unsafe { libc::pthread_atfork(Some(prepare), None, Some(child)) };
        }
    }
}

/// In the child, on its only thread, which was `before` in the parent.
#[cfg(not(miri))]
fn after_fork(before: u32) {
    let (pid, tid) = (pid(), tid());
    for block in blocks() {
        let owner = block.owner.load(Ordering::Relaxed);
        if owner & STATE == FREE || pid_of(owner) == pid {
            continue;
        }
        if tid_of(owner) == before {
            block.owner.store(owned(pid, tid, owner & STATE), Ordering::Relaxed);
            continue;
        }
        for cell in &block.cells {
            cell.store(0, Ordering::Relaxed);
        }
        block.next.store(null_mut(), Ordering::Relaxed);
        block.owner.store(FREE, Ordering::Release);
    }
}

/// The same for a child that no handler saw (a bare `clone` system call), when
/// the thread that looks is the one that was copied: else it cannot be told
/// apart from those that were not.
pub(super) fn look_for_fork() {
    #[cfg(not(miri))]
    if let Some(own) = own_first() {
        let owner = own.owner.load(Ordering::Relaxed);
        if pid_of(owner) != pid() {
            after_fork(tid_of(owner));
        }
    }
}
