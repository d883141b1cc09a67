//! A library that logs, traces and panics.

use std::error::Error;
use std::fmt;
use std::panic;
use std::sync::Mutex;
use std::thread;

lcr_core::library!();

/// Prints itself, and counts how often.
struct Counted(&'static std::sync::atomic::AtomicU64);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        f.write_str("counted")
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn talk_log() -> u64 {
    log::error!("one");
    log::warn!(target: "audit", "two of {}", 5);
    log::info!("three");
    log::debug!("four: {:?}", Some("x"));
    log::trace!("five");
    0
}

/// How often the argument of a debug record was formatted.
#[unsafe(no_mangle)]
pub extern "C" fn talk_lazily() -> u64 {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    log::debug!("{}", Counted(&COUNT));
    COUNT.load(std::sync::atomic::Ordering::SeqCst)
}

/// A record whose texts are no constants.
#[unsafe(no_mangle)]
pub extern "C" fn talk_of_the_moment() -> u64 {
    for n in 0..100 {
        let (target, module, file) = (format!("target {n}"), format!("module {n}"), format!("file {n}"));
        let mut record = log::Record::builder();
        record.level(log::Level::Info).target(&target).module_path(Some(&module)).file(Some(&file));
        log::logger().log(&record.args(format_args!("moment {n}")).build());
    }
    log::logger().flush();
    0
}

/// 1 if a panic of the program's logger arrives as one that can be caught here.
#[unsafe(no_mangle)]
pub extern "C" fn talk_to_a_panicking_logger() -> u64 {
    let caught = panic::catch_unwind(|| log::error!(target: "panic", "now"));
    let text = caught.unwrap_err();
    u64::from(text.downcast_ref::<String>().is_some_and(|text| text == "the logger panics"))
}

#[derive(Debug)]
struct Outer(Inner);
#[derive(Debug)]
struct Inner;

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outer")
    }
}
impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("inner")
    }
}
impl Error for Inner {}
impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn talk_events() -> u64 {
    let error = Outer(Inner);
    tracing::info!(
        signed = -42_i64,
        unsigned = 7_u32,
        wide = u128::MAX,
        low = i128::MIN,
        yes = true,
        ratio = 0.5,
        who = "me",
        raw = &b"\x00\xff"[..],
        what = ?Some(1),
        shown = %error,
        error = &error as &(dyn Error + 'static),
        missing = tracing::field::Empty,
        "hello {}",
        1
    );
    tracing::debug!(target: "quiet", "a debug event");
    tracing::trace!("a trace event");
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn talk_spans() -> u64 {
    let outer = tracing::info_span!("outer", x = 1, y = tracing::field::Empty);
    outer.record("y", "later");
    let kept = outer.clone();
    outer.in_scope(|| {
        tracing::info!("in outer");
        let inner = tracing::info_span!("inner");
        inner.follows_from(&outer);
        let _inner = inner.entered();
        tracing::info!("in inner");
        tracing::info!(parent: &kept, "explicitly in outer");
        tracing::info!(parent: None, "in none");
        let _root = tracing::info_span!(parent: None, "root").entered();
        tracing::info!("in root");
    });
    drop(outer);
    tracing::info!("outside");
    drop(kept);
    0
}

/// Uses the program's current span; answers the number of its fields.
#[unsafe(no_mangle)]
pub extern "C" fn talk_current() -> u64 {
    let span = tracing::Span::current();
    span.record("answer", 42);
    let again = tracing::Span::current();
    assert_eq!(span.metadata(), again.metadata());
    let fields = span.metadata().map_or(0, |metadata| metadata.fields().len() as u64);
    thread::Builder::new()
        .name("talker".into())
        .spawn(move || span.in_scope(|| tracing::info!("on another thread")))
        .unwrap()
        .join()
        .unwrap();
    fields
}

static HELD: Mutex<Option<tracing::Span>> = Mutex::new(None);

#[unsafe(no_mangle)]
pub extern "C" fn talk_hold() -> u64 {
    *HELD.lock().unwrap() = Some(tracing::info_span!("held"));
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn talk_let_go() -> u64 {
    let held = HELD.lock().unwrap().take().unwrap();
    held.in_scope(|| ());
    0
}

/// Which levels are enabled for this module, as bits.
#[unsafe(no_mangle)]
pub extern "C" fn talk_enabled() -> u64 {
    use tracing::Level;
    u64::from(tracing::enabled!(Level::ERROR))
        | u64::from(tracing::enabled!(Level::INFO)) << 1
        | u64::from(tracing::enabled!(Level::DEBUG)) << 2
        | u64::from(tracing::enabled!(target: "quiet", Level::ERROR)) << 3
}

/// Nanoseconds for 1,000 events that nobody wants.
#[unsafe(no_mangle)]
pub extern "C" fn talk_in_vain() -> u64 {
    let start = std::time::Instant::now();
    for n in 0..1000 {
        tracing::trace!(n, "in vain");
    }
    start.elapsed().as_nanos() as u64
}

/// The same of records.
#[unsafe(no_mangle)]
pub extern "C" fn log_in_vain() -> u64 {
    let start = std::time::Instant::now();
    for n in 0..1000 {
        log::trace!("in vain {n}");
    }
    start.elapsed().as_nanos() as u64
}

/// A panic that is caught; its line.
#[unsafe(no_mangle)]
pub extern "C" fn talk_panic() -> u64 {
    assert!(panic::catch_unwind(|| panic!("of {}", "no use")).is_err());
    u64::from(line!() - 1)
}

/// The same on a thread of its own.
#[unsafe(no_mangle)]
pub extern "C" fn talk_panic_on_a_thread() -> u64 {
    let thread = thread::Builder::new().name("the library's own thread".into());
    u64::from(thread.spawn(|| panic!("off")).unwrap().join().is_err())
}

/// The same with a hook of the component's, which holds memory; how often it was called.
#[unsafe(no_mangle)]
pub extern "C" fn talk_panic_with_an_own_hook() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let memory = vec![1_u64; 1000];
    panic::set_hook(Box::new(move |_| {
        CALLS.fetch_add(memory[0], Ordering::SeqCst);
    }));
    assert!(panic::catch_unwind(|| panic!("unheard")).is_err());
    CALLS.load(Ordering::SeqCst)
}
