//! One table of faults, one for each way in which a replacement can fail. After each
//! the old version serves, calls that were held went through on it, its own threads
//! go on, and the process holds what it held before.
//!
//! One test in a process of its own: it counts what the process holds.

#![allow(missing_docs, unreachable_pub, reason = "a test, with the fixture of libraries in it")]

#[path = "../fixtures/replace/src/lib.rs"]
#[macro_use]
mod replaced;
mod replacing;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use lcr_control::client::Client;
use lcr_core::Handle;
use lcr_core::factory::{
    Entry, Event, Factory, Failure, Outcome, Replacement, Report, Stage, Status, Step, sweep,
};
use replaced::Store;
use replacing::{Holds, heap, library, no_script, script};

store!(store_0, crate::replaced, 0, [1, 2], 1, 1..=1);
plain!(plain_0, crate::replaced, "plain", 0, [1]);

/// A fault: its name, where it is found, how it is brought about, and what is said.
struct Fault {
    name: &'static str,
    step: Step,
    inject: fn(&Bench) -> Result<Report, String>,
    /// `{}` stands for the library's path.
    says: &'static str,
}

/// What is said of it.
fn said(outcome: Result<Report, Failure>) -> Result<Report, String> {
    outcome.map_err(|failure| failure.to_string())
}

/// What faults are made with.
struct Bench {
    control: lcr_control::Running,
    store: Handle<dyn Store>,
    scratch: lcr_tests::Scratch,
}

impl Bench {
    fn with(&self, name: &str) -> Replacement {
        Factory::process().replace("store").with(library(name))
    }

    fn client(&self) -> Client {
        Client::connect(self.control.socket()).unwrap()
    }

    /// What a client asks for.
    fn request() -> serde_json::Value {
        serde_json::json!({"interface": "store", "file": library("store_1"), "timeout_ms": 600_000})
    }

    /// Somebody is inside, so that who replaces has to wait.
    fn hold(&self) -> Held<'_> {
        Held { _inside: Handle::enter(&self.store), events: Factory::process().events() }
    }

    /// A copy of a good library, to be spoilt.
    fn copy(&self, spoil: impl FnOnce(&PathBuf)) -> Replacement {
        let _ = fs::remove_file(self.scratch.path().join("spoilt.so"));
        let copy = self.scratch.copy_as(&library("store_1"), "spoilt.so");
        spoil(&copy);
        Factory::process().replace("store").with(copy)
    }

    /// Runs the good replacement while the script says `word` at `step`.
    fn scripted(&self, step: &'static str, word: &'static str) -> Result<Report, Failure> {
        script(move |at| if at == step { word.to_owned() } else { String::new() });
        self.with("store_1").run()
    }
}

/// A call, and what happens from then on.
struct Held<'a> {
    _inside: lcr_core::Guard<'a, dyn Store>,
    events: mpsc::Receiver<Event>,
}

impl Held<'_> {
    /// Does it while callers are held, and tells what the replacement came to.
    fn then(self, act: impl FnOnce()) -> Result<Report, String> {
        let is_held = |i: &Status| i.name == "store" && i.state == Stage::Held;
        while !Factory::process().interfaces().iter().any(is_held) {
            thread::yield_now();
        }
        act();
        match self.events.recv().unwrap() {
            Event::Replacement(Entry { outcome: Outcome::Failed(why), .. }) => Err(why),
            other => panic!("{other:?}"),
        }
    }
}

/// In the environment of a client: the socket.
const CLIENT_OF: &str = "LCR_CLIENT_OF";

/// The other process, if this is it: asks, and is killed.
fn is_client() -> bool {
    let Some(socket) = std::env::var_os(CLIENT_OF) else { return false };
    let _ = Client::connect(socket).unwrap().call("Replace", Bench::request());
    true
}

const SOON: Duration = Duration::from_millis(60);
/// Long enough to load a library first.
const LONGER: Duration = Duration::from_millis(400);

const FAULTS: &[Fault] = &[
    Fault {
        name: "no such version",
        step: Step::Prepare,
        inject: |_| said(Factory::process().replace("store").version(7).run()),
        says: "`store` was not replaced (prepare): no version 7 of `store` that could replace it is \
            compiled in or in the directories that are searched; version 0 serves",
    },
    Fault {
        name: "no such interface in the library",
        step: Step::Prepare,
        inject: |bench| said(bench.with("raw_1").run()),
        says: "`store` was not replaced (prepare): {} offers no `store`; it offers: `raw` version 1",
    },
    Fault {
        name: "does not replace",
        step: Step::Prepare,
        inject: |bench| said(bench.with("store_unrelated").run()),
        says: "`store` was not replaced (prepare): version 9 does not replace version 0: its `replaces` \
            is empty; add the version that serves to that (in C, to `versions_replace`)",
    },
    Fault {
        name: "wrong contract",
        step: Step::Prepare,
        inject: |bench| said(bench.with("store_strange").run()),
        says: "`store` was not replaced (prepare): version 1 does not fit the handles that are live: \
            method 1 of contract `Store` differs: expected `add: fn(u64) -> u64`, found `add: fn(i64) -> \
            u64`; methods may only be appended to a contract: rebuild the older side",
    },
    Fault {
        name: "takes no state",
        step: Step::Prepare,
        inject: |bench| said(bench.with("store_without_state").run()),
        says: "`store` was not replaced (prepare): version 0 hands its state over and version 1 takes \
            none: it would be lost; add `state` to its `#[interface(…)]` and implement `Handover`",
    },
    Fault {
        name: "bad mode",
        step: Step::Prepare,
        inject: |bench| {
            said({
                let everyone = fs::Permissions::from_mode(0o666);
                bench.copy(|file| fs::set_permissions(file, everyone).unwrap()).run()
            })
        },
        says: "`store` was not replaced (prepare): {}: has mode 0666, so that everyone can write it; \
            wanted write permission for its owner alone (or its owner's private group); run: chmod o-w {}",
    },
    Fault {
        name: "bad owner",
        step: Step::Prepare,
        inject: |bench| said(bench.copy(|file| chown(file, Some(54321), None).unwrap()).run()),
        says: "`store` was not replaced (prepare): {}: belongs to uid 54321, wanted root (uid 0); if you \
            trust it, run: chown 0 {} (or, in a Rust program, allow its owner: Policy::owner(54321))",
    },
    Fault {
        name: "truncated library",
        step: Step::Prepare,
        inject: |bench| {
            said({
                let shorten = |file: &PathBuf| {
                    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
                    file.set_len(100_000).unwrap();
                };
                bench.copy(shorten).run()
            })
        },
        says: "`store` was not replaced (prepare): {}: is no shared object for this process: it is \
            truncated: it has 100000 bytes, and a segment ends beyond them",
    },
    Fault {
        name: "no library at all",
        step: Step::Prepare,
        inject: |bench| said(bench.copy(|file| fs::remove_file(file).unwrap()).run()),
        says: "`store` was not replaced (prepare): {}: cannot be opened: No such file or directory (os \
            error 2)",
    },
    Fault {
        name: "unresolved symbol",
        step: Step::Prepare,
        inject: |bench| said(bench.with("store_unresolved").run()),
        says: "`store` was not replaced (prepare): {}: the dynamic linker refused it: {}: undefined \
            symbol: lcr_test_stands_nowhere",
    },
    Fault {
        name: "dependency missing",
        step: Step::Prepare,
        inject: |bench| said(bench.with("store_needy").run()),
        says: "`store` was not replaced (prepare): `store` cannot be constructed, store → nobody: no \
            component offers any version of `nobody`; nothing was searched: set LCR_PATH to the directories \
            that hold libraries, or link the component in",
    },
    Fault {
        name: "process out of file descriptors",
        step: Step::Prepare,
        inject: |bench| {
            said({
                let _limit = Limit::set(0);
                bench.with("store_1").run()
            })
        },
        says: "`store` was not replaced (prepare): {}: cannot be opened: Too many open files (os error 24)",
    },
    Fault {
        name: "constructor error",
        step: Step::Build,
        inject: |_| {
            said({
                script(|_| "error".to_owned());
                Factory::process().replace("plain").with(library("plain_scripted")).run()
            })
        },
        says: "`plain` was not replaced (build): the constructor of `plain` version 1 ({}) failed: no disk",
    },
    Fault {
        name: "constructor panic",
        step: Step::Build,
        inject: |_| {
            said({
                script(|_| "panic".to_owned());
                Factory::process().replace("plain").with(library("plain_scripted")).run()
            })
        },
        says: "`plain` was not replaced (build): the constructor of `plain` version 1 ({}) panicked: kaboom",
    },
    Fault {
        name: "constructor error among several",
        step: Step::Build,
        inject: |bench| {
            said({
                script(|_| "error".to_owned());
                bench.with("store_1").also("plain").with(library("plain_scripted")).run()
            })
        },
        says: "`plain` was not replaced (build): the constructor of `plain` version 1 ({}) failed: no disk",
    },
    Fault {
        name: "pause error",
        step: Step::Pause,
        inject: |bench| said(bench.scripted("pause", "error")),
        says: "`store` was not replaced (pause): the old version's `pause` failed: no disk",
    },
    Fault {
        name: "pause panic",
        step: Step::Pause,
        inject: |bench| said(bench.scripted("pause", "panic")),
        says: "`store` was not replaced (pause): the old version's `pause` panicked: kaboom at pause",
    },
    Fault {
        name: "save error",
        step: Step::Save,
        inject: |bench| said(bench.scripted("save", "error")),
        says: "`store` was not replaced (save): the old version's `save` failed: no disk",
    },
    Fault {
        name: "save panic",
        step: Step::Save,
        inject: |bench| said(bench.scripted("save", "panic")),
        says: "`store` was not replaced (save): the old version's `save` panicked: kaboom at save",
    },
    Fault {
        name: "save calls what is held",
        step: Step::Save,
        inject: |bench| said(bench.scripted("save", "call")),
        says: "`store` was not replaced (save): the old version's `save` panicked: `store` was called by \
            its own replacement: a save, restore or constructor may not call an interface that is being \
            replaced in the same transaction; pass what is needed in the state",
    },
    Fault {
        name: "restore error",
        step: Step::Restore,
        inject: |bench| said(bench.scripted("restore", "error")),
        says: "`store` was not replaced (restore): the `restore` of version 1 ({}) failed: no disk",
    },
    Fault {
        name: "restore panic",
        step: Step::Restore,
        inject: |bench| said(bench.scripted("restore", "panic")),
        says: "`store` was not replaced (restore): the `restore` of version 1 ({}) panicked: kaboom at \
            restore",
    },
    Fault {
        name: "restore calls what is held",
        step: Step::Restore,
        inject: |bench| said(bench.scripted("restore", "call")),
        says: "`store` was not replaced (restore): the `restore` of version 1 ({}) failed: `store` was \
            referenced while what replaces it was being constructed or restored, store → store: the handle \
            would lead to that itself; pass what is needed in the state, or through another interface",
    },
    Fault {
        name: "restore of an older schema",
        step: Step::Restore,
        inject: |bench| said(bench.with("store_newer").run()),
        says: "`store` was not replaced (restore): the `restore` of version 3 ({}) failed: section `sum` \
            was saved with schema version 1, and this version restores versions 2 to 3",
    },
    Fault {
        name: "a caller stuck inside",
        step: Step::Drain,
        inject: |bench| {
            said({
                let (inside, is_inside) = mpsc::channel();
                let (go, may_go) = mpsc::channel::<()>();
                let may_go = std::sync::Mutex::new(may_go);
                script(move |at| {
                    if at == "inside" {
                        inside.send(()).unwrap();
                        may_go.lock().unwrap().recv().unwrap();
                    }
                    "finished here".to_owned()
                });
                let store = bench.store.clone();
                let stuck = thread::Builder::new().name("stuck-caller".into());
                let stuck = stuck.spawn(move || (store.stay("inside"), store.version())).unwrap();
                is_inside.recv().unwrap();
                let failed = bench.with("store_1").timeout(LONGER).run();
                if let Err(failure) = &failed {
                    let [who] = failure.inside() else { panic!("{failure}") };
                    assert_eq!((&*who.thread, who.interface), ("stuck-caller", "store"));
                    assert!(who.age > Duration::ZERO && who.age < Duration::from_secs(60), "{who}");
                }
                go.send(()).unwrap();
                assert_eq!(stuck.join().unwrap(), (Ok("finished here".to_owned()), 0));
                failed
            })
        },
        says: "`store` was not replaced (drain): the time was over while callers were inside: \
            stuck-caller in `store`, for {time} at least",
    },
    Fault {
        name: "a pinned instance that is not given back",
        step: Step::Drain,
        inject: |bench| {
            said({
                let pinned = [Handle::instance(&bench.store), Handle::instance(&bench.store)];
                let failed = bench.with("store_1").timeout(SOON).run();
                assert_eq!(pinned[0].version(), 0);
                failed
            })
        },
        says: "`store` was not replaced (drain): the time was over while callers were inside: 2 pinned \
            instances in `store`, for {time} at least",
    },
    Fault {
        name: "a requester inside its own target",
        step: Step::Prepare,
        inject: |bench| {
            said({
                let (send, failed) = mpsc::channel();
                let began = Instant::now();
                script(move |at| {
                    if at == "ask" {
                        send.send(Factory::process().replace("store").with(library("store_1")).run())
                            .unwrap();
                    }
                    String::new()
                });
                bench.store.stay("ask").unwrap();
                assert!(began.elapsed() < Duration::from_secs(4), "found at once, not by the deadline");
                failed.recv().unwrap()
            })
        },
        says: "`store` was not replaced (prepare): the replacement of `store` was asked for from inside a \
            call to it, and would wait for itself; ask from a thread that is not inside",
    },
    Fault {
        name: "two transactions at once",
        step: Step::Prepare,
        inject: |bench| {
            said({
                let both = Arc::new(Barrier::new(2));
                let (first, second) = (Arc::clone(&both), both);
                script(move |at| {
                    if at == "restore" {
                        first.wait();
                        first.wait();
                        return "error".to_owned();
                    }
                    String::new()
                });
                thread::scope(|scope| {
                    let one = scope.spawn(|| bench.with("store_1").run());
                    second.wait();
                    let failed = bench.with("store_1").timeout(SOON).run();
                    second.wait();
                    assert_eq!(one.join().unwrap().unwrap_err().step, Step::Restore);
                    failed
                })
            })
        },
        says: "`store` was not replaced (prepare): another replacement was going on until the time was \
            over: they are made one at a time",
    },
    Fault {
        name: "a replacement within another",
        step: Step::Prepare,
        inject: |bench| {
            said({
                let (send, failed) = mpsc::channel();
                script(move |at| {
                    if at == "restore" {
                        send.send(Factory::process().replace("plain").with(library("plain_1")).run())
                            .unwrap();
                        return "error".to_owned();
                    }
                    String::new()
                });
                let began = Instant::now();
                bench.with("store_1").run().unwrap_err();
                assert!(began.elapsed() < Duration::from_secs(4), "found at once, not by the deadline");
                failed.recv().unwrap()
            })
        },
        says: "`plain` was not replaced (prepare): this was asked for from within another replacement (a \
            constructor, save or restore)",
    },
    Fault {
        name: "control connection lost in the middle",
        step: Step::Drain,
        inject: |bench| {
            let (mut client, held) = (bench.client(), bench.hold());
            client.stream("Replace", Bench::request()).unwrap();
            held.then(|| drop(client))
        },
        says: "`store` was not replaced (drain): whoever asked for it called it off, or went away, \
            before the switch",
    },
    Fault {
        name: "kill -9 of the client",
        step: Step::Drain,
        inject: |bench| {
            let held = bench.hold();
            let mut client = Command::new(std::env::current_exe().unwrap());
            client.env(CLIENT_OF, bench.control.socket()).stdout(Stdio::null());
            let mut client = client.spawn().unwrap();
            held.then(|| {
                client.kill().unwrap();
                client.wait().unwrap();
            })
        },
        says: "`store` was not replaced (drain): whoever asked for it called it off, or went away, \
            before the switch",
    },
];

/// A lower limit of descriptors, while it lives.
struct Limit(libc::rlimit);

impl Limit {
    fn set(descriptors: u64) -> Limit {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: two calls that read and write a structure of this frame.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before), 0);
            let lower = libc::rlimit { rlim_cur: descriptors, ..before };
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const lower), 0);
        }
        Limit(before)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // SAFETY: reads a structure of this frame.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const self.0) };
    }
}

/// Threads that call all the time.
struct Callers {
    threads: Vec<thread::JoinHandle<u64>>,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl Callers {
    fn start(store: &Handle<dyn Store>, plain: &Handle<dyn Store>) -> Callers {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..2).map(|at| {
            let (store, plain) = (store.clone(), plain.clone());
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            let builder = thread::Builder::new().name(format!("caller-{at}"));
            let call = move || {
                let (mut added, mut last) = (0, 0);
                while !stop.load(Ordering::SeqCst) {
                    let sum = store.add(1);
                    assert!(sum > last, "{sum} after {last}");
                    last = sum;
                    assert!(store.version() <= 1 && plain.version() == 0);
                    added += 1;
                    calls.fetch_add(1, Ordering::SeqCst);
                }
                added
            };
            builder.spawn(call).unwrap()
        });
        let threads = threads.collect();
        Callers { threads, stop, calls }
    }

    /// Waits until calls go through.
    fn go_on(&self) {
        let now = self.calls.load(Ordering::SeqCst);
        while self.calls.load(Ordering::SeqCst) < now + 4 {
            thread::yield_now();
        }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

#[test]
fn after_each_fault_the_old_version_serves_and_nothing_is_left() {
    if is_client() {
        return;
    }
    // A backtrace maps the library's file for reading, for good: std's symbolizer never
    // unmaps what it has read.
    // SAFETY: the harness waits for this test, and no other thread reads it.
    unsafe { std::env::remove_var("RUST_BACKTRACE") };
    // One arena, so that all of the heap is counted.
    // SAFETY: sets a number in the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    library("store_1");
    let factory = Factory::process();
    let scratch = lcr_tests::Scratch::new();
    let control = lcr_control::Builder::new().directory(scratch.path()).start().unwrap();
    let bench = Bench { control, store: factory.reference("store", 0).unwrap(), scratch };
    let open = Holds::now().descriptors;
    // Who has answered has a name.
    bench.client().call("List", serde_json::json!({})).unwrap();
    let plain: Handle<dyn Store> = factory.reference("plain", 0).unwrap();
    let callers = Callers::start(&bench.store, &plain);
    callers.go_on();
    // A thread is called what its parent is, until it has called itself something.
    let named = |holds: &Holds| {
        ["caller-0", "caller-1", "ticker"].iter().all(|n| holds.threads.iter().any(|t| t == n))
    };
    // And what that client had open is closed when the control thread gets to it.
    let settled = |holds: &Holds| named(holds) && holds.descriptors == open;
    let before = std::iter::repeat_with(Holds::now).find(settled).unwrap();
    let mut wrong = Vec::new();
    for fault in FAULTS {
        if fault.name == "bad owner" && !is_root() {
            let line = "SKIPPED replace_faults, bad owner: only root can give a file to somebody else\n";
            let _ = std::io::stderr().write_all(line.as_bytes());
            continue;
        }
        let mut heaps = Vec::new();
        for _ in 0..4 {
            let failure = (fault.inject)(&bench).expect_err(fault.name);
            no_script();
            let step = format!("({}): ", fault.step);
            assert!(failure.contains(&step), "{}: {failure}", fault.name);
            assert_eq!(bench.store.version(), 0);
            callers.go_on();
            let ticks = bench.store.ticks();
            while bench.store.ticks() == ticks {
                thread::yield_now();
            }
            let after = Holds::settled(&before);
            assert_eq!(after, before, "{}; kept: {:?}", fault.name, sweep());
            heaps.push(heap());
            let says = normal(&failure);
            if says != fault.says {
                wrong.push(format!("{}:\n    {says}\n  wanted:\n    {}", fault.name, fault.says));
            }
        }
        // The first time some things are allocated once; the history grows a little.
        let growth = heaps[3].saturating_sub(heaps[1]);
        assert!(growth < 32 * 1024, "{}: the heap grows: {heaps:?}", fault.name);
    }
    wrong.dedup();
    descriptors_run_out_anywhere(&bench, &callers, &before);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let failed = |entry: &&Entry| matches!(entry.outcome, Outcome::Failed(_));
    assert!(
        factory.history().iter().filter(failed).count() >= (FAULTS.len() - 1) * 4,
        "each is in the history"
    );

    // And then it works: all that was added is there.
    factory.replace("plain").with(library("plain_0")).version(0).run().unwrap();
    let added = callers.stop();
    factory.replace("store").with(library("store_1")).run().unwrap();
    assert_eq!((bench.store.version(), bench.store.add(0)), (1, added));
}

/// With one descriptor more each time, until there are enough.
fn descriptors_run_out_anywhere(bench: &Bench, callers: &Callers, before: &Holds) {
    let open: Vec<u64> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    let mut steps = Vec::new();
    for limit in (0..).filter(|number| !open.contains(number)) {
        let lower = Limit::set(limit);
        let outcome = bench.with("store_1").run();
        drop(lower);
        match outcome {
            Err(failure) => steps.push(failure.step),
            Ok(_) => break,
        }
        callers.go_on();
        let after = Holds::settled(before);
        assert_eq!(after, *before, "{limit}; kept: {:?}", sweep());
    }
    assert!(steps.contains(&Step::Prepare) && steps.contains(&Step::Save), "{steps:?}");
    Factory::process().rollback("store").run().unwrap();
    callers.go_on();
    let after = Holds::settled(before);
    assert_eq!(after, *before, "kept: {:?}", sweep());
}

fn is_root() -> bool {
    // SAFETY: it only answers.
    unsafe { libc::geteuid() == 0 }
}

/// The text without paths, thread numbers and times.
fn normal(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let (head, tail) = word.find('/').map_or((word, ""), |at| word.split_at(at));
        let is_time = word.ends_with("ms") || word.ends_with("µs");
        words.push(match () {
            () if is_time && word.starts_with(|c: char| c.is_ascii_digit()) => "{time}".to_owned(),
            () if tail.contains(".so") => {
                let end = tail.find(".so").map_or(tail.len(), |at| at + 3);
                format!("{head}{{}}{}", &tail[end..])
            }
            () => word.to_owned(),
        });
    }
    words.join(" ")
}
