//! Tracing events and spans of libraries reach the program's dispatcher.
//!
//! The library's `tracing-core` gets a global default subscriber that forwards
//! everything. Each callsite of the library is made once more in the program, by
//! value, and registered there: so the program's subscriber sees `'static` metadata
//! that outlives the library, caches its interest in it, and decides. The library
//! itself caches nothing but which of the program's callsites is whose: its
//! interest is always "sometimes", and each event that is not switched off at
//! compile time asks the program, which answers from its own cache.
//!
//! Values cross with their types; what is only `Debug` or `Display` as text. Spans
//! have numbers of the program's making, each of which stands for the dispatcher
//! that was current when the span was made and the number that it gave: entering,
//! recording and closing reach that one, as they do in a program. Parents by
//! context are the program's affair, so an event of a library has the span around
//! the call as its parent, whoever made it.
//!
//! A subscriber that a component installs for a scope (`with_default`) works within
//! its library; it cannot install a global one. A span that is leaked in a library
//! stays open in the program.

use std::ffi::c_void;

use crate::abi::{RawSlice, RawStr};
use crate::call::Reply;
use crate::services::Message;

/// What a program with a tracing dispatcher offers. Null in
/// [`Services`](crate::services::Services) where it was built without the feature `tracing`.
#[repr(C)]
#[derive(Debug)]
pub struct TraceServices {
    /// The size of this table in bytes; it only grows, at its end.
    pub size: usize,
    /// The most talkative level that anyone listens to: 0, off, 1, error, to 5, trace.
    pub max_level: unsafe extern "C" fn() -> u32,
    /// The program's callsite that is like this one; it is never freed.
    pub callsite: unsafe extern "C" fn(*const CallsiteWire) -> Reply<*const c_void>,
    /// Not 0 if the current dispatcher wants what comes from there.
    pub enabled: unsafe extern "C" fn(callsite: *const c_void) -> Reply<u32>,
    /// An event.
    pub event: unsafe extern "C" fn(*const HappeningWire) -> *mut Message,
    /// A new span: its number.
    pub new_span: unsafe extern "C" fn(*const HappeningWire) -> Reply<u64>,
    /// Values of a span.
    pub record: unsafe extern "C" fn(span: u64, values: RawSlice<ValueWire>) -> *mut Message,
    /// A span follows from another.
    pub follows: unsafe extern "C" fn(span: u64, from: u64) -> *mut Message,
    /// The calling thread enters a span.
    pub enter: unsafe extern "C" fn(span: u64) -> *mut Message,
    /// It leaves it.
    pub exit: unsafe extern "C" fn(span: u64) -> *mut Message,
    /// One more handle of a span: its number, mostly the same.
    pub clone: unsafe extern "C" fn(span: u64) -> Reply<u64>,
    /// One less. Not 0 if it was the last.
    pub close: unsafe extern "C" fn(span: u64) -> Reply<u32>,
    /// Shows the calling thread's current span, if there is one.
    pub current: unsafe extern "C" fn(visit: VisitSpanFn, cx: *mut c_void) -> *mut Message,
}

/// Sees a span: its number, an address that stands for its metadata for ever, and
/// its metadata, lent.
pub type VisitSpanFn =
    unsafe extern "C" fn(cx: *mut c_void, span: u64, key: *const c_void, metadata: *const CallsiteWire);

/// Where events or spans come from, as it crosses: lent.
#[repr(C)]
#[derive(Debug)]
pub struct CallsiteWire {
    /// The name.
    pub name: RawStr,
    /// The target.
    pub target: RawStr,
    /// The source file, if [`CallsiteWire::HAS_FILE`].
    pub file: RawStr,
    /// The module's path, if [`CallsiteWire::HAS_MODULE`].
    pub module_path: RawStr,
    /// The fields' names.
    pub fields: RawSlice<RawStr>,
    /// The line, if [`CallsiteWire::HAS_LINE`].
    pub line: u32,
    /// 1, error, to 5, trace.
    pub level: u32,
    /// What it is and what is known of it.
    pub flags: u32,
}

impl CallsiteWire {
    /// It makes events.
    pub const EVENT: u32 = 1;
    /// It makes spans.
    pub const SPAN: u32 = 1 << 1;
    /// It only asks.
    pub const HINT: u32 = 1 << 2;
    /// The file is known.
    pub const HAS_FILE: u32 = 1 << 3;
    /// The module is known.
    pub const HAS_MODULE: u32 = 1 << 4;
    /// The line is known.
    pub const HAS_LINE: u32 = 1 << 5;
}

/// An event, or the beginning of a span.
#[repr(C)]
#[derive(Debug)]
pub struct HappeningWire {
    /// The program's callsite.
    pub callsite: *const c_void,
    /// The parent's number; 0 for none, which `root` tells from the current one.
    pub parent: u64,
    /// Not 0 if it has no parent whatever is current.
    pub root: u32,
    /// The values.
    pub values: RawSlice<ValueWire>,
}

/// A field's value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ValueWire {
    /// Which field, by position.
    pub field: u32,
    /// One of this type's constants.
    pub kind: u32,
    /// A number's low 64 bits.
    pub low: u64,
    /// Its high ones.
    pub high: u64,
    /// A text's bytes.
    pub text: RawSlice<u8>,
}

impl ValueWire {
    /// `i64`.
    pub const I64: u32 = 1;
    /// `u64`.
    pub const U64: u32 = 2;
    /// `i128`.
    pub const I128: u32 = 3;
    /// `u128`.
    pub const U128: u32 = 4;
    /// `bool`.
    pub const BOOL: u32 = 5;
    /// `f64`, its bits.
    pub const F64: u32 = 6;
    /// `str`.
    pub const STR: u32 = 7;
    /// Bytes.
    pub const BYTES: u32 = 8;
    /// What was printed with `{:?}`, or by `Display` where the component said so.
    pub const DEBUG: u32 = 9;
    /// An error's own text.
    pub const ERROR: u32 = 10;
    /// The text of the source of the error just before.
    pub const SOURCE: u32 = 11;
}

/// The table of this program.
#[cfg(feature = "tracing")]
pub(crate) const OFFERED: *const TraceServices = {
    static TABLE: TraceServices = TraceServices {
        size: size_of::<TraceServices>(),
        max_level: program::max_level,
        callsite: program::callsite,
        enabled: program::enabled,
        event: program::event,
        new_span: program::new_span,
        record: program::record,
        follows: program::follows,
        enter: program::enter,
        exit: program::exit,
        clone: program::clone,
        close: program::close,
        current: program::current,
    };
    &raw const TABLE
};

/// The table of this program: it was built without `tracing`.
#[cfg(not(feature = "tracing"))]
pub(crate) const OFFERED: *const TraceServices = std::ptr::null();

#[cfg(not(feature = "tracing"))]
pub(crate) fn forward(_: &'static crate::services::Services) {}

/// # Safety
///
/// None where nothing is forwarded.
#[cfg(not(feature = "tracing"))]
pub(crate) unsafe fn depart() {}

#[cfg(feature = "tracing")]
pub(crate) use library::{depart, forward};
#[cfg(all(feature = "testing", feature = "log", feature = "tracing"))]
pub(crate) use program::count;

#[cfg(feature = "tracing")]
fn number(level: &tracing_core::Level) -> u32 {
    use tracing_core::Level;
    match () {
        () if *level == Level::ERROR => 1,
        () if *level == Level::WARN => 2,
        () if *level == Level::INFO => 3,
        () if *level == Level::DEBUG => 4,
        () => 5,
    }
}

#[cfg(feature = "tracing")]
fn level(number: u32) -> tracing_core::Level {
    use tracing_core::Level;
    match number {
        1 => Level::ERROR,
        2 => Level::WARN,
        3 => Level::INFO,
        4 => Level::DEBUG,
        _ => Level::TRACE,
    }
}

#[cfg(feature = "tracing")]
fn kind(flags: u32) -> tracing_core::Kind {
    use tracing_core::Kind;
    match flags {
        _ if flags & CallsiteWire::SPAN != 0 => Kind::SPAN,
        _ if flags & CallsiteWire::EVENT != 0 => Kind::EVENT,
        // `enabled!` without a kind. With one, nobody can tell it from what it asks about.
        _ => Kind::HINT,
    }
}

/// Lends metadata to `take`.
#[cfg(feature = "tracing")]
fn lent<T>(metadata: &tracing_core::Metadata<'_>, take: impl FnOnce(&CallsiteWire) -> T) -> T {
    let names: Vec<RawStr> = metadata.fields().iter().map(|field| RawStr::new(field.name())).collect();
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    take(&CallsiteWire {
        name: RawStr::new(metadata.name()),
        target: RawStr::new(metadata.target()),
        file: RawStr::new(metadata.file().unwrap_or("")),
        module_path: RawStr::new(metadata.module_path().unwrap_or("")),
        fields: RawSlice::new(&names),
        line: metadata.line().unwrap_or(0),
        level: number(metadata.level()),
        flags: flag(metadata.is_event(), CallsiteWire::EVENT)
            | flag(metadata.is_span(), CallsiteWire::SPAN)
            | flag(!metadata.is_event() && !metadata.is_span(), CallsiteWire::HINT)
            | flag(metadata.file().is_some(), CallsiteWire::HAS_FILE)
            | flag(metadata.module_path().is_some(), CallsiteWire::HAS_MODULE)
            | flag(metadata.line().is_some(), CallsiteWire::HAS_LINE),
    })
}

#[cfg(feature = "tracing")]
mod program {
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
                if let Some(span) =
                    shard(number).write().unwrap_or_else(PoisonError::into_inner).get_mut(&number)
                {
                    span.handles += 1;
                }
                return number;
            }
            let Some(id) = own(number) else { return number };
            get_default(|current| {
                let metadata = current
                    .current_span()
                    .into_inner()
                    .filter(|(current, _)| *current == id)
                    .map(|(_, of)| of);
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
}

#[cfg(feature = "tracing")]
mod library {
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
            while let Err(now) = bucket.compare_exchange_weak(next, node, Ordering::AcqRel, Ordering::Acquire)
            {
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
                    ValueWire::STR
                        | ValueWire::BYTES
                        | ValueWire::DEBUG
                        | ValueWire::ERROR
                        | ValueWire::SOURCE
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
            let metadata =
                Metadata::new(name, target, level, file, line, module_path, fields, kind(wire.flags));
            let mirror = Box::into_raw(Box::new(Mirror { metadata, callsite, names, texts }));
            MIRRORS.insert(key.addr(), mirror.cast::<c_void>());
            mirror.cast_const().cast()
        });
        debug_assert_ne!(mirror, null());
        // SAFETY: a mirror, which lives as long as the library.
        unsafe { &(*mirror.cast::<Mirror>()).metadata }
    }
}
