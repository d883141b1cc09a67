//! Two modules with allocators of their own: each byte is freed by the one that
//! allocated it, with the layout that it was allocated with, and none is left.
//!
//! One process plays both. Its global allocator notes for each block which module
//! allocated it, and a thread-local says which module is running.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lcr_core::abi::{Abi, Frame};
use lcr_core::allocator::{self, Allocator};

/// Nobody: the test harness.
const NONE: usize = 0;
const CALLER: usize = 1;
const COMPONENT: usize = 2;

thread_local! {
    static RUNNING: Cell<usize> = const { Cell::new(NONE) };
}

/// Blocks that each module has allocated and not yet freed.
static LIVE: [AtomicIsize; 3] = [const { AtomicIsize::new(0) }; 3];
/// Blocks that each module has ever allocated.
static EVER: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
/// Blocks freed by another module, or with another layout.
static WRONG: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, and a list of what the two modules have allocated.
struct Watched {
    blocks: Mutex<[Block; 128]>,
}

#[derive(Clone, Copy)]
struct Block {
    /// 0 if this line of the list is free.
    address: usize,
    module: usize,
    layout: Layout,
}

impl Block {
    const FREE: Block = Block { address: 0, module: NONE, layout: Layout::new::<()>() };
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word.
        let block = unsafe { System.alloc(layout) };
        let module = RUNNING.get();
        if module == NONE {
            return block;
        }
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let free = blocks.iter_mut().find(|block| block.address == 0).expect("room in the list");
        *free = Block { address: block.addr(), module, layout };
        LIVE[module].fetch_add(1, Ordering::Relaxed);
        EVER[module].fetch_add(1, Ordering::Relaxed);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let line = blocks.iter_mut().find(|line| line.address == block.addr());
        let listed = line.map(|line| std::mem::replace(line, Block::FREE));
        drop(blocks);
        let (module, allocated) = listed.map_or((NONE, layout), |block| (block.module, block.layout));
        if module != NONE {
            LIVE[module].fetch_sub(1, Ordering::Relaxed);
        }
        if module != RUNNING.get() || layout != allocated {
            WRONG.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the system allocated it with this layout.
        unsafe { System.dealloc(block, allocated) };
    }
}

#[global_allocator]
static WATCHED: Watched = Watched { blocks: Mutex::new([Block::FREE; 128]) };

/// The functions of one module's allocator: the module runs while they do.
unsafe extern "C" fn alloc<const MODULE: usize>(size: usize, align: usize) -> *mut u8 {
    let before = RUNNING.replace(MODULE);
    // SAFETY: the caller's word.
    let block = unsafe { WATCHED.alloc(Layout::from_size_align_unchecked(size, align)) };
    RUNNING.set(before);
    block
}

unsafe extern "C" fn dealloc<const MODULE: usize>(ptr: *mut u8, size: usize, align: usize) {
    let before = RUNNING.replace(MODULE);
    // SAFETY: the caller's word.
    unsafe { WATCHED.dealloc(ptr, Layout::from_size_align_unchecked(size, align)) };
    RUNNING.set(before);
}

unsafe extern "C" fn realloc<const MODULE: usize>(
    p: *mut u8,
    old: usize,
    align: usize,
    new: usize,
) -> *mut u8 {
    let before = RUNNING.replace(MODULE);
    // SAFETY: the caller's word.
    let block = unsafe { WATCHED.realloc(p, Layout::from_size_align_unchecked(old, align), new) };
    RUNNING.set(before);
    block
}

unsafe extern "C" fn alloc_zeroed<const MODULE: usize>(size: usize, align: usize) -> *mut u8 {
    // SAFETY: the caller's word; a block that is not null has `size` bytes.
    unsafe {
        let block = alloc::<MODULE>(size, align);
        if !block.is_null() {
            block.write_bytes(0, size);
        }
        block
    }
}

/// The table of one module's allocator.
const fn table<const MODULE: usize>() -> Allocator {
    Allocator {
        alloc: alloc::<MODULE>,
        dealloc: dealloc::<MODULE>,
        realloc: realloc::<MODULE>,
        alloc_zeroed: alloc_zeroed::<MODULE>,
    }
}

static CALLERS: Allocator = table::<CALLER>();
static COMPONENTS: Allocator = table::<COMPONENT>();

/// Two modules at play; one test at a time, because `own` is the process's.
struct Play {
    shared: bool,
    _turn: MutexGuard<'static, ()>,
}

impl Play {
    /// Begins with nothing allocated. `shared`: the component forwards to the
    /// caller's allocator.
    fn new(shared: bool) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        for module in [CALLER, COMPONENT] {
            assert_eq!(LIVE[module].load(Ordering::Relaxed), 0);
            EVER[module].store(0, Ordering::Relaxed);
        }
        assert_eq!(WRONG.load(Ordering::Relaxed), 0);
        Play { shared, _turn: turn }
    }

    /// Runs `body` as the caller.
    fn caller<R>(&self, body: impl FnOnce() -> R) -> R {
        Self::run(CALLER, &CALLERS, body)
    }

    /// Runs `body` as the component.
    fn component<R>(&self, body: impl FnOnce() -> R) -> R {
        if self.shared { self.caller(body) } else { Self::run(COMPONENT, &COMPONENTS, body) }
    }

    fn run<R>(module: usize, owner: &'static Allocator, body: impl FnOnce() -> R) -> R {
        // SAFETY: what is allocated while the module runs is labelled as its, and
        // freed so through `owner`.
        unsafe { allocator::adopt(owner) };
        let before = RUNNING.replace(module);
        let value = body();
        RUNNING.set(before);
        value
    }

    /// Blocks that a module has allocated so far.
    fn ever(&self, module: usize) -> usize {
        EVER[module].load(Ordering::Relaxed)
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let live = [CALLER, COMPONENT].map(|module| LIVE[module].load(Ordering::Relaxed));
            assert_eq!(live, [0, 0], "blocks are left");
            assert_eq!(WRONG.load(Ordering::Relaxed), 0, "blocks were freed by the wrong module");
        }
    }
}

/// Moves what `make` makes from the caller to the component, and back; lends it too.
fn play<T>(make: impl Fn() -> T)
where
    T: for<'f> Abi<At<'f> = T> + PartialEq + Debug,
{
    for shared in [false, true] {
        let play = Play::new(shared);
        let wire = play.caller(|| make().into_wire(&Frame::new()));
        let received = play.component(|| {
            // SAFETY: the wire of a `T`, taken once.
            let value = unsafe { T::from_wire(wire, &Frame::new()) };
            assert_eq!(value, make());
            value
        });
        if !shared {
            assert_eq!(LIVE[CALLER].load(Ordering::Relaxed), 0, "the component kept the caller's memory");
        }
        let wire = play.component(|| received.into_wire(&Frame::new()));
        // SAFETY: as above.
        play.caller(|| assert_eq!(unsafe { T::from_wire(wire, &Frame::new()) }, make()));

        let value = play.caller(&make);
        let sender = Frame::new();
        let wire = play.caller(|| (&value).into_wire(&sender));
        play.component(|| {
            let receiver = Frame::new();
            // SAFETY: the value and the frame are alive below.
            let view = unsafe { <&T>::from_wire(wire, &receiver) };
            assert_eq!(view, &value);
        });
        play.caller(|| drop((sender, value)));
    }
}

fn text(letter: char) -> String {
    letter.to_string().repeat(9)
}

#[derive(Abi, Debug, PartialEq)]
enum Tree {
    Leaf(String),
    Row { cells: Vec<Option<String>>, last: Box<(String, [PathBuf; 2])> },
}

#[test]
fn every_byte_is_freed_by_its_owner() {
    play(|| text('a'));
    play(|| vec![1u64, 2, 3]);
    play(|| vec![1u128, 2]);
    play(|| vec![text('a'), text('b'), String::new()]);
    play(|| vec![vec![text('a')], vec![], vec![text('b'), text('c')]]);
    play(|| Some(Err::<String, _>(vec![1u8, 2])));
    play(|| Some(Ok::<_, Vec<u8>>(text('a'))));
    play(|| PathBuf::from("/a/path"));
    play(|| Box::new(Box::new(text('a'))));
    play(|| [text('a'), text('b')]);
    play(|| (text('a'), vec![(1u8, text('b'))]));
    play(|| Tree::Leaf(text('a')));
    play(|| Tree::Row {
        cells: vec![None, Some(text('a'))],
        last: Box::new((text('b'), ["x".into(), "y".into()])),
    });
}

#[test]
fn what_is_not_allocated_is_not_freed() {
    play(String::new);
    play(Vec::<u64>::new);
    play(Vec::<String>::new);
    play(|| vec![(); 5]);
    play(|| vec![[0u64; 0]; 3]);
    play(|| vec![[] as [String; 0], [], []]);
    play(|| Box::new(()));
}

#[test]
fn spare_capacity_goes_back_whole() {
    play(|| {
        let mut bytes = Vec::with_capacity(100);
        bytes.push(1u8);
        bytes
    });
    play(|| Vec::<u32>::with_capacity(7));
    play(|| Vec::<String>::with_capacity(7));
    play(|| {
        let mut text = text('a');
        text.reserve(1000);
        text
    });
}

#[test]
fn a_shared_allocator_means_no_copy() {
    let play = Play::new(true);
    let wire = play.caller(|| (text('a'), vec![7u32; 4]).into_wire(&Frame::new()));
    let allocated = play.ever(CALLER);
    play.component(|| {
        // SAFETY: the wire of this type, taken once.
        drop(unsafe { <(String, Vec<u32>)>::from_wire(wire, &Frame::new()) });
    });
    assert_eq!(play.ever(CALLER), allocated);
}

#[test]
fn a_lent_text_is_not_copied_for_a_foreign_module() {
    let play = Play::new(false);
    let texts = play.caller(|| vec![text('a'), text('b')]);
    let sender = Frame::new();
    let wire = play.caller(|| texts.as_slice().into_wire(&sender));
    play.component(|| {
        let receiver = Frame::new();
        // SAFETY: the texts and the frame are alive below.
        let view = unsafe { <&[String]>::from_wire(wire, &receiver) };
        assert!(view.iter().map(|text| text.as_ptr()).eq(texts.iter().map(|text| text.as_ptr())));
    });
    assert_eq!(play.ever(COMPONENT), 1, "one array of views");
    play.caller(|| drop((sender, texts)));
}

#[test]
fn a_refused_element_takes_its_elders_and_the_buffer_with_it() {
    let play = Play::new(false);
    // A backtrace caches what it has read, in nobody's name.
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let before = RUNNING.replace(NONE);
        print(panic);
        RUNNING.set(before);
    }));
    let wire = play.caller(|| {
        let wire = vec![(text('a'), true), (String::new(), true)].into_wire(&Frame::new());
        // SAFETY: the buffer holds two wires, and nobody else looks at it.
        unsafe { (*wire.ptr.add(1)).1 = 7 };
        wire
    });
    play.component(|| {
        // SAFETY: taken once; a wrong `bool` is refused.
        let receive = || unsafe { <Vec<(String, bool)>>::from_wire(wire, &Frame::new()) };
        drop(catch_unwind(AssertUnwindSafe(receive)).unwrap_err());
    });
    // Dropping `play` finds nothing left, in either module.
}
