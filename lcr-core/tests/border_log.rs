//! Log records of a library in the program's logger.

mod border;

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use border::{built, call, leaves_nothing, load, turn, unload};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// A record as the logger kept it: constants by reference, as a logger may.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    level: Level,
    target: String,
    message: String,
    module: Option<&'static str>,
    file: Option<&'static str>,
    line: Option<u32>,
}

struct Logger {
    records: Mutex<Vec<Kept>>,
    flushes: AtomicUsize,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() != "audit" || metadata.level() < Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        assert!(record.target() != "panic", "the logger panics");
        self.records.lock().unwrap().push(Kept {
            level: record.level(),
            target: record.target().into(),
            message: record.args().to_string(),
            module: record.module_path_static(),
            file: record.file_static(),
            line: record.line(),
        });
    }

    fn flush(&self) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
    }
}

static LOGGER: Logger = Logger { records: Mutex::new(Vec::new()), flushes: AtomicUsize::new(0) };

/// Listens at this level, from nothing.
fn listen(level: LevelFilter) {
    // Another test may have been first.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
    LOGGER.records.lock().unwrap().clear();
}

fn heard() -> Vec<Kept> {
    std::mem::take(&mut LOGGER.records.lock().unwrap())
}

fn messages() -> Vec<(Level, String)> {
    heard().into_iter().map(|record| (record.level, record.message)).collect()
}

#[test]
fn records_arrive_whole_and_in_order() {
    let _turn = turn();
    listen(LevelFilter::Trace);
    let library = load("libtalker.so");
    call(&library, c"talk_log");
    let records = heard();
    let texts: Vec<_> = records.iter().map(|record| (record.level, &*record.message)).collect();
    assert_eq!(
        texts,
        [
            (Level::Error, "one"),
            (Level::Info, "three"),
            (Level::Debug, "four: Some(\"x\")"),
            (Level::Trace, "five")
        ],
        "the logger does not want warnings of `audit`"
    );
    for pair in records.windows(2) {
        assert!(pair[0].line < pair[1].line, "{pair:?}");
    }
    for record in &records {
        assert_eq!((&*record.target, record.module), ("talker", Some("talker")));
        assert!(record.file.unwrap().ends_with("talker.rs"), "{record:?}");
    }
    unload(library);
}

#[test]
fn the_programs_level_holds_at_once_and_nothing_is_formatted_in_vain() {
    let _turn = turn();
    listen(LevelFilter::Off);
    let library = load("libtalker.so");
    call(&library, c"talk_log");
    assert_eq!(messages(), []);
    log::set_max_level(LevelFilter::Info);
    call(&library, c"talk_log");
    assert_eq!(messages(), [(Level::Error, "one".into()), (Level::Info, "three".into())]);
    assert_eq!(call(&library, c"talk_lazily"), 0);
    log::set_max_level(LevelFilter::Debug);
    assert_eq!(call(&library, c"talk_lazily"), 1);
    assert_eq!(messages(), [(Level::Debug, "counted".into())]);
    unload(library);
}

#[test]
fn what_a_logger_keeps_outlives_the_library() {
    let _turn = turn();
    listen(LevelFilter::Info);
    let library = load("libtalker.so");
    let range = library.mapping().range.clone();
    call(&library, c"talk_log");
    unload(library);
    log::info!("the program's own");
    let records = heard();
    assert_eq!(records.len(), 3);
    for record in &records[..2] {
        for text in [record.module.unwrap(), record.file.unwrap()] {
            assert!(!range.contains(&text.as_ptr().addr()), "{text}");
        }
        assert_eq!(record.module, Some("talker"));
        assert!(record.file.unwrap().ends_with("talker.rs"));
    }
    assert_eq!(records[2].module, Some("border_log"));
}

#[test]
fn loading_again_keeps_no_more_texts_and_no_more_memory() {
    let _turn = turn();
    listen(LevelFilter::Info);
    let round = || {
        let library = load("libtalker.so");
        call(&library, c"talk_log");
        call(&library, c"talk_of_the_moment");
        assert_eq!(heard().len(), 102);
        unload(library);
    };
    round();
    let texts = lcr_core::border::kept_for_ever();
    leaves_nothing(round);
    assert_eq!(lcr_core::border::kept_for_ever(), texts);
}

#[test]
fn texts_of_the_moment_are_lent_and_flush_arrives() {
    let _turn = turn();
    listen(LevelFilter::Info);
    let library = load("libtalker.so");
    let before = (LOGGER.flushes.load(Ordering::SeqCst), lcr_core::border::kept_for_ever());
    call(&library, c"talk_of_the_moment");
    let after = (LOGGER.flushes.load(Ordering::SeqCst), lcr_core::border::kept_for_ever());
    assert_eq!((before.0 + 1, before.1), after);
    let records = heard();
    assert_eq!(records[99].target, "target 99");
    assert_eq!((records[99].module, records[99].file), (None, None));
    unload(library);
}

#[test]
fn a_panic_of_the_logger_is_raised_again_in_the_component() {
    let _turn = turn();
    listen(LevelFilter::Info);
    let library = load("libtalker.so");
    assert_eq!(call(&library, c"talk_to_a_panicking_logger"), 1);
    unload(library);
}

#[test]
fn a_library_without_the_feature_is_silent() {
    let _turn = turn();
    listen(LevelFilter::Trace);
    let library = load("libmute.so");
    call(&library, c"talk_log");
    assert_eq!(messages(), []);
    unload(library);
}

#[test]
fn a_program_without_the_features_loads_libraries_that_have_them() {
    let output = Command::new(built("deaf"))
        .args([built("libtalker.so"), built("libmute.so"), built("libtalker.so")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "unloaded\nunloaded\nunloaded\n");
    assert_eq!(text.matches("of no use").count(), 3, "{text}");
}

#[test]
fn what_is_switched_off_does_not_arrive() {
    let _turn = turn();
    listen(LevelFilter::Info);
    let library = load("libtalker.so");
    let best = (0..50).map(|_| call(&library, c"log_in_vain")).min().unwrap();
    println!("a record that nobody wants costs {}.{:03} ns", best / 1000, best % 1000);
    assert_eq!(messages(), []);
    unload(library);
}
