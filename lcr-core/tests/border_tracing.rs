//! Events and spans of a library in the program's subscriber.

mod border;

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use border::{call, function, leaves_nothing, load, turn, unload};
use tracing::dispatcher::{self, Dispatch};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// What happened, as lines; metadata by reference, as a subscriber may keep it.
#[derive(Clone, Default)]
struct Recorder(Arc<Recorded>);

#[derive(Default)]
struct Recorded {
    lines: Mutex<Vec<String>>,
    metadata: Mutex<Vec<&'static Metadata<'static>>>,
    /// Closed to `DEBUG` and `TRACE`.
    strict: AtomicBool,
    asked: AtomicUsize,
}

struct Written(String);

impl Visit for Written {
    fn record_i64(&mut self, field: &Field, value: i64) {
        write!(self.0, " {field}={value}i64").unwrap();
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        write!(self.0, " {field}={value}u64").unwrap();
    }
    fn record_i128(&mut self, field: &Field, value: i128) {
        write!(self.0, " {field}={value}i128").unwrap();
    }
    fn record_u128(&mut self, field: &Field, value: u128) {
        write!(self.0, " {field}={value}u128").unwrap();
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        write!(self.0, " {field}={value}").unwrap();
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        write!(self.0, " {field}={value}f64").unwrap();
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {field}=str:{value}").unwrap();
    }
    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        write!(self.0, " {field}=bytes:{value:?}").unwrap();
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        write!(self.0, " {field}=error:{value}<-{}", value.source().unwrap()).unwrap();
        assert!(value.source().unwrap().source().is_none());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Recorder {
    fn line(&self, line: String) {
        self.0.lines.lock().unwrap().push(line);
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lines.lock().unwrap())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        metadata.target() != "quiet"
            && (*metadata.level() <= Level::INFO || !self.0.strict.load(Ordering::SeqCst))
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        match metadata.target() {
            "quiet" => tracing::subscriber::Interest::never(),
            _ => tracing::subscriber::Interest::sometimes(),
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let scope: Vec<_> = context
            .event_scope(event)
            .map(|scope| scope.from_root().map(|span| span.name()).collect())
            .unwrap_or_default();
        let mut written = Written(format!("{} [{}]", event.metadata().level(), scope.join(">")));
        event.record(&mut written);
        self.0.metadata.lock().unwrap().push(event.metadata());
        self.line(written.0);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context.span(id).unwrap().parent().map_or("-", |parent| parent.name());
        let mut written = Written(format!("new {} in {parent}", attributes.metadata().name()));
        attributes.record(&mut written);
        self.0.metadata.lock().unwrap().push(attributes.metadata());
        self.line(written.0);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut written = Written(format!("record {}", context.span(id).unwrap().name()));
        values.record(&mut written);
        self.line(written.0);
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let name = |id| context.span(id).unwrap().name();
        self.line(format!("{} follows {}", name(id), name(follows)));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.line(format!("close {}", context.span(&id).unwrap().name()));
    }
}

/// The process's subscriber, from nothing.
fn global() -> Recorder {
    static GLOBAL: Mutex<Option<Recorder>> = Mutex::new(None);
    let mut global = GLOBAL.lock().unwrap();
    let recorder = global.get_or_insert_with(|| {
        let recorder = Recorder::default();
        dispatcher::set_global_default(Dispatch::new(Registry::default().with(recorder.clone()))).unwrap();
        recorder
    });
    recorder.0.strict.store(false, Ordering::SeqCst);
    recorder.heard();
    recorder.0.metadata.lock().unwrap().clear();
    recorder.clone()
}

#[test]
fn values_arrive_with_their_types() {
    let _turn = turn();
    let recorder = global();
    recorder.0.strict.store(true, Ordering::SeqCst);
    let library = load("libtalker.so");
    call(&library, c"talk_events");
    assert_eq!(
        recorder.heard(),
        [format!(
            "INFO [] message=hello 1 signed=-42i64 unsigned=7u64 wide={}u128 low={}i128 yes=true ratio=0.5f64 \
             who=str:me raw=bytes:[0, 255] what=Some(1) shown=outer error=error:outer<-inner",
            u128::MAX,
            i128::MIN
        )]
    );
    recorder.0.strict.store(false, Ordering::SeqCst);
    call(&library, c"talk_events");
    let lines = recorder.heard();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[1], "TRACE [] message=a trace event");
    unload(library);
}

#[test]
fn the_programs_filter_is_asked_and_its_interest_is_cached() {
    let _turn = turn();
    let recorder = global();
    let library = load("libtalker.so");
    assert_eq!(call(&library, c"talk_enabled"), 0b0111);
    recorder.0.strict.store(true, Ordering::SeqCst);
    let asked = recorder.0.asked.load(Ordering::SeqCst);
    assert_eq!(call(&library, c"talk_enabled"), 0b0011);
    assert_eq!(
        recorder.0.asked.load(Ordering::SeqCst) - asked,
        5,
        "`enabled!` asks twice; nobody is asked about `quiet`"
    );
    unload(library);
}

#[test]
fn spans_have_their_parents_and_end() {
    let _turn = turn();
    let recorder = global();
    let library = load("libtalker.so");
    let around = tracing::info_span!("around");
    around.in_scope(|| call(&library, c"talk_spans"));
    drop(around);
    let lines = recorder.heard();
    assert_eq!(
        lines,
        [
            "new around in -",
            "new outer in around x=1i64",
            "record outer y=str:later",
            "INFO [around>outer] message=in outer",
            "new inner in outer",
            "inner follows outer",
            "INFO [around>outer>inner] message=in inner",
            "INFO [around>outer] message=explicitly in outer",
            "INFO [] message=in none",
            "new root in -",
            "INFO [root] message=in root",
            "close root",
            "close inner",
            "INFO [around] message=outside",
            "close outer",
            "close around",
        ]
    );
    unload(library);
}

#[test]
fn the_programs_current_span_can_be_used_in_the_library() {
    let _turn = turn();
    let recorder = global();
    let library = load("libtalker.so");
    assert_eq!(call(&library, c"talk_current"), 0, "no span, no fields");
    assert_eq!(recorder.heard(), ["INFO [] message=on another thread"]);
    let request = tracing::info_span!("request", answer = tracing::field::Empty, other = 1);
    assert_eq!(request.in_scope(|| call(&library, c"talk_current")), 2);
    drop(request);
    assert_eq!(
        recorder.heard(),
        [
            "new request in - other=1i64",
            "record request answer=42i64",
            "INFO [request] message=on another thread",
            "close request",
        ]
    );
    unload(library);
}

#[test]
fn a_span_stays_with_the_dispatcher_that_made_it() {
    let _turn = turn();
    let global = global();
    let scoped = Recorder::default();
    let dispatch = Dispatch::new(Registry::default().with(scoped.clone()));
    let library = load("libtalker.so");
    dispatcher::with_default(&dispatch, || call(&library, c"talk_hold"));
    // Let go where another dispatcher is the current one, which knows no such span.
    call(&library, c"talk_let_go");
    assert_eq!(scoped.heard(), ["new held in -", "close held"]);
    assert_eq!(global.heard(), [""; 0]);
    unload(library);
}

#[test]
fn what_a_subscriber_keeps_outlives_the_library() {
    let _turn = turn();
    let recorder = global();
    let library = load("libtalker.so");
    let range = library.mapping().range.clone();
    call(&library, c"talk_spans");
    call(&library, c"talk_events");
    unload(library);
    // Asks each callsite's interest anew: of the library's too.
    tracing::callsite::rebuild_interest_cache();
    tracing::info!("the program's own");
    let kept = recorder.0.metadata.lock().unwrap();
    assert_eq!(kept.len(), 12);
    let mut fields = 0;
    for metadata in kept.iter() {
        let texts =
            [metadata.name(), metadata.target(), metadata.file().unwrap(), metadata.module_path().unwrap()];
        for text in texts.into_iter().chain(metadata.fields().iter().map(|field| field.name())) {
            assert!(!range.contains(&text.as_ptr().addr()), "{text}");
            fields += text.len();
        }
    }
    assert!(fields > 0);
    assert!(kept[0].file().unwrap().ends_with("talker.rs") && kept[0].line().is_some());
    assert_eq!((kept[0].name(), kept[0].target()), ("outer", "talker"));
}

#[test]
fn loading_again_keeps_no_more_callsites_and_no_more_memory() {
    let _turn = turn();
    let recorder = global();
    let round = || {
        let library = load("libtalker.so");
        call(&library, c"talk_events");
        call(&library, c"talk_spans");
        let request = tracing::info_span!("request", answer = 1);
        request.in_scope(|| call(&library, c"talk_current"));
        drop(request);
        call(&library, c"talk_enabled");
        unload(library);
        assert!(recorder.heard().len() > 10);
        recorder.0.metadata.lock().unwrap().clear();
    };
    round();
    let kept = lcr_core::border::kept_for_ever();
    leaves_nothing(round);
    assert_eq!(lcr_core::border::kept_for_ever(), kept);
}

#[test]
fn a_library_without_the_feature_is_silent() {
    let _turn = turn();
    let recorder = global();
    let library = load("libmute.so");
    call(&library, c"talk_events");
    call(&library, c"talk_spans");
    assert_eq!(recorder.heard(), [""; 0]);
    unload(library);
}

#[test]
fn threads_trace_at_once_while_libraries_come_and_go() {
    let _turn = turn();
    let recorder = global();
    for _ in 0..5 {
        let library = load("libtalker.so");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        call(&library, c"talk_spans");
                    }
                });
            }
        });
        unload(library);
        let lines = recorder.heard();
        assert_eq!(lines.len(), 100 * 14);
        assert_eq!(lines.iter().filter(|line| line.starts_with("new ")).count(), 300);
        assert_eq!(lines.iter().filter(|line| line.starts_with("close ")).count(), 300);
    }
}

#[test]
fn a_living_thread_that_traced_does_not_keep_the_library() {
    let _turn = turn();
    let recorder = global();
    let library = load("libtalker.so");
    let [spans, log] = [c"talk_spans", c"talk_log"].map(|name| function(&library, name));
    let (used, wait) = mpsc::channel();
    let (go, stay) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        spans();
        log();
        used.send(()).unwrap();
        let _ = stay.recv();
    });
    wait.recv().unwrap();
    unload(library);
    assert!(!thread.is_finished());
    drop(go);
    thread.join().unwrap();
    assert_eq!(recorder.heard().len(), 14);
}

#[test]
fn what_is_switched_off_does_not_arrive() {
    let _turn = turn();
    let recorder = global();
    recorder.0.strict.store(true, Ordering::SeqCst);
    let library = load("libtalker.so");
    let best = (0..50).map(|_| call(&library, c"talk_in_vain")).min().unwrap();
    println!("an event that nobody wants costs {}.{:03} ns", best / 1000, best % 1000);
    assert_eq!(recorder.heard(), [""; 0]);
    unload(library);
}
