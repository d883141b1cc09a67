//! A guest's life under locks, as types: what cannot be done at a point of it is not
//! there to be called.
//!
//! ```text
//!  Plugin ── new_guest ──▶ Described ── acquire ──▶ Acquired ── start ──▶ Running ◀─┐
//!    │                                                 (refused: the start ends)  │  │
//!    ├── attach ─────────▶ Attached ── child ────────────────────────────────────▶│  │
//!    │                                                                            │  │ cancel
//!    │                        on the source:  Running ── prepare_migrate ──▶ Departing
//!    │                                                                   ── complete ──▶ Departed
//!    └── arrive ─────────▶ Arriving ── started ──▶ Incoming ── complete ──▶ Running
//!                             └── complete ──▶ Acquired        └── cancel: nothing is held
//! ```
//!
//! Each step consumes the value before it. A step that can fail and be tried again, or
//! be answered by another one, gives the value back in a [`Failed`]. Dropping a value
//! is always safe: what nobody runs on is released, and what a running guest holds
//! stays with it.
//!
//! # Who is killed
//!
//! Two failures leave a manager with a guest that it has no hold of. What then happens
//! is the [`Policy`]'s to say; by default
//!
//! * a **shutdown** whose release fails kills the guest's process: the guest was to end,
//!   and with its process every lock of it ends;
//! * an **attach** that finds no child leaves everything as it is: a manager's restart
//!   must never stop a guest that runs well, and a process that cannot be identified
//!   must not be killed.
//!
//! # Sequences
//!
//! The sequences of the first design, in its order. A driver with no locks is enough to
//! show them; `components/lock/tests` runs each against every driver, under the name
//! that it has here.
//!
//! ## Plugin load and unload
//!
//! ```
//! # lcr_core::link!(lcr_lock_nop);
//! # use lcr_lock::life::*;
//! # use lcr_lock::*;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plugin = Plugin::load("lock.nop")?;
//! assert_eq!(plugin.about().interface, "lock.nop");
//! plugin.unload(); // when the last guest is closed, so is the driver
//! # Ok(()) }
//! ```
//!
//! ## Guest start, and shutdown
//!
//! ```
//! # lcr_core::link!(lcr_lock_nop);
//! # use lcr_lock::life::*;
//! # use lcr_lock::*;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let plugin = Plugin::load("lock.nop")?;
//! let mut guest = plugin.new_guest(&Guest::new("web", Uuid::random()?))?;
//! guest.add(&Resource::disk("/srv/web.img", Mode::Exclusive))?;
//! guest.add(&Resource::disk("/srv/common.img", Mode::ReadOnly))?;
//! let guest = guest.acquire(&Request::default())?; // an error here: somebody has a disk
//! let (guest, mut process) = guest.start(std::process::Command::new("true"))?;
//! process.wait()?;
//! assert!(matches!(guest.shutdown(Policy::default()), Shutdown::Released(_)));
//! # Ok(()) }
//! ```
//!
//! ## Manager restart
//!
//! ```
//! # lcr_core::link!(lcr_lock_nop);
//! # use lcr_lock::life::*;
//! # use lcr_lock::*;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let plugin = Plugin::load("lock.nop")?;
//! # let web = Guest::new("web", Uuid::random()?);
//! let guest = plugin.new_guest(&web)?.acquire(&Request::default())?;
//! let (guest, mut process) = guest.start(std::process::Command::new("cat"))?;
//! let pid = guest.pid();
//! let state = guest.leave(); // the guest runs on; its state was written down
//!
//! let guest = plugin.attach(&web.with_pid(pid), Grant::of_state(state))?;
//! let guest = guest.child(Policy::default())?;
//! assert_eq!(guest.pid(), pid);
//! # process.kill()?; process.wait()?;
//! # Ok(()) }
//! ```
//!
//! ## Disk hot-plug and unplug
//!
//! ```
//! # lcr_core::link!(lcr_lock_nop);
//! # use lcr_lock::life::*;
//! # use lcr_lock::*;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let plugin = Plugin::load("lock.nop")?;
//! # let web = Guest::new("web", Uuid::random()?);
//! # let guest = plugin.new_guest(&web)?.acquire(&Request::default())?;
//! # let (guest, mut process) = guest.start(std::process::Command::new("cat"))?;
//! let disk = Resource::disk("/srv/more.img", Mode::Exclusive);
//! guest.plug(&disk)?; // an error here: the guest must not get the disk
//! if let Err(warning) = guest.unplug(&disk) {
//!     eprintln!("{warning}"); // the guest has given the disk up; the lock outlasts it
//! }
//! # process.kill()?; process.wait()?;
//! # Ok(()) }
//! ```
//!
//! ## Migration
//!
//! ```
//! # lcr_core::link!(lcr_lock_nop);
//! # use lcr_lock::life::*;
//! # use lcr_lock::*;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (source, destination) = (Plugin::load("lock.nop")?, Plugin::load("lock.nop")?);
//! # let web = Guest::new("web", Uuid::random()?);
//! # let guest = source.new_guest(&web)?.acquire(&Request::default())?;
//! # let (guest, mut process) = guest.start(std::process::Command::new("cat"))?;
//! // On the source. An error here: nothing was started, the guest runs on.
//! let target = Target { uri: "qemu://b/system".into(), with_descriptors: false };
//! let (leaving, grant) = guest.prepare_migrate(&target)?;
//!
//! // On the destination: the incoming guest is started, and waits.
//! let mut arriving = destination.arrive(&web)?;
//! arriving.add(&Resource::disk("/srv/web.img", Mode::Exclusive))?;
//! assert_eq!(arriving.supervisor()?, None);
//! # let mut incoming_process = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn()?;
//! let incoming = arriving.started(incoming_process.id())?;
//!
//! // The guest stands still. Both sides complete, the source first…
//! let left = leaving.complete()?;
//! match incoming.complete(grant) {
//!     Ok(guest) => {
//!         left.forget();
//!         assert_eq!(guest.child()?, guest.pid());
//!     }
//!     // …or both cancel, and the guest goes on where it was.
//!     Err(failed) => {
//!         failed.guest.cancel();
//!         left.cancel()?;
//!     }
//! }
//! # process.kill()?; process.wait()?; incoming_process.kill()?; incoming_process.wait()?;
//! # Ok(()) }
//! ```
//!
//! # What does not compile
//!
//! Releasing before acquiring:
//!
//! ```compile_fail,E0599
//! # lcr_core::link!(lcr_lock_nop);
//! # use lcr_lock::life::*;
//! # use lcr_lock::*;
//! # fn f(guest: Described) {
//! guest.shutdown(Policy::default());
//! # }
//! ```
//!
//! Adding after acquiring; a running guest's disks are plugged:
//!
//! ```compile_fail,E0599
//! # lcr_core::link!(lcr_lock_nop);
//! # use lcr_lock::life::*;
//! # use lcr_lock::*;
//! # fn f(mut guest: Acquired, disk: &Resource) {
//! guest.add(disk);
//! # }
//! ```
//!
//! Completing twice:
//!
//! ```compile_fail,E0382
//! # lcr_core::link!(lcr_lock_nop);
//! # use lcr_lock::life::*;
//! # use lcr_lock::*;
//! # fn f(guest: Departing) {
//! guest.complete();
//! guest.complete();
//! # }
//! ```

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command};

use lcr_core::{Context, Factory, Handle, ReferenceError, Version};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::driver::{About, Driver};
use crate::error::{Error, Operation};
use crate::grant::{Grant, Opening, Program, Request, Target};
use crate::guest::{Guest, Owner};
use crate::inherit;
use crate::resource::Resource;

/// A lock driver that was found, and loaded if it was not compiled in.
#[derive(Clone, Debug)]
pub struct Plugin {
    driver: Handle<dyn Driver>,
}

impl Plugin {
    /// The driver with this interface, in its highest version, from the process-wide
    /// factory.
    ///
    /// # Errors
    ///
    /// Nothing offers it, or its constructor failed.
    pub fn load(interface: &str) -> Result<Plugin, ReferenceError> {
        Plugin::load_from(Factory::process(), interface, &Context::new())
    }

    /// The same from another factory, and with parameters for the driver: those of its
    /// first reference count.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_from(
        factory: &Factory,
        interface: &str,
        context: &Context,
    ) -> Result<Plugin, ReferenceError> {
        factory.reference_with(interface, Version::any(), context).map(Plugin::of)
    }

    /// A driver that was referenced already.
    #[must_use]
    pub fn of(driver: Handle<dyn Driver>) -> Plugin {
        Plugin { driver }
    }

    /// The driver itself.
    #[must_use]
    pub fn driver(&self) -> &Handle<dyn Driver> {
        &self.driver
    }

    /// What the driver is, and does.
    #[must_use]
    pub fn about(&self) -> About {
        self.driver.about()
    }

    /// A guest that is to start here.
    ///
    /// # Errors
    ///
    /// The driver will not have it.
    pub fn new_guest(&self, guest: &Guest) -> Result<Described, Error> {
        self.open(guest, Opening::New).map(Described)
    }

    /// A guest that runs, and holds what an earlier manager was granted.
    ///
    /// # Errors
    ///
    /// The driver will not have it.
    pub fn attach(&self, guest: &Guest, grant: Grant) -> Result<Attached, Error> {
        self.open(guest, Opening::Attach(grant)).map(Attached)
    }

    /// A guest that is on its way here from another host.
    ///
    /// # Errors
    ///
    /// The driver will not have it, or has no migration.
    pub fn arrive(&self, guest: &Guest) -> Result<Arriving, Error> {
        let about = self.about();
        if !about.features.migrate {
            return Err(Error::unsupported(&about.interface, Operation::PrepareMigrate));
        }
        self.open(guest, Opening::Migrate).map(Arriving)
    }

    /// Drops the hold on the driver. It ends, and its library is unloaded, with its
    /// last guest.
    pub fn unload(self) {}

    fn open(&self, guest: &Guest, opening: Opening) -> Result<Open, Error> {
        let owner = self.driver.open(guest, opening)?;
        Ok(Open { driver: self.driver.clone(), owner, release: false })
    }
}

/// An owner that is closed when nobody has it any more, and released before that if
/// no guest runs under its locks.
#[derive(Debug)]
struct Open {
    driver: Handle<dyn Driver>,
    owner: Owner,
    release: bool,
}

impl Open {
    fn releasing(mut self, release: bool) -> Open {
        self.release = release;
        self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.release {
            // What cannot be released dies with the last descriptor.
            let _ = self.driver.release(self.owner);
        }
        self.driver.close(self.owner);
    }
}

/// A step that failed, and the guest as it was before it.
pub struct Failed<G> {
    /// The guest: try again, or take another step.
    pub guest: G,
    /// Why.
    pub error: Error,
}

impl<G> fmt::Debug for Failed<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<G> fmt::Display for Failed<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<G> std::error::Error for Failed<G> {}

/// A guest that is being described.
#[derive(Debug)]
pub struct Described(Open);

impl Described {
    /// Adds what the guest needs.
    ///
    /// # Errors
    ///
    /// It has that already, or the driver has no such resources.
    pub fn add(&mut self, resource: &Resource) -> Result<(), Error> {
        self.0.driver.add(self.0.owner, resource)
    }

    /// Takes all locks. Refused, the start is over: nothing is held, nothing runs.
    ///
    /// # Errors
    ///
    /// Somebody holds one of the resources; or the driver could not lock.
    pub fn acquire(self, request: &Request) -> Result<Acquired, Error> {
        let grant = self.0.driver.acquire(self.0.owner, request)?;
        Ok(Acquired { open: self.0.releasing(true), grant })
    }
}

/// A guest that has its locks, and whose process is to inherit them. Dropped, it gives
/// them up.
#[derive(Debug)]
pub struct Acquired {
    open: Open,
    grant: Grant,
}

/// How the reason begins where [`Acquired::start`] could not start the guest's command.
pub const NOT_STARTED: &str = "the guest's command";

impl Acquired {
    /// What was granted.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The program that has to be started in the place of the guest's own, with the
    /// arguments before that; none if there need not be one.
    ///
    /// # Errors
    ///
    /// The driver cannot say.
    pub fn supervisor(&self) -> Result<Option<Program>, Error> {
        self.open.driver.supervisor(self.open.owner)
    }

    /// Starts the guest as a child of this process, which inherits the locks.
    ///
    /// # Errors
    ///
    /// It could not be started, or the driver did not take it for the guest: then it
    /// was killed. Nothing is held.
    pub fn start(self, mut command: Command) -> Result<(Running, Child), Error> {
        let Acquired { open, grant } = self;
        inherit::on_start(&mut command, &grant.descriptors);
        let mut child = command.spawn().map_err(|error| {
            let what = format!("{NOT_STARTED} {} cannot be started", command.get_program().display());
            Error::of_system(&open.driver.about().interface, Operation::Register, &what, &error)
        })?;
        match (Acquired { open, grant }).started(child.id()) {
            Ok(running) => Ok((running, child)),
            Err(error) => {
                // Not without its locks.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Says which process has inherited the [`grant`](Self::grant).
    ///
    /// # Errors
    ///
    /// There is no such process, or it has not. Nothing is held by this side any
    /// more; the process should not run on.
    pub fn started(self, pid: u32) -> Result<Running, Error> {
        let Acquired { open, grant: _ } = self;
        let state = open.driver.register(open.owner, pid)?;
        Ok(Running::new(open, pid, state))
    }

    /// Becomes the guest: this process, which was named as the guest's, executes its
    /// command and passes the locks on. For drivers that must be asked in the guest's
    /// own process ([`Features::before_process`](crate::Features::before_process)).
    ///
    /// Returns only if that fails; nothing is held then.
    pub fn exec(self, mut command: Command) -> Error {
        use std::os::unix::process::CommandExt as _;
        inherit::on_start(&mut command, &self.grant.descriptors);
        let error = command.exec();
        let what = format!("the guest's command {} cannot be executed", command.get_program().display());
        Error::of_system(&self.open.driver.about().interface, Operation::Acquire, &what, &error)
    }
}

/// A guest that runs under its locks. Dropped, it runs on, and keeps them.
#[derive(Debug)]
pub struct Running {
    open: Open,
    pid: u32,
    /// The very process, whoever gets its number later. None where it has ended.
    process: Option<OwnedFd>,
    state: String,
}

/// What a manager does when a guest's locks get out of its hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A shutdown could not release. By default the guest's process is killed.
    pub failed_shutdown: Consequence,
    /// An attach found no child. By default everything is left as it is.
    pub failed_child: Consequence,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { failed_shutdown: Consequence::Kill, failed_child: Consequence::Leave }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// The process that was known as the guest's, or its supervisor's, is killed.
    Kill,
    /// It is left alone.
    Leave,
}

/// How a shutdown ended.
#[derive(Debug)]
#[must_use = "locks may be left"]
pub enum Shutdown {
    /// All locks are given up. The state to acquire them with again, if there is one.
    Released(Option<String>),
    /// They could not be released; the guest's process was killed, and they ended
    /// with it.
    Killed(Error),
    /// They could not be released, and are held until the guest's process ends.
    Left(Error),
}

/// A disk that the guest has given up, and whose lock could not be.
#[derive(Debug, thiserror::Error)]
#[error("warning: {error}; it stays locked until the guest ends")]
pub struct Warning {
    /// Why.
    #[source]
    pub error: Error,
}

impl Running {
    fn new(open: Open, pid: u32, state: String) -> Running {
        // The guest has its locks from here on; nobody gives them up but by saying so.
        let open = open.releasing(false);
        let process =
            Pid::from_raw(pid.cast_signed()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Running { open, pid, process, state }
    }

    /// The guest's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The driver's number for the guest.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.open.owner
    }

    /// The guest's process, asked of the driver anew.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn child(&self) -> Result<u32, Error> {
        self.open.driver.child(self.open.owner)
    }

    /// What a later manager attaches with. To be written down after each change.
    ///
    /// # Errors
    ///
    /// The driver cannot say; or the guest has lost its locks ([`Kind::Lost`](crate::Kind::Lost)).
    pub fn state(&self) -> Result<String, Error> {
        Ok(self.open.driver.inquire(self.open.owner)?.unwrap_or_else(|| self.state.clone()))
    }

    /// Duplicates of what holds the guest's locks, where that is descriptors: whoever has
    /// them keeps the locks when the guest's process has ended.
    ///
    /// # Errors
    ///
    /// They cannot be duplicated.
    pub fn descriptors(&self) -> Result<Vec<OwnedFd>, Error> {
        self.open.driver.descriptors(self.open.owner)
    }

    /// Takes one more resource.
    ///
    /// # Errors
    ///
    /// Somebody holds it; the guest must not get it. Or the driver has no hot-plug.
    pub fn plug(&self, resource: &Resource) -> Result<(), Error> {
        self.open.driver.plug(self.open.owner, resource)
    }

    /// Gives up one resource, which the guest does not use any more.
    ///
    /// # Errors
    ///
    /// It could not be given up: that is worth a warning, and nothing else.
    pub fn unplug(&self, resource: &Resource) -> Result<(), Warning> {
        self.open.driver.unplug(self.open.owner, resource).map_err(|error| Warning { error })
    }

    /// Gives all locks up for a while: the guest is suspended, and must not write.
    ///
    /// # Errors
    ///
    /// It has them still.
    pub fn suspend(self) -> Result<Suspended, Box<Failed<Running>>> {
        match self.open.driver.release(self.open.owner) {
            Ok(state) => Ok(Suspended { guest: self, state }),
            Err(error) => Err(Box::new(Failed { guest: self, error })),
        }
    }

    /// Gives all locks up: the guest ends, or has ended.
    pub fn shutdown(self, policy: Policy) -> Shutdown {
        let error = match self.open.driver.release(self.open.owner) {
            Ok(state) => return Shutdown::Released(state),
            Err(error) => error,
        };
        match policy.failed_shutdown {
            Consequence::Leave => Shutdown::Left(error),
            Consequence::Kill => {
                let killed = self.process.as_ref().is_none_or(killed);
                if killed { Shutdown::Killed(error) } else { Shutdown::Left(error) }
            }
        }
    }

    /// The manager ends, and the guest runs on. Answers what a later manager attaches
    /// with.
    #[must_use]
    pub fn leave(self) -> String {
        self.state().unwrap_or_else(|_| self.state.clone())
    }

    /// Makes what another host takes over.
    ///
    /// # Errors
    ///
    /// It cannot be made: nothing was started, the guest runs on.
    pub fn prepare_migrate(self, target: &Target) -> Result<(Departing, Grant), Box<Failed<Running>>> {
        match self.open.driver.prepare_migrate(self.open.owner, target) {
            Ok(grant) => Ok((Departing(self), grant)),
            Err(error) => Err(Box::new(Failed { guest: self, error })),
        }
    }
}

/// Kills the process. False if it may be alive.
fn killed(process: &OwnedFd) -> bool {
    let sent = pidfd_send_signal(process.as_fd(), Signal::KILL);
    sent.is_ok() || sent == Err(rustix::io::Errno::SRCH)
}

/// A guest that stands still, and has given its locks up.
#[derive(Debug)]
pub struct Suspended {
    guest: Running,
    state: Option<String>,
}

impl Suspended {
    /// The state that the locks were given up in.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Takes the locks again; the guest may go on.
    ///
    /// # Errors
    ///
    /// Somebody else has them now: the guest must not go on, and it may be tried again.
    pub fn resume(self) -> Result<Running, Box<Failed<Suspended>>> {
        let open = &self.guest.open;
        let request = Request { state: self.state.clone(), ..Request::default() };
        match open.driver.acquire(open.owner, &request) {
            Ok(grant) => Ok(Running { state: grant.state, ..self.guest }),
            Err(error) => Err(Box::new(Failed { guest: self, error })),
        }
    }
}

/// A guest that ran before this manager.
#[derive(Debug)]
pub struct Attached(Open);

/// A guest that runs, or did, and whose process cannot be found.
#[derive(Debug)]
pub struct NoChild {
    /// Why.
    pub error: Error,
    /// The process that was killed for it.
    pub killed: Option<u32>,
}

impl fmt::Display for NoChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NoChild { error, killed } = self;
        match killed {
            Some(pid) => write!(f, "{error}; process {pid} was killed"),
            None => write!(f, "{error}; nothing was killed"),
        }
    }
}

impl std::error::Error for NoChild {}

impl Attached {
    /// Finds the guest's process, and takes the guest up again.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be identified. What is done then is the policy's to
    /// say; only a process that the guest's description named is ever killed.
    pub fn child(self, policy: Policy) -> Result<Running, NoChild> {
        let open = self.0;
        match open.driver.child(open.owner) {
            Ok(pid) => {
                let state = open.driver.inquire(open.owner).ok().flatten().unwrap_or_default();
                Ok(Running::new(open, pid, state))
            }
            Err(error) => {
                let known = open.driver.owners().into_iter().find(|owned| owned.owner == open.owner);
                let pid = known.and_then(|owned| owned.guest.pid);
                let process = pid
                    .filter(|_| policy.failed_child == Consequence::Kill)
                    .and_then(|pid| Pid::from_raw(pid.cast_signed()))
                    .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
                let killed = process.filter(killed).and(pid);
                Err(NoChild { error, killed })
            }
        }
    }
}

/// A guest that runs on the source, and whose destination is being made ready. Dropped,
/// it stays.
#[derive(Debug)]
pub struct Departing(Running);

impl Departing {
    /// The guest's locks are the other side's from here on. It must not write any more.
    ///
    /// # Errors
    ///
    /// They could not be given up.
    pub fn complete(self) -> Result<Departed, Box<Failed<Departing>>> {
        let open = &self.0.open;
        match open.driver.complete_out(open.owner) {
            Ok(()) => Ok(Departed(self.0)),
            Err(error) => Err(Box::new(Failed { guest: self, error })),
        }
    }

    /// The guest stays.
    ///
    /// # Errors
    ///
    /// The driver has lost its locks.
    pub fn cancel(self) -> Result<Running, Box<Failed<Departing>>> {
        let open = &self.0.open;
        match open.driver.cancel_out(open.owner) {
            Ok(()) => Ok(self.0),
            Err(error) => Err(Box::new(Failed { guest: self, error })),
        }
    }
}

/// A guest whose locks are the other side's.
#[derive(Debug)]
pub struct Departed(Running);

impl Departed {
    /// The other side could not complete: the locks are taken back.
    ///
    /// # Errors
    ///
    /// Somebody has them: the guest must not go on, and it may be tried again.
    pub fn cancel(self) -> Result<Running, Box<Failed<Departed>>> {
        let open = &self.0.open;
        match open.driver.cancel_out(open.owner) {
            Ok(()) => Ok(self.0),
            Err(error) => Err(Box::new(Failed { guest: self, error })),
        }
    }

    /// The other side has completed. What is left of the guest here is the caller's to
    /// end.
    pub fn forget(self) {}
}

/// A guest that is on its way here, and has no process yet.
#[derive(Debug)]
pub struct Arriving(Open);

impl Arriving {
    /// Adds what the guest needs.
    ///
    /// # Errors
    ///
    /// It has that already, or the driver has no such resources.
    pub fn add(&mut self, resource: &Resource) -> Result<(), Error> {
        self.0.driver.add(self.0.owner, resource)
    }

    /// The program that has to be started in the place of the guest's own, with the
    /// arguments before that; none if there need not be one.
    ///
    /// # Errors
    ///
    /// The driver cannot say.
    pub fn supervisor(&self) -> Result<Option<Program>, Error> {
        self.0.driver.supervisor(self.0.owner)
    }

    /// The guest was started, as this process, and waits for its memory: it does not
    /// write.
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub fn started(self, pid: u32) -> Result<Incoming, Error> {
        self.0.driver.register(self.0.owner, pid)?;
        let pid = self.0.driver.child(self.0.owner)?;
        Ok(Incoming { open: self.0, pid })
    }

    /// Takes over what the source has given up, before there is a process.
    ///
    /// # Errors
    ///
    /// It cannot be taken over.
    pub fn complete(self, grant: Grant) -> Result<Acquired, Box<Failed<Arriving>>> {
        match self.0.driver.complete_in(self.0.owner, grant) {
            Ok(grant) => Ok(Acquired { open: self.0.releasing(true), grant }),
            Err(error) => Err(Box::new(Failed { guest: self, error })),
        }
    }

    /// The guest does not come.
    pub fn cancel(self) {
        let _ = self.0.driver.cancel_in(self.0.owner);
    }
}

/// A guest that is on its way here, and whose process waits.
#[derive(Debug)]
pub struct Incoming {
    open: Open,
    pid: u32,
}

impl Incoming {
    /// The process that waits.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Takes over what the source has given up: the guest may go on here.
    ///
    /// # Errors
    ///
    /// It cannot be taken over.
    pub fn complete(self, grant: Grant) -> Result<Running, Box<Failed<Incoming>>> {
        match self.open.driver.complete_in(self.open.owner, grant) {
            Ok(grant) => Ok(Running::new(self.open, self.pid, grant.state)),
            Err(error) => Err(Box::new(Failed { guest: self, error })),
        }
    }

    /// The guest does not come; its process is the caller's to end.
    pub fn cancel(self) {
        let _ = self.open.driver.cancel_in(self.open.owner);
    }
}
