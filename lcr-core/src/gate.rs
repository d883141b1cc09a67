//! The call gate (provisional).
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared head of a gate.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct GateHead {
    cur: AtomicUsize,
    refs: AtomicUsize,
}

/// Shared head of an instance.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct InstanceHead {
    /// The component's object.
    pub object: *const (),
    /// Its method table.
    pub methods: *const (),
    /// How many methods it has.
    pub method_count: usize,
    /// Instances that pin it.
    pub pins: AtomicUsize,
    /// Its gate.
    pub gate: *const GateHead,
}
// SAFETY: provisional
unsafe impl Send for InstanceHead {}
// SAFETY: provisional
unsafe impl Sync for InstanceHead {}

/// What the slow way gives back.
#[repr(C)]
#[derive(Debug)]
pub struct EnteredWire {
    /// The cell.
    pub cell: *const AtomicUsize,
    /// The instance.
    pub head: *const InstanceHead,
}

/// Inside a gate.
#[derive(Debug)]
pub struct Entered<'g> {
    head: &'g InstanceHead,
    not_send: PhantomData<*const ()>,
}

impl Deref for Entered<'_> {
    type Target = InstanceHead;
    fn deref(&self) -> &InstanceHead {
        self.head
    }
}

impl InstanceHead {
    /// # Safety
    /// pinned.
    pub(crate) unsafe fn unpin(head: *const Self) -> bool {
        // SAFETY: pinned by the caller.
        unsafe { (*head).pins.fetch_sub(1, Ordering::SeqCst) == usize::MAX }
    }
}

impl GateHead {
    pub(crate) fn new(head: *const InstanceHead, refs: usize) -> Self {
        GateHead { cur: AtomicUsize::new(head as usize), refs: AtomicUsize::new(refs) }
    }
    pub(crate) fn retain(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn release_unless_last(&self) -> bool {
        let mut refs = self.refs.load(Ordering::Relaxed);
        while refs > 1 {
            match self.refs.compare_exchange_weak(refs, refs - 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => refs = now,
            }
        }
        false
    }
    pub(crate) fn release_last(&self) -> bool {
        self.refs.fetch_sub(1, Ordering::AcqRel) == 1
    }
    #[inline(always)]
    pub(crate) fn enter(&self) -> Entered<'_> {
        let head = self.cur.load(Ordering::Acquire) as *const InstanceHead;
        // SAFETY: provisional
        Entered { head: unsafe { &*head }, not_send: PhantomData }
    }
}

pub(crate) unsafe extern "C" fn enter_slow(gate: *const GateHead) -> EnteredWire {
    // SAFETY: provisional
    unsafe { EnteredWire { cell: std::ptr::null(), head: (*gate).cur.load(Ordering::Acquire) as *const InstanceHead } }
}
