//! Panics of a library are told to the program.

mod border;

use std::sync::{Arc, Mutex};

use border::{allocated, built, call, in_child, is_child, leaves_nothing, load, mappings, turn, unload};

#[derive(Debug, PartialEq)]
struct Told {
    message: String,
    file: String,
    line: u32,
    thread: Option<String>,
    library: Option<std::path::PathBuf>,
    text: String,
}

/// Tells this test, and nobody else.
fn told() -> Arc<Mutex<Vec<Told>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    lcr_core::border::set_panic_hook(move |panic| {
        assert!(panic.column() > 0);
        kept.lock().unwrap().push(Told {
            message: panic.message().into(),
            file: panic.file().into(),
            line: panic.line(),
            thread: panic.thread().map(Into::into),
            library: panic.library().map(Into::into),
            text: panic.to_string(),
        });
    });
    told
}

#[test]
fn a_panic_is_told_with_message_place_thread_and_library() {
    let _turn = turn();
    let told = told();
    let library = load("libtalker.so");
    let line = call(&library, c"talk_panic");
    assert_eq!(call(&library, c"talk_panic_on_a_thread"), 1);
    unload(library);
    let told = told.lock().unwrap();
    let path = built("libtalker.so");
    assert_eq!((&*told[0].message, u64::from(told[0].line)), ("of no use", line));
    assert!(told[0].file.ends_with("talker.rs"), "{told:?}");
    assert_eq!(told[0].thread.as_deref(), std::thread::current().name());
    assert_eq!(told[0].library.as_deref(), Some(&*path));
    assert_eq!(told[1].message, "off");
    assert_eq!(told[1].thread.as_deref(), Some("the library's own thread"));
    assert!(told[1].text.starts_with("thread 'the library's own thread' panicked at "), "{}", told[1].text);
    assert!(told[1].text.ends_with(&format!(":\noff\n  in {}", path.display())), "{}", told[1].text);
    assert_eq!(told.len(), 2);
}

#[test]
fn a_hook_of_the_components_own_comes_instead_and_goes_with_the_library() {
    let _turn = turn();
    let told = told();
    leaves_nothing(|| {
        let library = load("libtalker.so");
        assert_eq!(call(&library, c"talk_panic_with_an_own_hook"), 1);
        unload(library);
    });
    assert_eq!(told.lock().unwrap().len(), 0);
}

#[test]
fn a_hook_that_panics_does_no_harm() {
    let _turn = turn();
    lcr_core::border::set_panic_hook(|_| panic!("the hook panics"));
    let library = load("libtalker.so");
    call(&library, c"talk_panic");
    unload(library);
}

/// Alone in a child: prints, with a backtrace, again and again.
#[test]
fn backtraces_are_the_programs_and_leave_no_mappings() {
    const SELF: &str = "backtraces_are_the_programs_and_leave_no_mappings";
    if !is_child(SELF) {
        let text = in_child(SELF, "RUST_BACKTRACE", "1");
        let path = built("libtalker.so");
        assert!(text.matches(":\nof no use\n").count() >= 30, "{text}");
        assert!(
            text.contains(&format!(":\nof no use\n  in {}\nstack backtrace:\n", path.display())),
            "{text}"
        );
        let name = std::thread::current().name().unwrap().to_owned();
        assert!(text.contains(&format!("thread '{name}' panicked at ")), "{text}");
        let frame = text.contains(&format!("border_panics::{SELF}"));
        assert!(frame, "no frame of the program: {text}");
        return;
    }
    let round = || {
        let library = load("libtalker.so");
        call(&library, c"talk_panic");
        unload(library);
    };
    for _ in 0..10 {
        round();
    }
    let (before, memory) = (mappings().len(), allocated());
    for _ in 0..20 {
        round();
    }
    let after = mappings();
    println!("mappings: {before} then {}; allocated {} more", after.len(), allocated() - memory);
    assert!(after.len() <= before + 2, "{before} mappings, then {}: {after:#?}", after.len());
    assert!(allocated() <= memory + 100_000, "{} bytes more", allocated() - memory);
}

#[test]
fn without_backtraces_the_note_comes_once() {
    const SELF: &str = "without_backtraces_the_note_comes_once";
    if !is_child(SELF) {
        let text = in_child(SELF, "RUST_BACKTRACE", "0");
        assert_eq!(text.matches(":\nof no use\n").count(), 2, "{text}");
        assert_eq!(text.matches("note: run with `RUST_BACKTRACE=1`").count(), 1, "{text}");
        assert!(!text.contains("stack backtrace"), "{text}");
        return;
    }
    let library = load("libtalker.so");
    call(&library, c"talk_panic");
    call(&library, c"talk_panic");
    unload(library);
}
