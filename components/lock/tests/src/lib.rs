//! What every lock driver must do: one suite, whatever the driver.
//!
//! A driver is a [`Subject`]: its interface, compiled in or as a library, and what kind
//! of locks it has. [`suite!`] makes a test of each case in [`cases`], which is named
//! after the sequence of the first design that it plays, or after the promise of the
//! [contract](lcr_lock::driver) that it holds to.
//!
//! Two drivers stand here for what the suite must also be able to say: [`whole`], which
//! locks a guest as a whole and has neither hot-plug nor migration; and [`faulty`], in
//! which steps fail on demand.

pub mod cases;
pub mod faulty;
pub mod programs;
pub mod whole;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lcr_core::{Context, Factory};
use lcr_lock::life::{Plugin, Running};
use lcr_lock::{Error, Guest, Kind, Mode, Request, Resource, Uuid};
use lcr_tests::{Profile, Scratch};

lcr_core::link!(lcr_lock_nop, lcr_lock_file);

/// A driver, as the suite sees it.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Its interface.
    pub interface: &'static str,
    /// The package and the name of the library that it is loaded from; none if it is
    /// compiled in.
    pub library: Option<(&'static str, &'static str)>,
    /// Gets a directory as its parameter.
    pub directory: bool,
    /// What it locks.
    pub locks: Locks,
}

/// What a driver locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    /// Nothing.
    Nothing,
    /// Each resource.
    Resources,
    /// The guest, whatever it has.
    Guests,
}

/// A driver under test, and a directory for its disks.
#[derive(Debug)]
pub struct World {
    subject: Subject,
    scratch: Scratch,
}

/// A host: a factory of its own, with the driver as its own singleton.
#[derive(Debug)]
pub struct Host {
    /// The factory.
    pub factory: Factory,
    /// The driver.
    pub plugin: Plugin,
}

impl std::ops::Deref for Host {
    type Target = Plugin;

    fn deref(&self) -> &Plugin {
        &self.plugin
    }
}

impl World {
    /// An empty one.
    #[must_use]
    pub fn new(subject: Subject) -> World {
        World { subject, scratch: Scratch::new() }
    }

    /// What is under test.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// A host that has the driver and shares its disks with all others.
    ///
    /// # Panics
    ///
    /// If the driver cannot be had.
    #[must_use]
    #[track_caller]
    pub fn host(&self) -> Host {
        let Subject { interface, library, directory, locks: _ } = self.subject;
        let mut builder = Factory::builder().without_environment();
        if let Some((package, name)) = library {
            let profile = if cfg!(debug_assertions) { Profile::Dev } else { Profile::Release };
            builder = builder.components([]).path(lcr_tests::build(&[package], profile).library(name));
        }
        let factory = builder.build();
        let mut context = Context::new();
        if directory {
            context = context.with("directory", self.leases().display().to_string().as_str());
        }
        let plugin = Plugin::load_from(&factory, interface, &context);
        Host { plugin: plugin.unwrap_or_else(|error| panic!("{error}")), factory }
    }

    /// The directory of leases.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn leases(&self) -> PathBuf {
        let leases = self.scratch.path().join("leases");
        std::fs::create_dir_all(&leases).unwrap_or_else(|error| panic!("{}: {error}", leases.display()));
        leases
    }

    /// Where a disk of that name is: it is made if it is not there.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        if !path.exists() {
            std::fs::write(&path, b"disk").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        path
    }

    /// A disk, for one guest alone.
    #[must_use]
    pub fn disk(&self, name: &str) -> Resource {
        self.disk_for(name, Mode::Exclusive)
    }

    /// A disk.
    #[must_use]
    pub fn disk_for(&self, name: &str, mode: Mode) -> Resource {
        Resource::disk(self.path(name), mode)
    }

    /// Whether the guest, or one of its disks, is locked for everybody else: asked on
    /// another host.
    ///
    /// # Panics
    ///
    /// If the answer is neither yes nor no.
    #[must_use]
    #[track_caller]
    pub fn is_held(&self, guest: &Guest, disk: &Resource) -> bool {
        let rival = match self.subject.locks {
            Locks::Nothing => return false,
            Locks::Resources => new_guest("rival"),
            Locks::Guests => Guest { pid: None, ..guest.clone() },
        };
        let host = self.host();
        match acquire(&host, &rival, std::slice::from_ref(disk)) {
            Ok(_) => false,
            Err(error) if error.kind == Kind::Held => true,
            Err(error) => panic!("{error}"),
        }
    }

    /// Shows that the guest has its locks.
    ///
    /// # Panics
    ///
    /// If it has not.
    #[track_caller]
    pub fn assert_held(&self, guest: &Guest, disk: &Resource) {
        let held = self.is_held(guest, disk);
        assert!(held || self.subject.locks == Locks::Nothing, "{disk} of {} is free", guest.name);
    }

    /// Shows that the locks are free.
    ///
    /// # Panics
    ///
    /// If somebody has them.
    #[track_caller]
    pub fn assert_free(&self, guest: &Guest, disk: &Resource) {
        assert!(!self.is_held(guest, disk), "{disk} of {} is held", guest.name);
    }

    /// Waits until the locks are free: another process has to notice.
    ///
    /// # Panics
    ///
    /// If they are not after ten seconds.
    #[track_caller]
    pub fn assert_free_soon(&self, guest: &Guest, disk: &Resource) {
        soon(&format!("{disk} of {} is free", guest.name), || !self.is_held(guest, disk));
    }
}

/// A copy of a library without what is for debuggers: it is read, hashed and copied each
/// time that it is loaded, and may be fifty times as large with it.
///
/// # Panics
///
/// If it cannot be made.
#[must_use]
#[track_caller]
pub fn stripped(library: &Path, scratch: &Scratch) -> PathBuf {
    let name = library.file_name().unwrap_or_else(|| panic!("{} is no file", library.display()));
    let copy = scratch.path().join(name);
    let status = Command::new("strip").arg("-o").arg(&copy).arg(library).status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "strip {}: {status:?}; it comes with the linker (binutils)",
        library.display()
    );
    copy
}

/// Waits until something is so.
///
/// # Panics
///
/// If it is not after ten seconds.
#[track_caller]
pub fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(10), "not after ten seconds: {what}");
        std::thread::yield_now();
    }
}

/// A guest that nobody else is.
///
/// # Panics
///
/// If the kernel gives no uuid.
#[must_use]
pub fn new_guest(name: &str) -> Guest {
    Guest::new(name, Uuid::random().expect("the kernel makes uuids"))
}

/// Describes a guest and takes its locks.
///
/// # Errors
///
/// The driver's.
pub fn acquire(
    plugin: &Plugin,
    guest: &Guest,
    disks: &[Resource],
) -> Result<lcr_lock::life::Acquired, Error> {
    let mut described = plugin.new_guest(guest)?;
    for disk in disks {
        described.add(disk)?;
    }
    described.acquire(&Request::default())
}

/// Starts a guest that runs until its process is ended.
///
/// # Errors
///
/// The driver's.
pub fn start(plugin: &Plugin, guest: &Guest, disks: &[Resource]) -> Result<(Running, Process), Error> {
    let (running, child) = acquire(plugin, guest, disks)?.start(waiting())?;
    Ok((running, Process(child)))
}

/// A command that waits: it ends with its standard input, so with the test at the latest.
#[must_use]
pub fn waiting() -> Command {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command
}

/// A guest's process, killed when dropped.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    /// One that waits, and inherits nothing.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn new() -> Process {
        Process(waiting().spawn().expect("cat can be started"))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends it as nothing can be caught, and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Default for Process {
    fn default() -> Self {
        Process::new()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A module of tests: each case of the suite, played with a [`Subject`].
#[macro_export]
macro_rules! suite {
    ($name:ident, $subject:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "a subject may be made of constants alone")]
            use super::*;
            $crate::each_case!($subject;
                plugin_load_and_unload
                guest_start
                acquire_refused_aborts_the_start
                a_guest_that_cannot_be_started_holds_nothing
                shutdown
                suspend_and_resume
                manager_restart
                attach_finds_no_child
                a_lock_dies_with_the_guest
                disk_hot_plug_and_unplug
                migration_completed
                migration_with_descriptors_completed
                migration_cancelled
                migration_cancelled_after_the_source_has_completed
                failed_prepare_starts_nothing
                modes
                misuse_is_refused
                an_owner_without_resources_means_none
                each_operation_by_an_owner_of_its_own
                the_state_of_another_process_is_ignored
                a_process_that_has_inherited_nothing_is_tied_too
            );
        }
    };
}

/// See [`suite!`].
#[doc(hidden)]
#[macro_export]
macro_rules! each_case {
    ($subject:expr; $($case:ident)*) => { $(
        #[test]
        fn $case() {
            $crate::cases::$case(&$crate::World::new($subject));
        }
    )* };
}
