//! The program's side: callsites, spans and events of libraries, made once more for the
//! program's dispatcher.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::error::Error;
use std::ffi::c_void;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError, RwLock};

use tracing_core::callsite::DefaultCallsite;
use tracing_core::dispatcher::get_default;
use tracing_core::field::{DebugValue, Value, ValueSet, debug};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Dispatch, Event, LevelFilter, Metadata, field};

use super::super::{guarded, texts};
use super::{CallsiteWire, HappeningWire, ValueWire, VisitSpanFn, kind, lent, level, number};
use crate::abi::{RawSlice, RawStr};
use crate::call::{Reply, answer};
use crate::services::Message;

pub(super) unsafe extern "C" fn max_level() -> u32 {
    LevelFilter::current().into_level().map_or(0, |level| number(&level))
}

// Callsites.

/// A library's callsite, made again: never freed, once for each distinct one.
///
/// It is the identity that its metadata carries; what is registered is a
/// `DefaultCallsite` with the same metadata, for which the registry takes no lock.
struct Callsite {
    metadata: OnceLock<Metadata<'static>>,
    registered: OnceLock<DefaultCallsite>,
}

impl Callsite {
    fn of(&self) -> &Metadata<'static> {
        self.metadata.get().expect("set before anyone sees the callsite")
    }

    fn registered(&'static self) -> &'static DefaultCallsite {
        self.registered.get_or_init(|| DefaultCallsite::new(self.of()))
    }
}

impl tracing_core::Callsite for Callsite {
    fn set_interest(&self, interest: Interest) {
        if let Some(registered) = self.registered.get() {
            registered.set_interest(interest);
        }
    }

    fn metadata(&self) -> &Metadata<'_> {
        self.of()
    }
}

static CALLSITES: LazyLock<Mutex<HashMap<u64, Vec<&'static Callsite>>>> = LazyLock::new(Mutex::default);

#[cfg(all(feature = "testing", feature = "log", feature = "tracing"))]
pub(crate) fn count() -> usize {
    CALLSITES.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
}

/// What a callsite is, with texts that live for the call.
#[derive(PartialEq, Eq, Hash)]
struct Description<'a> {
    name: &'a str,
    target: &'a str,
    file: Option<&'a str>,
    module_path: Option<&'a str>,
    line: Option<u32>,
    level: u32,
    kind: u32,
    fields: Vec<&'a str>,
}

impl<'a> Description<'a> {
    /// # Safety
    ///
    /// The texts must be alive for `'a`.
    unsafe fn new(wire: &'a CallsiteWire) -> Self {
        // SAFETY: the caller's word, for this and all texts below.
        let text = |text: RawStr| -> &'a str { unsafe { text.as_str() } };
        let known = |flag: u32| wire.flags & flag != 0;
        Description {
            name: text(wire.name),
            target: text(wire.target),
            file: known(CallsiteWire::HAS_FILE).then(|| text(wire.file)),
            module_path: known(CallsiteWire::HAS_MODULE).then(|| text(wire.module_path)),
            line: known(CallsiteWire::HAS_LINE).then_some(wire.line),
            level: wire.level,
            kind: wire.flags & (CallsiteWire::EVENT | CallsiteWire::SPAN | CallsiteWire::HINT),
            // SAFETY: as above.
            fields: unsafe { wire.fields.as_slice() }.iter().map(|&name| text(name)).collect(),
        }
    }

    fn hashed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn describes(&self, callsite: &Callsite) -> bool {
        // SAFETY: what was lent lives while `take` runs.
        lent(callsite.of(), |wire| *self == unsafe { Description::new(wire) })
    }

    fn make(&self) -> &'static Callsite {
        let callsite: &'static Callsite =
            Box::leak(Box::new(Callsite { metadata: OnceLock::new(), registered: OnceLock::new() }));
        let names: Vec<&'static str> = self.fields.iter().map(|name| texts::kept(name)).collect();
        let fields = field::FieldSet::new(names.leak(), tracing_core::identify_callsite!(callsite));
        let metadata = Metadata::new(
            texts::kept(self.name),
            texts::kept(self.target),
            level(self.level),
            self.file.map(texts::kept),
            self.line,
            self.module_path.map(texts::kept),
            fields,
            kind(self.kind),
        );
        callsite.metadata.get_or_init(|| metadata);
        callsite
    }
}

pub(super) unsafe extern "C" fn callsite(wire: *const CallsiteWire) -> Reply<*const c_void> {
    answer(|| {
        // SAFETY: the library lends it for this call.
        let description = unsafe { Description::new(&*wire) };
        let callsite = {
            let mut callsites = CALLSITES.lock().unwrap_or_else(PoisonError::into_inner);
            let alike = callsites.entry(description.hashed()).or_default();
            match alike.iter().copied().find(|callsite| description.describes(callsite)) {
                Some(callsite) => callsite,
                None => {
                    let callsite = description.make();
                    alike.push(callsite);
                    callsite
                }
            }
        };
        // Registers it, which calls subscribers: not under the lock.
        callsite.registered().interest();
        std::ptr::from_ref(callsite).cast()
    })
}

/// # Safety
///
/// The pointer is from [`callsite`].
unsafe fn seen(callsite: *const c_void) -> &'static Callsite {
    // SAFETY: the caller's word; callsites are never freed.
    unsafe { &*callsite.cast::<Callsite>() }
}

pub(super) unsafe extern "C" fn enabled(callsite: *const c_void) -> Reply<u32> {
    answer(|| {
        // SAFETY: the library passes what it was given.
        let callsite = unsafe { seen(callsite) };
        let metadata = callsite.of();
        if *metadata.level() > LevelFilter::current() {
            return 0;
        }
        let interest = callsite.registered().interest();
        let wanted = !interest.is_never()
            && (interest.is_always() || get_default(|current| current.enabled(metadata)));
        u32::from(wanted)
    })
}

// Values.

/// Text that was printed already.
struct Printed<'a>(&'a str);

impl fmt::Debug for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A library's error, by its texts.
struct Told {
    text: String,
    source: Option<Box<Told>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

enum Held<'a> {
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    Bool(bool),
    F64(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    Printed(DebugValue<Printed<'a>>),
    Error(Box<dyn Error + 'static>),
}

impl<'a> Held<'a> {
    /// `wires` begins with the value. `None` for a kind that is not known here.
    ///
    /// # Safety
    ///
    /// The texts must be alive for `'a`.
    unsafe fn new(wires: &[ValueWire]) -> Option<Self> {
        let wire = wires.first()?;
        // SAFETY: the caller's word; a text is UTF-8 where the kind says text.
        let bytes = |wire: &ValueWire| -> &'a [u8] { unsafe { wire.text.as_slice() } };
        // SAFETY: as above.
        let text = |wire: &ValueWire| -> &'a str { unsafe { str::from_utf8_unchecked(bytes(wire)) } };
        let wide = u128::from(wire.high) << 64 | u128::from(wire.low);
        Some(match wire.kind {
            ValueWire::I64 => Held::I64(wire.low.cast_signed()),
            ValueWire::U64 => Held::U64(wire.low),
            ValueWire::I128 => Held::I128(wide.cast_signed()),
            ValueWire::U128 => Held::U128(wide),
            ValueWire::BOOL => Held::Bool(wire.low != 0),
            ValueWire::F64 => Held::F64(f64::from_bits(wire.low)),
            ValueWire::STR => Held::Str(text(wire)),
            ValueWire::BYTES => Held::Bytes(bytes(wire)),
            ValueWire::DEBUG => Held::Printed(debug(Printed(text(wire)))),
            ValueWire::ERROR => {
                let sources = wires[1..].iter().take_while(|wire| wire.kind == ValueWire::SOURCE);
                let sources: Vec<&ValueWire> = sources.collect();
                let told = |source, wire| Some(Box::new(Told { text: text(wire).into(), source }));
                let source = sources.into_iter().rev().fold(None, told);
                Held::Error(Box::new(Told { text: text(wire).into(), source }))
            }
            _ => return None,
        })
    }

    fn value(&self) -> &(dyn Value + '_) {
        match self {
            Held::I64(value) => value,
            Held::U64(value) => value,
            Held::I128(value) => value,
            Held::U128(value) => value,
            Held::Bool(value) => value,
            Held::F64(value) => value,
            Held::Str(value) => value,
            Held::Bytes(value) => value,
            Held::Printed(value) => value,
            Held::Error(value) => value,
        }
    }
}

/// Gives `take` the values as a set of the metadata's.
///
/// # Safety
///
/// The wires are lent for this call, by a library.
unsafe fn with_values<T>(
    metadata: &'static Metadata<'static>,
    wires: RawSlice<ValueWire>,
    take: impl FnOnce(&ValueSet<'_>) -> T,
) -> T {
    // SAFETY: the caller's word.
    let wires: &[ValueWire] = unsafe { wires.as_slice() };
    let held: Vec<(u32, Held<'_>)> = (0..wires.len())
        // SAFETY: as above.
        .filter_map(|at| Some((wires[at].field, unsafe { Held::new(&wires[at..]) }?)))
        .collect();
    let mut values: Vec<Option<&dyn Value>> = vec![None; metadata.fields().len()];
    for (field, held) in &held {
        if let Some(value) = values.get_mut(*field as usize) {
            *value = Some(held.value());
        }
    }
    take(&metadata.fields().value_set_all(&values))
}

// Events and spans.

pub(super) unsafe extern "C" fn event(wire: *const HappeningWire) -> *mut Message {
    guarded(|| {
        // SAFETY: the library lends it for this call.
        let wire = unsafe { &*wire };
        // SAFETY: the library passes what it was given.
        let metadata = unsafe { seen(wire.callsite) }.of();
        // SAFETY: lent, as the whole.
        unsafe {
            with_values(metadata, wire.values, |values| match (wire.parent, wire.root) {
                (0, 0) => Event::dispatch(metadata, values),
                (0, _) => Event::child_of(None, metadata, values),
                (parent, _) => Event::child_of(parent_of(parent), metadata, values),
            });
        }
    })
}

pub(super) unsafe extern "C" fn new_span(wire: *const HappeningWire) -> Reply<u64> {
    answer(|| {
        // SAFETY: the library lends it for this call.
        let wire = unsafe { &*wire };
        // SAFETY: the library passes what it was given.
        let metadata = unsafe { seen(wire.callsite) }.of();
        let make = |values: &ValueSet<'_>| {
            let attributes = match (wire.parent, wire.root) {
                (0, 0) => Attributes::new(metadata, values),
                (0, _) => Attributes::new_root(metadata, values),
                (parent, _) => match parent_of(parent) {
                    Some(parent) => Attributes::child_of(parent, metadata, values),
                    None => Attributes::new_root(metadata, values),
                },
            };
            get_default(|current| {
                let id = current.new_span(&attributes);
                hold(Span { dispatch: current.clone(), id, metadata: Some(metadata), handles: 1 })
            })
        };
        // SAFETY: lent, as the whole.
        unsafe { with_values(metadata, wire.values, make) }
    })
}

/// A span that a library has handles of.
#[derive(Clone)]
struct Span {
    dispatch: Dispatch,
    id: Id,
    metadata: Option<&'static Metadata<'static>>,
    handles: u64,
}

/// Numbers of [`Span`]s have this bit. Others are a dispatcher's own: those of spans
/// that only the program has handles of.
const HELD: u64 = 1 << 63;
const SHARDS: u64 = 16;

type Shard = RwLock<HashMap<u64, Span>>;
static SPANS: LazyLock<[Shard; SHARDS as usize]> = LazyLock::new(Default::default);

fn shard(number: u64) -> &'static Shard {
    &SPANS[(number % SHARDS) as usize]
}

fn hold(span: Span) -> u64 {
    // Never used again: the number of a span that has gone means nothing.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = HELD | NEXT.fetch_add(1, Ordering::Relaxed);
    shard(number).write().unwrap_or_else(PoisonError::into_inner).insert(number, span);
    number
}

/// A copy: subscribers are not called under the lock.
fn find(number: u64) -> Option<Span> {
    shard(number).read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
}

fn own(number: u64) -> Option<Id> {
    (number != 0 && number & HELD == 0).then(|| Id::from_u64(number))
}

/// The number that the dispatcher knows a parent by; `None` if it has gone.
fn parent_of(number: u64) -> Option<Id> {
    own(number).or_else(|| Some(find(number)?.id))
}

/// Calls the span's dispatcher.
fn with_span(number: u64, act: impl FnOnce(&Dispatch, &Id)) {
    if let Some(span) = find(number) {
        act(&span.dispatch, &span.id);
    } else if let Some(id) = own(number) {
        let mut act = Some(act);
        get_default(|current| {
            if let Some(act) = act.take() {
                act(current, &id);
            }
        });
    }
}

pub(super) unsafe extern "C" fn record(number: u64, values: RawSlice<ValueWire>) -> *mut Message {
    guarded(|| {
        if let Some(Span { dispatch, id, metadata: Some(metadata), .. }) = find(number) {
            // SAFETY: the library lends them for this call.
            unsafe {
                with_values(metadata, values, |values| dispatch.record(&id, &Record::new(values)));
            }
        }
    })
}

pub(super) unsafe extern "C" fn follows(number: u64, from: u64) -> *mut Message {
    guarded(|| {
        if let Some(from) = parent_of(from) {
            with_span(number, |dispatch, id| dispatch.record_follows_from(id, &from));
        }
    })
}

pub(super) unsafe extern "C" fn enter(number: u64) -> *mut Message {
    guarded(|| with_span(number, Dispatch::enter))
}

pub(super) unsafe extern "C" fn exit(number: u64) -> *mut Message {
    guarded(|| with_span(number, Dispatch::exit))
}

pub(super) unsafe extern "C" fn clone(number: u64) -> Reply<u64> {
    answer(|| {
        if let Some(span) = find(number) {
            let id = span.dispatch.clone_span(&span.id);
            if id != span.id {
                return hold(Span { id, handles: 1, ..span });
            }
            // It is there still: the library has the handle that it clones.
            if let Some(span) = shard(number).write().unwrap_or_else(PoisonError::into_inner).get_mut(&number)
            {
                span.handles += 1;
            }
            return number;
        }
        let Some(id) = own(number) else { return number };
        get_default(|current| {
            let metadata =
                current.current_span().into_inner().filter(|(current, _)| *current == id).map(|(_, of)| of);
            hold(Span { id: current.clone_span(&id), dispatch: current.clone(), metadata, handles: 1 })
        })
    })
}

pub(super) unsafe extern "C" fn close(number: u64) -> Reply<u32> {
    answer(|| {
        let span = {
            let mut spans = shard(number).write().unwrap_or_else(PoisonError::into_inner);
            let Some(span) = spans.get_mut(&number) else { return 0 };
            span.handles -= 1;
            if span.handles == 0 { spans.remove(&number) } else { Some(span.clone()) }
        };
        u32::from(span.is_some_and(|span| span.dispatch.try_close(span.id)))
    })
}

pub(super) unsafe extern "C" fn current(visit: VisitSpanFn, cx: *mut c_void) -> *mut Message {
    guarded(|| {
        let current = get_default(|current| current.current_span().into_inner());
        let Some((id, metadata)) = current else { return };
        if id.into_u64() & HELD == 0 {
            let key = std::ptr::from_ref(metadata).cast();
            // SAFETY: the library's function, with its own context.
            lent(metadata, |wire| unsafe { visit(cx, id.into_u64(), key, wire) });
        }
    })
}
