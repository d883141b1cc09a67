//! What is loaded, what is refused, and what keeps a library mapped.

mod libraries;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use lcr_core::library::{Candidate, GroupWritable, Kept, Library, LoadError, Locals, Policy, Unload};
use lcr_core::{allocator, services};
use libraries::{Worker, built, copy, scratch};

fn load(path: impl AsRef<Path>) -> Library {
    Candidate::open(path, &Policy::default()).unwrap().load().unwrap()
}

fn refused(path: &Path, policy: &Policy) -> String {
    let error =
        Candidate::open(path, policy).and_then(Candidate::load).map(|library| library.path().to_owned());
    error.unwrap_err().to_string()
}

#[track_caller]
fn unload(library: Library) {
    // SAFETY: the tests use nothing of a library after this.
    match unsafe { library.try_unload(Locals::Wait) } {
        Unload::Unloaded => {}
        Unload::Kept { reason, .. } => panic!("kept: {reason}"),
    }
}

#[track_caller]
fn kept(library: Library, locals: Locals) -> (Kept, Library) {
    // SAFETY: as above.
    match unsafe { library.try_unload(locals) } {
        Unload::Unloaded => panic!("unloaded"),
        Unload::Kept { reason, library } => (reason, library),
    }
}

fn mapped(library: &Library) -> bool {
    is_mapped(&library.mapping().device, library.mapping().inode)
}

fn is_mapped(device: &str, inode: u64) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        words[1].contains('x') && words[3] == device && words[4] == inode.to_string()
    })
}

/// Runs one test of this file alone, in a process with another environment.
fn in_child(test: &str, name: &str, value: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(name, value)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
    text
}

#[test]
fn a_library_is_mapped_used_and_unmapped() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let library = load(built("libone.so"));
    let worker = Worker::of(&library);
    assert_eq!((worker.version)(), 1);
    assert_eq!((worker.busy)(&DROPS), 42);
    let names: Vec<_> = library.registrations().map(|found| (found.name(), found.package())).collect();
    assert_eq!(names, [("worker", "one")]);
    assert!(mapped(&library));
    let mapping = library.mapping().clone();
    assert!(mapping.range.contains(&(worker.version as usize)));
    unload(library);
    assert!(!is_mapped(&mapping.device, mapping.inode));
}

#[test]
fn the_mapped_copy_is_sealed_or_nameless() {
    let library = load(built("libone.so"));
    let start = format!("{:x}-", library.mapping().range.start);
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.starts_with(&start)).unwrap();
    if std::env::var_os("LCR_NO_MEMFD").is_some() {
        assert!(!line.contains("memfd:") && line.ends_with("(deleted)"), "{line}");
    } else {
        assert!(line.ends_with("/memfd:lcr (deleted)"), "{line}");
        let candidate = Candidate::open(built("libone.so"), &Policy::default()).unwrap();
        let write = rustix::io::pwrite(candidate.file(), b"x", 0);
        assert_eq!(write, Err(rustix::io::Errno::PERM));
    }
    unload(library);
}

#[test]
fn without_memfds_a_nameless_copy_does_all_the_same() {
    for test in [
        "the_mapped_copy_is_sealed_or_nameless",
        "a_library_is_mapped_used_and_unmapped",
        "a_file_overwritten_in_place_does_not_change_what_is_loaded",
        "a_file_replaced_by_rename_is_another_library",
    ] {
        in_child(test, "LCR_NO_MEMFD", "1");
    }
}

#[test]
fn a_file_overwritten_in_place_does_not_change_what_is_loaded() {
    let path = copy("libone.so", &scratch("in-place").join("lib.so"));
    let library = load(&path);
    let worker = Worker::of(&library);
    let length = fs::metadata(&path).unwrap().len() as usize;
    fs::write(&path, vec![0xcc; length]).unwrap();
    assert_eq!((worker.version)(), 1);
    fs::File::create(&path).unwrap();
    assert_eq!((worker.version)(), 1);
    unload(library);
    assert!(
        refused(&path, &Policy::default()).contains("is no shared object for this process: it has 0 bytes")
    );
}

#[test]
fn a_file_replaced_by_rename_is_another_library() {
    let directory = scratch("rename");
    let path = copy("libone.so", &directory.join("lib.so"));
    let one = load(&path);
    fs::rename(copy("libtwo.so", &directory.join("new")), &path).unwrap();
    let two = load(&path);
    assert_ne!(one.mapping().inode, two.mapping().inode);
    assert_eq!(((Worker::of(&one).version)(), (Worker::of(&two).version)()), (1, 2));
    unload(one);
    assert_eq!((Worker::of(&two).version)(), 2);
    // The same file twice is two libraries, with statics of their own.
    let again = load(&path);
    assert_ne!(again.mapping().inode, two.mapping().inode);
    unload(two);
    assert_eq!((Worker::of(&again).version)(), 2);
    unload(again);
}

#[test]
fn what_is_verified_is_what_is_loaded_while_the_file_is_swapped() {
    // 1,000 tries take a few seconds; 100,000 in the long form.
    let tries = if std::env::var_os("LCR_LONG").is_some() { 100_000 } else { 1_000 };
    let directory = scratch("swap");
    let path = copy("libone.so", &directory.join("lib.so"));
    let bad = copy("libplain.so", &directory.join("bad"));
    fs::set_permissions(&bad, fs::Permissions::from_mode(0o666)).unwrap();
    let good = [copy("libone.so", &directory.join("one")), copy("libtwo.so", &directory.join("two"))];
    let lengths = [fs::metadata(&good[0]).unwrap(), fs::metadata(&good[1]).unwrap()].map(|facts| facts.ino());
    let (mut loaded, mut refused) = ([0, 0], 0);
    let (swap_at, swaps) = mpsc::channel::<Instant>();
    let (swapped, was_swapped) = mpsc::channel();
    thread::scope(|scope| {
        // One swap in each try, at some moment of it: a file that is swapped all the time
        // changes while it is read, and is refused for that.
        let (path, directory, files) = (&path, &directory, [&good[0], &bad, &good[1]]);
        scope.spawn(move || {
            // Hard links: the inode says which file it was.
            let swap = directory.join("swap");
            for (moment, file) in swaps.into_iter().zip(files.into_iter().cycle()) {
                while Instant::now() < moment {
                    std::hint::spin_loop();
                }
                fs::hard_link(file, &swap).unwrap();
                fs::rename(&swap, path).unwrap();
                // rename() does nothing if both names are the same file already.
                let _ = fs::remove_file(&swap);
                swapped.send(()).unwrap();
            }
        });
        let (mut usual, mut random) = (Duration::from_millis(1), 1_u32);
        for _ in 0..tries {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let began = Instant::now();
            swap_at.send(began + usual * (random >> 24) / 256).unwrap();
            let candidate = match Candidate::open(path, &Policy::default()) {
                Ok(candidate) => candidate,
                Err(LoadError::Mode { mode: 0o666, .. } | LoadError::Changing { .. }) => {
                    refused += 1;
                    was_swapped.recv().unwrap();
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let verified = candidate.stamp().inode;
            let library = candidate.load().unwrap();
            let version = (Worker::of(&library).version)() as usize;
            if let Some(which) = lengths.iter().position(|&inode| inode == verified) {
                assert_eq!(version, which + 1, "another file was loaded than was verified");
            } else {
                assert_eq!(version, 1, "the first copy");
            }
            loaded[version - 1] += 1;
            unload(library);
            usual = (usual * 7 + began.elapsed()) / 8;
            was_swapped.recv().unwrap();
        }
        drop(swap_at);
    });
    println!("{tries} tries: loaded {loaded:?}, refused {refused}");
    assert!(loaded.iter().all(|times| *times > tries / 20) && refused > tries / 20, "hardly a race");
}

#[test]
fn a_mode_that_lets_others_write_is_refused_with_the_chmod_that_cures_it() {
    let path = copy("libone.so", &scratch("mode").join("lib.so"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o757)).unwrap();
    let message = refused(&path, &Policy::default());
    let shown = path.display();
    assert_eq!(
        message,
        format!(
            "{shown}: has mode 0757, so that everyone can write it; wanted write permission for its owner \
             alone (or its owner's private group); run: chmod o-w {shown}"
        )
    );
    let cure = message.split("run: ").nth(1).unwrap();
    assert!(Command::new("sh").args(["-c", cure]).status().unwrap().success());
    unload(load(&path));
}

#[test]
fn a_directory_that_others_write_is_refused_unless_it_is_sticky() {
    let directory = scratch("directory");
    let path = copy("libone.so", &directory.join("lib.so"));
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    let message = refused(&path, &Policy::default());
    assert!(message.starts_with(&format!("{}: has mode 0777", directory.display())), "{message}");
    assert!(message.ends_with(&format!("run: chmod o-w {}", directory.display())), "{message}");
    // By way of a link in a directory that is fine.
    let link = scratch("directory-link").join("lib.so");
    symlink(&path, &link).unwrap();
    assert_eq!(refused(&link, &Policy::default()), message);
    Candidate::open(&path, &Policy::default().directories(false)).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777)).unwrap();
    unload(load(&path));
    unload(load(&link));
}

#[test]
fn what_cargo_writes_under_umask_002_is_loaded() {
    let directory = scratch("umask");
    let path = copy("libone.so", &directory.join("lib.so"));
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o775)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o775)).unwrap();
    let facts = fs::metadata(&path).unwrap();
    if facts.uid() == facts.gid() {
        unload(load(&path));
    }
    let strict = refused(&path, &Policy::default().group_writable(GroupWritable::Never));
    assert!(strict.contains("chmod g-w"), "{strict}");
}

#[test]
fn a_foreign_owner_is_refused() {
    let path = copy("libone.so", &scratch("owner").join("lib.so"));
    if std::os::unix::fs::chown(&path, Some(4711), None).is_err() {
        // Not root: what belongs to another user must be looked for. Rules are tested in
        // the policy's own tests.
        return;
    }
    let message = refused(&path, &Policy::default());
    let shown = path.display();
    let cure = format!("run: chown 0 {shown} (or, in a Rust program, allow its owner: Policy::owner(4711))");
    assert!(message.starts_with(&format!("{shown}: belongs to uid 4711, wanted root (uid 0)")), "{message}");
    assert!(message.ends_with(&cure), "{message}");
    Candidate::open(&path, &Policy::default().owner(4711)).unwrap();
}

#[test]
fn what_is_no_library_is_refused_by_what_it_is() {
    let directory = scratch("kinds");
    let policy = Policy::default();
    let missing = directory.join("missing.so");
    assert!(refused(&missing, &policy).ends_with("cannot be opened: No such file or directory (os error 2)"));
    assert!(refused(&directory, &policy).contains("is a directory, wanted a regular file"));
    let pipe = directory.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(refused(&pipe, &policy).contains("is a pipe, wanted a regular file"));
    let text = directory.join("text.so");
    fs::write(&text, "#!/bin/sh\n".repeat(10)).unwrap();
    assert!(refused(&text, &policy).ends_with("it does not begin with an ELF header"));
    let plain = built("libplain.so");
    assert_eq!(
        refused(&plain, &policy),
        format!(
            "{}: is no lcr library: wanted the symbol `lcr_v1_library`, found none; its root crate says \
             lcr_core::library!(…)",
            plain.display()
        )
    );
    let small = policy.max_size(1000);
    assert!(matches!(Candidate::open(&plain, &small), Err(LoadError::TooLarge { wanted: 1000, .. })));
}

#[test]
fn a_truncated_file_is_refused_before_it_is_mapped_or_by_the_linker() {
    let directory = scratch("truncated");
    let whole = fs::read(built("libone.so")).unwrap();
    // Up to the last byte that is mapped; debug information behind it is nobody's loss.
    let mapped = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |text: &str| usize::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        (words.first() == Some(&"LOAD")).then(|| number(words[1]) + number(words[4]))
    };
    let headers =
        Command::new("readelf").args(["-lW"]).arg(built("libone.so")).output().expect("readelf (binutils)");
    let end = String::from_utf8(headers.stdout).unwrap().lines().filter_map(mapped).max().unwrap();
    for length in [0, 63, 64, 200, 4096, end / 2, end - 1] {
        let path = directory.join(format!("{length}.so"));
        fs::write(&path, &whole[..length]).unwrap();
        let message = refused(&path, &Policy::default());
        assert!(message.starts_with(&*path.to_string_lossy()), "{message}");
        assert!(!message.contains("/proc/"), "{message}");
    }
}

#[test]
fn a_runpath_of_origin_is_refused_unless_paths_may_be_loaded() {
    let path = built("liborigin.so");
    let message = refused(&path, &Policy::default());
    assert!(message.contains("its RUNPATH is `$ORIGIN/needed`"), "{message}");
    let by_path = Policy::default().by_path(true);
    let library = Candidate::open(&path, &by_path).unwrap().load().unwrap();
    assert_eq!((Worker::of(&library).version)(), 1);
    // A second one would be the same object.
    assert!(refused(&path, &by_path).contains("one is open under this name"));
    unload(library);
}

#[test]
fn a_library_that_asks_to_stay_stays_and_owns_its_memory() {
    let library = load(built("libown.so"));
    assert!(library.has_own_allocator());
    assert_ne!((Worker::of(&library).owner)(), allocator::own());
    let (reason, library) = kept(library, Locals::Wait);
    assert_eq!((reason, reason.may_pass()), (Kept::AskedToStay, false));
    assert!(mapped(&library));
}

#[test]
fn memory_changes_hands_without_a_copy() {
    let library = load(built("libone.so"));
    let worker = Worker::of(&library);
    assert!(!library.has_own_allocator());
    assert_eq!((worker.owner)(), allocator::own());
    assert_eq!((worker.owner)(), services::current().allocator);
    // SAFETY: `worker_block` leaks a boxed slice of that length, of the same allocator.
    let block = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut((worker.block)(5000), 5000)) };
    assert_eq!(block.iter().map(|&byte| u32::from(byte)).sum::<u32>(), 35_000);
    drop(block);
    // What an ELF constructor allocated before is recognised.
    assert_eq!((worker.frees_early)(), 100 + 2000 + 1);
    unload(library);
}

#[test]
fn a_frame_on_the_own_stack_keeps_it() {
    static LIBRARY: Mutex<Option<Library>> = Mutex::new(None);
    extern "C" fn back() {
        let library = LIBRARY.lock().unwrap().take().unwrap();
        let (reason, library) = kept(library, Locals::Wait);
        assert_eq!(reason, Kept::OnStack);
        assert_eq!(reason.to_string(), "the unloading thread runs code of it");
        *LIBRARY.lock().unwrap() = Some(library);
    }
    let library = load(built("libone.so"));
    let worker = Worker::of(&library);
    *LIBRARY.lock().unwrap() = Some(library);
    (worker.calls)(back);
    unload(LIBRARY.lock().unwrap().take().unwrap());
}

#[test]
fn a_living_thread_of_its_own_keeps_it() {
    static GATE: Mutex<()> = Mutex::new(());
    static ENDED: AtomicBool = AtomicBool::new(false);
    extern "C" fn back() {
        drop(GATE.lock());
        ENDED.store(true, Ordering::SeqCst);
    }
    let closed = GATE.lock().unwrap();
    let library = load(built("libone.so"));
    (Worker::of(&library).spawns)(back);
    assert_eq!(library.live_threads(), 1);
    let (reason, mut library) = kept(library, Locals::Forget);
    assert_eq!(reason, Kept::Threads(1));
    drop(closed);
    // It is detached: nobody can join it, and unloading is tried again until it has gone.
    loop {
        // SAFETY: nothing of the library is used, but by the thread that keeps it.
        match unsafe { library.try_unload(Locals::Wait) } {
            Unload::Unloaded => break,
            Unload::Kept { reason, library: again } => {
                assert_eq!(reason, Kept::Threads(1));
                library = again;
                thread::yield_now();
            }
        }
    }
    assert!(ENDED.load(Ordering::SeqCst));
}

/// Uses the library on another thread of this program, which stays until it is told to go.
fn on_another_thread(work: impl FnOnce() + Send + 'static) -> impl FnOnce() {
    let (used, wait) = mpsc::channel();
    let (go, stay) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        work();
        used.send(()).unwrap();
        let _ = stay.recv();
    });
    wait.recv().unwrap();
    move || {
        drop(go);
        thread.join().unwrap();
    }
}

#[test]
fn a_thread_local_on_another_thread_keeps_it_until_that_thread_ends() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let library = load(built("libone.so"));
    let worker = Worker::of(&library);
    let end = on_another_thread(move || (worker.local)(&DROPS));
    let (reason, library) = kept(library, Locals::Wait);
    assert_eq!(reason, Kept::Locals(1));
    assert_eq!(DROPS.load(Ordering::SeqCst), 0);
    end();
    assert_eq!(DROPS.load(Ordering::SeqCst), 1, "its destructor ran as the thread ended");
    unload(library);
}

#[test]
fn a_forgotten_thread_local_neither_keeps_it_nor_runs() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let library = load(built("libone.so"));
    let worker = Worker::of(&library);
    let end = on_another_thread(move || (worker.local)(&DROPS));
    let mapping = library.mapping().clone();
    // SAFETY: nothing of the library is used any more.
    assert!(matches!(unsafe { library.try_unload(Locals::Forget) }, Unload::Unloaded));
    assert!(!is_mapped(&mapping.device, mapping.inode));
    end();
    assert_eq!(DROPS.load(Ordering::SeqCst), 0);
}

#[test]
fn a_thread_that_used_thread_current_can_end_after_the_library_has_gone() {
    let library = load(built("libone.so"));
    let worker = Worker::of(&library);
    let end = on_another_thread(move || {
        (worker.current)();
    });
    assert!(library.live_keys() > 0);
    unload(library);
    // Jumped into nothing, were the key still there.
    end();
}

#[test]
fn its_elf_destructors_may_use_keys_and_thread_locals() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let end = on_another_thread(|| {
        let library = load(built("libone.so"));
        let worker = Worker::of(&library);
        (worker.late)(&COUNT);
        (worker.current)();
        unload(library);
    });
    assert_eq!(COUNT.load(Ordering::SeqCst), 1);
    // What the destructor registered for this thread's end has been purged.
    end();
}

#[test]
fn a_panic_that_prints_a_backtrace_does_not_pin_it() {
    if std::env::var_os("RUST_BACKTRACE").is_none_or(|value| value != "1") {
        in_child("a_panic_that_prints_a_backtrace_does_not_pin_it", "RUST_BACKTRACE", "1");
    }
    let library = load(built("libone.so"));
    assert!((Worker::of(&library).loud_panic)());
    unload(library);
}

#[test]
fn a_program_linked_with_rdynamic_calls_the_librarys_own_symbols() {
    let one = built("libone.so");
    let output = Command::new(built("rdynamic")).args([&one, &one]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "unloaded after 2 drops\nunloaded after 4 drops\n");
    let plain: PathBuf = built("libplain.so");
    let output = Command::new(built("rdynamic")).arg(&plain).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("is no lcr library: wanted the symbol `lcr_v1_library`, found none"), "{text}");
}
