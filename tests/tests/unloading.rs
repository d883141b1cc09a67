//! A library goes when its last reference does, or it is kept, and `sweep` says why.

#[path = "programs/finding.rs"]
mod libraries;
#[path = "programs/mapped.rs"]
mod mappings;
mod programs;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::{io, thread};

use lcr_core::factory::sweep;
use lcr_core::library::Kept;
use lcr_core::{Factory, Handle};
use lcr_tests::Scratch;
use libraries::{Thing, library};
use mappings::mapped;
use programs::DEV;

/// As the fixtures know it.
#[lcr_core::contract]
pub(crate) trait Worker: Send + Sync {
    fn busy(&self) -> u64;
    fn start(&self, until: std::os::fd::OwnedFd);
}

/// One test at a time looks at what this process has mapped.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn searching(place: &Path) -> Factory {
    Factory::builder().without_environment().components([]).path(place).build()
}

fn workers() -> (Scratch, PathBuf, Factory) {
    let directory = Scratch::new();
    let path = directory.copy_as(&DEV.file("liblibgreeters.so"), "lib.so");
    let factory = searching(&path);
    (directory, path, factory)
}

/// Why this library is kept; others may be, too.
fn kept(path: &Path) -> Option<Kept> {
    sweep().into_iter().find(|kept| kept.path == path).map(|kept| kept.reason)
}

/// What has been mapped since.
fn since(before: &HashSet<(String, u64)>) -> usize {
    mapped().difference(before).count()
}

#[test]
fn after_the_last_reference_nothing_of_the_library_is_mapped() {
    let _alone = alone();
    let (_directory, path, factory) = workers();
    let before = mapped();
    let worker: Handle<dyn Worker> = factory.reference("worker", 0).unwrap();
    assert_eq!(since(&before), 1, "it is mapped once");
    let library = mapped().difference(&before).next().unwrap().clone();
    assert_eq!(worker.busy(), 42);
    let (clone, instance) = (worker.clone(), Handle::instance(&worker));
    drop(worker);
    drop(clone);
    assert!(mapped().contains(&library), "an instance holds it");
    assert_eq!(instance.busy(), 42);
    drop(instance);
    assert!(!mapped().contains(&library), "the last one is gone");
    assert_eq!((since(&before), kept(&path)), (0, None));
    // It can be had again.
    let worker: Handle<dyn Worker> = factory.reference("worker", 0).unwrap();
    assert_eq!((worker.busy(), since(&before)), (42, 1));
}

#[test]
fn a_refused_reference_leaves_nothing_mapped() {
    let _alone = alone();
    let directory = Scratch::new();
    let path = directory.copy(&DEV.file("liblibclocks.so"));
    let before = mapped();
    let factory = searching(&path);
    assert!(factory.reference::<dyn Thing>("itself", 0).is_err());
    assert_eq!((since(&before), kept(&path)), (0, None));
}

#[test]
fn a_dependencys_library_goes_with_what_required_it() {
    let _alone = alone();
    let before = mapped();
    let factory = Factory::builder()
        .without_environment()
        .components([])
        .path(DEV.file("liblibclocks.so"))
        .path(DEV.file("liblibgreeters.so"))
        .build();
    let top: Handle<dyn Thing> = factory.reference("chain.top", 0).unwrap();
    assert_eq!(since(&before), 2);
    let bottom: Handle<dyn Thing> = factory.reference("chain.bottom", 0).unwrap();
    drop(top);
    assert_eq!((since(&before), bottom.name()), (1, "chain.bottom".into()));
    drop(bottom);
    assert_eq!(since(&before), 0);
}

#[test]
fn a_factory_may_go_before_what_it_has_given() {
    let _alone = alone();
    let (_directory, _, factory) = workers();
    let before = mapped();
    let worker: Handle<dyn Worker> = factory.reference("worker", 0).unwrap();
    drop(factory);
    assert_eq!((worker.busy(), since(&before)), (42, 1));
    drop(worker);
    assert_eq!(since(&before), 0);
}

#[test]
fn a_living_thread_keeps_it_and_a_later_sweep_unloads_it() {
    let _alone = alone();
    let (_directory, path, factory) = workers();
    let before = mapped();
    let worker: Handle<dyn Worker> = factory.reference("worker", 0).unwrap();
    let (until, end) = io::pipe().unwrap();
    worker.start(until.into());
    drop(worker);
    assert_eq!((kept(&path), since(&before)), (Some(Kept::Threads(1)), 1));
    let said = sweep().into_iter().find(|kept| kept.path == path).unwrap().to_string();
    assert_eq!(said, format!("{}: kept: a thread that it spawned lives", path.display()));
    drop(end);
    // The thread is detached: nobody can join it.
    while let Some(reason) = kept(&path) {
        assert_eq!(reason, Kept::Threads(1));
        thread::yield_now();
    }
    assert_eq!(since(&before), 0);
}

#[test]
fn a_thread_local_on_a_living_thread_keeps_it_until_that_thread_ends() {
    let _alone = alone();
    let (_directory, path, factory) = workers();
    let before = mapped();
    let worker: Handle<dyn Worker> = factory.reference("worker", 0).unwrap();
    let (used, wait) = mpsc::channel();
    let (go, stay) = mpsc::channel::<()>();
    let elsewhere = thread::spawn(move || {
        assert_eq!(worker.busy(), 42);
        // The last reference goes on another thread.
        used.send(worker).unwrap();
        let _ = stay.recv();
    });
    drop(wait.recv().unwrap());
    // The component's own, and those of its copy of the standard library.
    let reason = kept(&path);
    assert!(matches!(reason, Some(Kept::Locals(1..))), "{reason:?}");
    assert_eq!(since(&before), 1);
    drop(go);
    elsewhere.join().unwrap();
    assert_eq!((kept(&path), since(&before)), (None, 0));
}

#[test]
fn a_library_that_asks_to_stay_is_reported_as_that() {
    let _alone = alone();
    let directory = Scratch::new();
    let path = directory.copy(&library("stays"));
    let before = mapped();
    let factory = searching(&path);
    let stays: Handle<dyn Thing> = factory.reference("stays", 0).unwrap();
    assert_eq!(kept(&path), None, "it is in use");
    drop(stays);
    assert_eq!((kept(&path), since(&before)), (Some(Kept::AskedToStay), 1));
    assert_eq!(kept(&path), Some(Kept::AskedToStay), "for ever");
}

#[test]
fn a_library_that_is_kept_can_be_referenced_again() {
    let _alone = alone();
    let (_directory, path, factory) = workers();
    let before = mapped();
    let worker: Handle<dyn Worker> = factory.reference("worker", 0).unwrap();
    let (until, end) = io::pipe().unwrap();
    worker.start(until.into());
    drop(worker);
    assert_eq!(kept(&path), Some(Kept::Threads(1)));
    let again: Handle<dyn Worker> = factory.reference("worker", 0).unwrap();
    assert_eq!(again.busy(), 42);
    drop(again);
    assert_eq!((kept(&path), since(&before)), (Some(Kept::Threads(1)), 1), "the second copy has gone");
    drop(end);
    while kept(&path).is_some() {
        thread::yield_now();
    }
    assert_eq!(since(&before), 0);
}
