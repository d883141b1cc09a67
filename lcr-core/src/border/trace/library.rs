//! The library's side: a subscriber that sends everything to the program.

use std::error::Error;
use std::ffi::c_void;
use std::fmt;
use std::io::Write;
use std::ptr::{self, null};
use std::sync::atomic::{AtomicPtr, Ordering};

use tracing_core::dispatcher::set_global_default;
use tracing_core::field::{Field, FieldSet, Visit};
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Dispatch, Event, LevelFilter, Metadata, Subscriber};

use super::super::{resumed, settled};
use super::{CallsiteWire, HappeningWire, TraceServices, ValueWire, kind, lent, level, number};
use crate::abi::RawSlice;
use crate::services::Services;

/// The program's table; null until it arrives.
static PROGRAM: AtomicPtr<TraceServices> = AtomicPtr::new(ptr::null_mut());

fn program() -> &'static TraceServices {
    // SAFETY: `forward` stored a table that lives as long as the program, before it
    // installed the subscriber, which alone comes here.
    unsafe { &*PROGRAM.load(Ordering::Acquire) }
}

/// Makes the program's dispatcher this library's, if it offers one.
pub(crate) fn forward(services: &'static Services) {
    // SAFETY: null, or a table of the program, which begins with its size.
    let offered = unsafe { services.trace.as_ref() };
    if offered.is_none_or(|table| table.size < size_of::<TraceServices>()) {
        return;
    }
    PROGRAM.store(services.trace.cast_mut(), Ordering::Release);
    // Refused only if the component's ELF constructors were first.
    let _ = set_global_default(Dispatch::new(Forward));
}

/// Frees the tables.
///
/// # Safety
///
/// No other thread runs code of the library.
pub(crate) unsafe fn depart() {
    // SAFETY: the caller's word; a callsite's value is the program's.
    unsafe { SITES.clear(|_| ()) };
    // SAFETY: as above; each mirror was boxed by `mirror`.
    unsafe { MIRRORS.clear(|mirror| drop(Box::from_raw(mirror.cast_mut().cast::<Mirror>()))) };
}

/// From addresses to addresses; only grows.
struct Table {
    buckets: [AtomicPtr<Node>; BUCKETS],
}

const BUCKETS: usize = 128;

struct Node {
    key: usize,
    value: *const c_void,
    next: *mut Node,
}

impl Table {
    const fn new() -> Self {
        Table { buckets: [const { AtomicPtr::new(ptr::null_mut()) }; BUCKETS] }
    }

    fn bucket(&self, key: usize) -> &AtomicPtr<Node> {
        // Statics of some dozens of bytes, aligned: the bits that differ.
        &self.buckets[((key >> 4) ^ (key >> 11)) % BUCKETS]
    }

    fn get(&self, key: usize) -> Option<*const c_void> {
        let mut node = self.bucket(key).load(Ordering::Acquire);
        // SAFETY: null or a node, which lives until `clear`.
        while let Some(found) = unsafe { node.as_ref() } {
            if found.key == key {
                return Some(found.value);
            }
            node = found.next;
        }
        None
    }

    /// What the key had already, if another thread was faster and `get` missed it,
    /// is found no more, and freed by `clear` all the same.
    fn insert(&self, key: usize, value: *const c_void) {
        let bucket = self.bucket(key);
        let mut next = bucket.load(Ordering::Acquire);
        let node = Box::into_raw(Box::new(Node { key, value, next }));
        while let Err(now) = bucket.compare_exchange_weak(next, node, Ordering::AcqRel, Ordering::Acquire) {
            next = now;
            // SAFETY: not published yet.
            unsafe { (*node).next = now };
        }
    }

    /// # Safety
    ///
    /// No other thread uses the table.
    unsafe fn clear(&self, free: impl Fn(*const c_void)) {
        for bucket in &self.buckets {
            let mut node = bucket.swap(ptr::null_mut(), Ordering::AcqRel);
            while !node.is_null() {
                // SAFETY: a node of this table, taken out of it.
                let taken = unsafe { Box::from_raw(node) };
                free(taken.value);
                node = taken.next;
            }
        }
    }
}

// SAFETY: nodes are written before they are published, and never changed.
unsafe impl Sync for Table {}

/// The program's callsites, by the addresses of this library's metadata.
static SITES: Table = Table::new();
/// Metadata of the program's spans as this library's, by the program's addresses.
static MIRRORS: Table = Table::new();

/// The program's callsite for that metadata: `None` where it would not make one.
fn site(metadata: &'static Metadata<'static>) -> Option<*const c_void> {
    let key = ptr::from_ref(metadata).addr();
    SITES.get(key).or_else(|| {
        // SAFETY: the program's function; the metadata is lent for the call. A panic of
        // the program's subscriber must not unwind through the registry's locks.
        let reply = lent(metadata, |wire| unsafe { (program().callsite)(wire).take() });
        match reply {
            Ok(site) => {
                SITES.insert(key, site);
                Some(site)
            }
            Err(caught) => {
                drop(caught.into_message());
                None
            }
        }
    })
}

/// Gathers values.
#[derive(Default)]
struct Gather {
    values: Vec<ValueWire>,
    /// Texts, one after the other; the values have their places while it grows.
    texts: Vec<u8>,
}

impl Gather {
    fn number(&mut self, field: &Field, kind: u32, low: u64, high: u64) {
        let text = RawSlice::new(&[]);
        self.values.push(ValueWire { field: field.index() as u32, kind, low, high, text });
    }

    fn text(&mut self, field: &Field, kind: u32, text: fmt::Arguments<'_>) {
        let start = self.texts.len();
        // What a faulty `Debug` has written before it gave up is better than nothing.
        let _ = self.texts.write_fmt(text);
        self.number(field, kind, start as u64, (self.texts.len() - start) as u64);
    }

    fn lend<T>(mut self, take: impl FnOnce(RawSlice<ValueWire>) -> T) -> T {
        for value in &mut self.values {
            if matches!(
                value.kind,
                ValueWire::STR | ValueWire::BYTES | ValueWire::DEBUG | ValueWire::ERROR | ValueWire::SOURCE
            ) {
                value.text = RawSlice::new(&self.texts[value.low as usize..][..value.high as usize]);
            }
        }
        take(RawSlice::new(&self.values))
    }
}

impl Visit for Gather {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, ValueWire::I64, value.cast_unsigned(), 0);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, ValueWire::U64, value, 0);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        let value = value.cast_unsigned();
        self.number(field, ValueWire::I128, value as u64, (value >> 64) as u64);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.number(field, ValueWire::U128, value as u64, (value >> 64) as u64);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, ValueWire::BOOL, value.into(), 0);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.number(field, ValueWire::F64, value.to_bits(), 0);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, ValueWire::STR, format_args!("{value}"));
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        let start = self.texts.len();
        self.texts.extend_from_slice(value);
        self.number(field, ValueWire::BYTES, start as u64, value.len() as u64);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, ValueWire::ERROR, format_args!("{value}"));
        let mut source = value.source();
        while let Some(error) = source {
            self.text(field, ValueWire::SOURCE, format_args!("{error}"));
            source = error.source();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, ValueWire::DEBUG, format_args!("{value:?}"));
    }
}

struct Forward;

impl Forward {
    fn happening<T>(
        metadata: &'static Metadata<'static>,
        parent: Option<&Id>,
        root: bool,
        values: Gather,
        take: impl FnOnce(&HappeningWire) -> T,
    ) -> Option<T> {
        let callsite = site(metadata)?;
        let parent = parent.map_or(0, Id::into_u64);
        Some(values.lend(|values| take(&HappeningWire { callsite, parent, root: root.into(), values })))
    }
}

/// The number of a span that could not be made.
const NONE: u64 = u64::MAX;

impl Subscriber for Forward {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        site(metadata);
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        match SITES.get(ptr::from_ref(metadata).addr()) {
            // SAFETY: the program's function and callsite.
            Some(site) => unsafe { settled((program().enabled)(site)) != 0 },
            // Metadata made for the moment, of which nothing may be kept.
            // SAFETY: the program's function.
            None => number(metadata.level()) <= unsafe { (program().max_level)() },
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn event(&self, event: &Event<'_>) {
        let mut values = Gather::default();
        event.record(&mut values);
        Forward::happening(event.metadata(), event.parent(), event.is_root(), values, |wire| {
            // SAFETY: the program's function; all is lent for the call.
            unsafe { resumed((program().event)(wire)) }
        });
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut values = Gather::default();
        span.record(&mut values);
        let id = Forward::happening(span.metadata(), span.parent(), span.is_root(), values, |wire| {
            // SAFETY: as above.
            unsafe { settled((program().new_span)(wire)) }
        });
        Id::from_u64(id.unwrap_or(NONE))
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut gather = Gather::default();
        values.record(&mut gather);
        // SAFETY: as above.
        gather.lend(|values| unsafe { resumed((program().record)(span.into_u64(), values)) });
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        // SAFETY: the program's function.
        unsafe { resumed((program().follows)(span.into_u64(), follows.into_u64())) };
    }

    fn enter(&self, span: &Id) {
        // SAFETY: as above.
        unsafe { resumed((program().enter)(span.into_u64())) };
    }

    fn exit(&self, span: &Id) {
        // SAFETY: as above.
        unsafe { resumed((program().exit)(span.into_u64())) };
    }

    fn clone_span(&self, id: &Id) -> Id {
        // SAFETY: as above.
        Id::from_u64(unsafe { settled((program().clone)(id.into_u64())) })
    }

    fn try_close(&self, id: Id) -> bool {
        // SAFETY: as above.
        unsafe { settled((program().close)(id.into_u64())) != 0 }
    }

    fn current_span(&self) -> Current {
        let mut current = Current::none();
        // SAFETY: the program's function; `shown` takes the context for what it is.
        unsafe { resumed((program().current)(shown, (&raw mut current).cast())) };
        current
    }
}

unsafe extern "C" fn shown(cx: *mut c_void, span: u64, key: *const c_void, wire: *const CallsiteWire) {
    // SAFETY: the program lends the metadata for this call.
    let metadata = unsafe { mirror(key, &*wire) };
    // SAFETY: the `Current` of `current_span`, which waits for us.
    unsafe { *cx.cast::<Current>() = Current::new(Id::from_u64(span), metadata) };
}

/// Metadata of the program, made again for this library: an own layout of
/// `Metadata`, an own callsite. Lives as long as the library.
struct Mirror {
    metadata: Metadata<'static>,
    callsite: *mut Reflected,
    names: *mut [&'static str],
    texts: Vec<*mut str>,
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // SAFETY: boxed by `mirror`, and used by the metadata alone.
        unsafe {
            drop(Box::from_raw(self.names));
            drop(Box::from_raw(self.callsite));
        }
        for text in self.texts.drain(..) {
            // SAFETY: as above.
            unsafe { drop(Box::from_raw(text)) };
        }
    }
}

/// The identity of a mirror: it is not registered, and nobody asks it.
struct Reflected(u8);

impl tracing_core::Callsite for Reflected {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        unreachable!("a callsite that is not registered, of number {}", self.0)
    }
}

/// # Safety
///
/// The wire and its texts must be alive for this call.
unsafe fn mirror(key: *const c_void, wire: &CallsiteWire) -> &'static Metadata<'static> {
    let mirror = MIRRORS.get(key.addr()).unwrap_or_else(|| {
        let mut texts = Vec::new();
        let mut kept = |text: crate::abi::RawStr| -> &'static str {
            // SAFETY: the caller's word.
            let text = Box::into_raw(unsafe { text.as_str() }.to_owned().into_boxed_str());
            texts.push(text);
            // SAFETY: freed as the library goes.
            unsafe { &*text }
        };
        let known = |flag: u32| wire.flags & flag != 0;
        let (name, target) = (kept(wire.name), kept(wire.target));
        let file = known(CallsiteWire::HAS_FILE).then(|| kept(wire.file));
        let module_path = known(CallsiteWire::HAS_MODULE).then(|| kept(wire.module_path));
        let line = known(CallsiteWire::HAS_LINE).then_some(wire.line);
        // SAFETY: the caller's word.
        let names = unsafe { wire.fields.as_slice() }.iter().map(|&name| kept(name)).collect();
        let names: *mut [&'static str] = Box::into_raw(names);
        let callsite = Box::into_raw(Box::new(Reflected(0)));
        // SAFETY: freed as the library goes, both.
        let (identity, fields) = unsafe { (&*callsite, &*names) };
        let fields = FieldSet::new(fields, tracing_core::identify_callsite!(identity));
        let level = level(wire.level);
        let metadata = Metadata::new(name, target, level, file, line, module_path, fields, kind(wire.flags));
        let mirror = Box::into_raw(Box::new(Mirror { metadata, callsite, names, texts }));
        MIRRORS.insert(key.addr(), mirror.cast::<c_void>());
        mirror.cast_const().cast()
    });
    debug_assert_ne!(mirror, null());
    // SAFETY: a mirror, which lives as long as the library.
    unsafe { &(*mirror.cast::<Mirror>()).metadata }
}
