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
pub mod elsewhere;
pub mod faulty;
pub mod programs;
pub mod sanlock;
pub mod whole;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lcr_core::{Context, Factory};
use lcr_lock::life::{Acquired, Plugin, Policy, Running};
use lcr_lock::{Error, Grant, Guest, Kind, Mode, Request, Resource, Uuid};
use lcr_tests::{Profile, Scratch};

use crate::elsewhere::{Asked, Starter, Waiting};

lcr_core::link!(lcr_lock_nop, lcr_lock_file, lcr_lock_sanlock);

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
    /// Set where a guest's process has to ask for itself.
    pub elsewhere: Option<Elsewhere>,
}

/// How a driver is reached that has to be asked in the guest's process
/// ([`Features::before_process`](lcr_lock::Features::before_process)).
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// The program `lock-asker`.
    pub program: &'static str,
    /// The driver's parameters; none where its daemon is missing, which was said.
    pub parameters: fn() -> Option<Parameters>,
}

/// A driver's parameters.
pub type Parameters = Vec<(&'static str, String)>;

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
    parameters: Parameters,
    scratch: Scratch,
}

/// A host: a factory of its own, with the driver as its own singleton.
#[derive(Debug)]
pub struct Host {
    /// The factory.
    pub factory: Factory,
    /// The driver.
    pub plugin: Plugin,
    starter: Option<Starter>,
}

/// Where a guest can be started: in this process, or by one of its own.
pub trait Place {
    /// The driver.
    fn plugin(&self) -> &Plugin;

    /// What starts processes that ask for themselves.
    fn starter(&self) -> Option<&Starter> {
        None
    }
}

impl Place for Plugin {
    fn plugin(&self) -> &Plugin {
        self
    }
}

impl Place for Host {
    fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    fn starter(&self) -> Option<&Starter> {
        self.starter.as_ref()
    }
}

/// Locks that were taken, and that nobody runs on yet.
#[derive(Debug)]
pub enum Taken {
    /// By this process.
    Here(Acquired),
    /// By a process that waits, and gives them up when this is dropped.
    There(Waiting),
}

impl Taken {
    /// Those of this process.
    ///
    /// # Panics
    ///
    /// If another process has taken them.
    #[must_use]
    #[track_caller]
    pub fn here(self) -> Acquired {
        match self {
            Taken::Here(acquired) => acquired,
            Taken::There(waiting) => panic!("{waiting:?} has them"),
        }
    }
}

impl std::ops::Deref for Host {
    type Target = Plugin;

    fn deref(&self) -> &Plugin {
        &self.plugin
    }
}

impl World {
    /// An empty one.
    ///
    /// # Panics
    ///
    /// If the driver's daemon is missing: see [`of`](Self::of).
    #[must_use]
    #[track_caller]
    pub fn new(subject: Subject) -> World {
        World::of(subject).expect("the driver's daemon is there")
    }

    /// The same; none where the driver's daemon is missing, which was said.
    #[must_use]
    pub fn of(subject: Subject) -> Option<World> {
        let parameters = subject.elsewhere.map_or_else(|| Some(Vec::new()), |there| (there.parameters)())?;
        Some(World { subject, parameters, scratch: Scratch::new() })
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
        let Subject { interface, directory, .. } = self.subject;
        let library = self.library();
        let mut builder = Factory::builder().without_environment();
        if let Some(library) = &library {
            builder = builder.components([]).path(library);
        }
        let factory = builder.build();
        let mut context = Context::new();
        if directory {
            context = context.with("directory", self.leases().display().to_string().as_str());
        }
        for (name, value) in &self.parameters {
            context = context.with(name, value.as_str());
        }
        let plugin = Plugin::load_from(&factory, interface, &context);
        let plugin = plugin.unwrap_or_else(|error| panic!("{error}"));
        Host { plugin, factory, starter: self.starter() }
    }

    /// What starts processes that ask for themselves, where they must.
    #[must_use]
    pub fn starter(&self) -> Option<Starter> {
        let program = self.subject.elsewhere?.program;
        let (library, parameters) = (self.library(), self.parameters.clone());
        Some(Starter {
            program,
            interface: self.subject.interface,
            library,
            parameters,
            environment: Vec::new(),
        })
    }

    fn library(&self) -> Option<PathBuf> {
        let (package, name) = self.subject.library?;
        let profile = if cfg!(debug_assertions) { Profile::Dev } else { Profile::Release };
        Some(lcr_tests::build(&[package], profile).library(name))
    }

    /// A process that waits, and that the driver can be told of.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn process(&self, guest: &Guest) -> Process {
        match self.starter() {
            None => Process::new(),
            Some(starter) => starter.registered(guest).unwrap_or_else(|error| panic!("{error}")).process,
        }
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
        let disk = std::slice::from_ref(disk);
        let taken = match self.starter() {
            Some(starter) => starter.hold(&Asked::of(&rival, disk)).map(drop),
            None => acquire(&self.host(), &rival, disk).map(drop),
        };
        match taken {
            Ok(()) => false,
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
pub fn acquire(place: &impl Place, guest: &Guest, disks: &[Resource]) -> Result<Taken, Error> {
    if let Some(starter) = place.starter() {
        return starter.hold(&Asked::of(guest, disks)).map(Taken::There);
    }
    let mut described = place.plugin().new_guest(guest)?;
    for disk in disks {
        described.add(disk)?;
    }
    described.acquire(&Request::default()).map(Taken::Here)
}

/// Starts a guest that runs until its process is ended.
///
/// # Errors
///
/// The driver's.
pub fn start(place: &impl Place, guest: &Guest, disks: &[Resource]) -> Result<(Running, Process), Error> {
    start_with(place, guest, disks, &Request::default())
}

/// The same, with a request of its own.
///
/// # Errors
///
/// The driver's.
///
/// # Panics
///
/// If a guest that has asked for itself cannot be attached to.
pub fn start_with(
    place: &impl Place,
    guest: &Guest,
    disks: &[Resource],
    request: &Request,
) -> Result<(Running, Process), Error> {
    if let Some(starter) = place.starter() {
        let asked = Asked { request: request.clone(), ..Asked::of(guest, disks) };
        let started = starter.start(&asked, &waiting())?;
        let known = guest.clone().with_pid(started.process.id());
        let attached = place.plugin().attach(&known, Grant::of_state(&started.state))?;
        let running = attached.child(Policy::default()).unwrap_or_else(|none| panic!("{none}"));
        return Ok((running, started.process));
    }
    let mut described = place.plugin().new_guest(guest)?;
    for disk in disks {
        described.add(disk)?;
    }
    let (running, child) = described.acquire(request)?.start(waiting())?;
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
                migration_cancelled_after_both_have_completed
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
            if let Some(world) = $crate::World::of($subject) {
                $crate::cases::$case(&world);
            }
        }
    )* };
}
