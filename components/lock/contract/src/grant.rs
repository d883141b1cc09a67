//! What passes between a guest's manager and a driver when locks are taken, kept and
//! handed on.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use lcr_core::Abi;

use crate::error::{Error, Kind, Operation};

/// How a guest comes to a driver.
#[derive(Abi, Debug)]
pub enum Opening {
    /// It starts: it holds nothing.
    New,
    /// It runs, and holds what an earlier manager or an earlier process was granted.
    /// A grant without descriptors is what survives that process' end: its state, as
    /// it was written down. An empty state is none: the driver looks for itself, by
    /// the guest's uuid.
    Attach(Grant),
    /// It is on its way here from another host: it is described, and holds nothing
    /// until [`complete_in`](crate::Driver::complete_in).
    Migrate,
}

/// What a driver is asked for at [`acquire`](crate::Driver::acquire).
#[derive(Abi, Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The state in which the locks were given up, if they were before: a resumed
    /// guest's. One that is bound to another owner is no error, and is not looked at.
    pub state: Option<String>,
    /// Makes the guest known to the driver and takes no lock: the guest is started
    /// paused.
    pub register_only: bool,
    /// The guest's process cannot take or give up any lock itself from here on, where
    /// the driver can see to it.
    pub restrict: bool,
    /// What is done to the guest when a lock is lost.
    pub on_failure: OnFailure,
    /// The program that does it, where the driver leaves that to a program. Without
    /// one the driver does what it can: it kills the guest's process.
    pub handler: Option<Program>,
}

impl Request {
    /// Refuses what a driver cannot do that does not learn of a lost lock: any failure
    /// action but `default` and `ignore`, and a program for it.
    ///
    /// # Errors
    ///
    /// Which action was asked for.
    ///
    /// ```
    /// use lcr_lock::{OnFailure, Request};
    ///
    /// let request = |on_failure| Request { on_failure, ..Request::default() };
    /// assert!(request(OnFailure::Ignore).has_no_failure_action("lock.file").is_ok());
    /// assert_eq!(
    ///     request(OnFailure::Pause).has_no_failure_action("lock.file").unwrap_err().to_string(),
    ///     "lock.file: cannot acquire: the failure action `pause` was asked for, and this driver has none: \
    ///      it does nothing when a lock is lost; use `ignore`, or a driver that has it, as lock.sanlock"
    /// );
    /// ```
    pub fn has_no_failure_action(&self, driver: &str) -> Result<(), Error> {
        let what = match (&self.handler, self.on_failure) {
            (None, OnFailure::Default | OnFailure::Ignore) => return Ok(()),
            (Some(handler), _) => format!("the program {} was named for lost locks", handler.path.display()),
            (None, action) => format!("the failure action `{action}` was asked for"),
        };
        let reason = format!("{what}, and this driver has none: it does nothing when a lock is lost");
        Err(Error::new(Kind::Unsupported, driver, Operation::Acquire, reason)
            .with_hint("use `ignore`, or a driver that has it, as lock.sanlock"))
    }
}

/// What is done to a guest whose lock is lost.
#[derive(Abi, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnFailure {
    /// What the driver does unless told: none of them lets the guest write on.
    #[default]
    Default,
    /// The guest is powered off.
    PowerOff,
    /// The guest is powered off, and started again where the lock can be had.
    Restart,
    /// The guest is suspended, until the lock is back.
    Pause,
    /// Nothing: the guest writes on, and may spoil its disks.
    Ignore,
}

impl OnFailure {
    /// Its word: `default`, `poweroff`, `restart`, `pause`, `ignore`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            OnFailure::Default => "default",
            OnFailure::PowerOff => "poweroff",
            OnFailure::Restart => "restart",
            OnFailure::Pause => "pause",
            OnFailure::Ignore => "ignore",
        }
    }

    /// The action of that word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<OnFailure> {
        use OnFailure::{Default, Ignore, Pause, PowerOff, Restart};
        [Default, PowerOff, Restart, Pause, Ignore].into_iter().find(|action| action.word() == word)
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A program and its arguments.
#[derive(Abi, Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// The arguments, without the program's own name.
    pub arguments: Vec<String>,
}

/// Locks, as they are passed on: to the guest's process, to another manager, to
/// another host.
#[derive(Abi, Debug, Default)]
pub struct Grant {
    /// What the driver needs to know about them later, on one line. Opaque, and bound
    /// to the owner: in another owner's hands it is worth nothing and does no harm.
    pub state: String,
    /// What holds them. The guest's process must inherit each, under any number, and
    /// keep it open to its end, however it ends: that is what ties the locks to it.
    pub descriptors: Vec<OwnedFd>,
}

impl Grant {
    /// One that was written down: a state without descriptors.
    #[must_use]
    pub fn of_state(state: impl Into<String>) -> Self {
        Grant { state: state.into(), descriptors: Vec::new() }
    }
}

/// Where a guest moves to.
#[derive(Abi, Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The host that it moves to, as its manager calls it. Only shown.
    pub uri: String,
    /// The other side is on this machine, and gets the grant with its descriptors:
    /// where locks are descriptors, they pass without a gap. Otherwise only the state
    /// goes there, and the locks are free between the source's completion and the
    /// destination's.
    pub with_descriptors: bool,
}
