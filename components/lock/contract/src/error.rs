//! Why a driver does not do what it was asked for.
//!
//! One type for all drivers, so that a person reads the same sentence whichever
//! holds the locks: which driver, at which operation, on which resource; what is in
//! the way and, where the driver knows, who; what to do about it.

use std::fmt;

use lcr_core::{Abi, CallError};

use crate::guest::{Owner, Uuid};
use crate::resource::Resource;

/// A refusal, or a failure.
#[derive(Abi, Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of, for programs.
    pub kind: Kind,
    /// The driver's interface: `lock.file`.
    pub driver: String,
    /// What it was asked for.
    pub operation: Operation,
    /// On which resource, as [`Resource`] says it.
    pub resource: Option<String>,
    /// Who is in the way.
    pub holder: Option<Box<Holder>>,
    /// What the layer below answered.
    pub code: Option<Box<Code>>,
    /// What was found, in words.
    pub reason: String,
    /// What to do, in words; empty where there is nothing to say.
    pub hint: String,
}

/// What kind of error.
#[derive(Abi, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Somebody else holds the resource, in a mode that does not get on with the wanted one.
    Held,
    /// This driver does not do that, ever.
    Unsupported,
    /// There is no such resource, owner, process or lockspace.
    NotFound,
    /// It cannot be asked for at this point of the guest's life.
    OutOfOrder,
    /// The arguments make no sense: a resource twice, an empty name.
    Invalid,
    /// What the driver stands on cannot be reached: a daemon, a library, a device.
    Unreachable,
    /// This process may not do that.
    Denied,
    /// A lock was held, and is not any more.
    Lost,
    /// Something else went wrong; code or reason say what.
    Failed,
    /// The driver panicked in the call.
    Panicked,
}

/// What a driver is asked for: the methods of the contract.
#[derive(Abi, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The driver's own start.
    Load,
    /// [`Driver::open`](crate::Driver::open).
    Open,
    /// [`Driver::add`](crate::Driver::add).
    Add,
    /// [`Driver::acquire`](crate::Driver::acquire).
    Acquire,
    /// [`Driver::register`](crate::Driver::register).
    Register,
    /// [`Driver::release`](crate::Driver::release).
    Release,
    /// [`Driver::inquire`](crate::Driver::inquire).
    Inquire,
    /// [`Driver::holders`](crate::Driver::holders).
    Holders,
    /// [`Driver::supervisor`](crate::Driver::supervisor).
    Supervisor,
    /// [`Driver::child`](crate::Driver::child).
    Child,
    /// [`Driver::plug`](crate::Driver::plug).
    Plug,
    /// [`Driver::unplug`](crate::Driver::unplug).
    Unplug,
    /// [`Driver::prepare_migrate`](crate::Driver::prepare_migrate).
    PrepareMigrate,
    /// [`Driver::complete_out`](crate::Driver::complete_out) and
    /// [`Driver::complete_in`](crate::Driver::complete_in).
    CompleteMigrate,
    /// [`Driver::cancel_out`](crate::Driver::cancel_out) and
    /// [`Driver::cancel_in`](crate::Driver::cancel_in).
    CancelMigrate,
    /// [`Driver::close`](crate::Driver::close).
    Close,
}

/// Who holds a resource, as far as the driver knows. What it does not know is none,
/// or empty.
#[derive(Abi, Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The guest's name.
    pub name: Option<String>,
    /// Its uuid.
    pub uuid: Option<Uuid>,
    /// Its process, on its host.
    pub pid: Option<u32>,
    /// The program of that process.
    pub program: Option<String>,
    /// Its host, if it is another one.
    pub host: Option<String>,
}

/// What a layer below answered: a system call, a daemon.
#[derive(Abi, Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The number.
    pub number: i32,
    /// Its name: `EACCES`, `SANLK_ACQUIRE_IDLIVE`.
    pub name: String,
    /// What that means.
    pub meaning: String,
}

impl Error {
    /// An error of that kind, with what was found in words.
    #[must_use]
    pub fn new(kind: Kind, driver: &str, operation: Operation, reason: impl Into<String>) -> Self {
        Error {
            kind,
            driver: driver.to_owned(),
            operation,
            resource: None,
            holder: None,
            code: None,
            reason: reason.into(),
            hint: String::new(),
        }
    }

    /// Somebody else holds the resource.
    #[must_use]
    pub fn held(driver: &str, operation: Operation, resource: &Resource, holder: Option<Holder>) -> Self {
        let reason = match &holder {
            Some(_) => "held",
            None => "held by a process that cannot be seen from here: another user's, or on another host",
        };
        Error { holder: holder.map(Box::new), ..Error::new(Kind::Held, driver, operation, reason) }
            .on(resource)
    }

    /// The same, where the holding guest's own process, `ended`, has ended: the holder has
    /// the lock from that.
    #[must_use]
    pub fn left_behind_by(self, ended: u32) -> Self {
        let which = match self.holder.as_ref().and_then(|holder| holder.pid) {
            Some(pid) => format!("process {pid}"),
            None => "a process that cannot be seen".to_owned(),
        };
        self.with_hint(format!(
            "{which} has it from the guest's own process, {ended}, which has ended: end what that has left behind"
        ))
    }

    /// This driver does not do that.
    #[must_use]
    pub fn unsupported(driver: &str, operation: Operation) -> Self {
        Error::new(Kind::Unsupported, driver, operation, "this driver does not do that")
            .with_hint("use one that does: its `about` says what it does")
    }

    /// The driver knows no such owner.
    #[must_use]
    pub fn no_owner(driver: &str, operation: Operation, owner: Owner) -> Self {
        Error::new(Kind::NotFound, driver, operation, format!("there is no {owner}"))
            .with_hint("it was closed, or another driver's: open the guest first")
    }

    /// Not at this point of the guest's life.
    #[must_use]
    pub fn out_of_order(driver: &str, operation: Operation, reason: impl Into<String>) -> Self {
        Error::new(Kind::OutOfOrder, driver, operation, reason)
    }

    /// A system call failed. The kind is made of the error's own.
    #[must_use]
    pub fn of_system(driver: &str, operation: Operation, what: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let kind = match error.kind() {
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::PermissionDenied => Kind::Denied,
            ErrorKind::InvalidInput => Kind::Invalid,
            _ => Kind::Failed,
        };
        Error::new(kind, driver, operation, format!("{what}: {error}"))
    }

    /// The same, about this resource.
    #[must_use]
    pub fn on(self, resource: &Resource) -> Self {
        Error { resource: Some(resource.to_string()), ..self }
    }

    /// The same, with what to do.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Error { hint: hint.into(), ..self }
    }

    /// The same, with the answer of the layer below.
    #[must_use]
    pub fn with_code(self, number: i32, name: impl Into<String>, meaning: impl Into<String>) -> Self {
        let code = Code { number, name: name.into(), meaning: meaning.into() };
        Error { code: Some(Box::new(code)), ..self }
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        Error::new(Kind::Panicked, "the lock driver", Operation::of_method(error.method()), error.to_string())
            .with_hint("the locks are as they were before the call, as far as is known: look with `inquire`")
    }
}

/// `lock.file: cannot acquire disk /srv/a.img (exclusive): held by guest web (uuid …, pid 42)`, and
/// after a semicolon what to do.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { kind: _, driver, operation, resource, holder, code, reason, hint } = self;
        write!(f, "{driver}: cannot {operation}")?;
        if let Some(resource) = resource {
            write!(f, " {resource}")?;
        }
        write!(f, ": {reason}")?;
        if let Some(holder) = holder {
            write!(f, " by {holder}")?;
        }
        if let Some(code) = code {
            write!(f, " ({code})")?;
        }
        if !hint.is_empty() {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// `-243 SANLK_ACQUIRE_IDLIVE: Lease is held by another host`.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Code { number, name, meaning } = self;
        write!(f, "{number} {name}: {meaning}")
    }
}

/// `guest web (uuid …, pid 42, qemu, on host b)`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { name, uuid, pid, program, host } = self;
        match name {
            Some(name) => write!(f, "guest {name}")?,
            None => f.write_str("a process that is no guest of this driver")?,
        }
        let facts = [
            uuid.map(|uuid| format!("uuid {uuid}")),
            pid.map(|pid| format!("pid {pid}")),
            program.as_ref().map(|program| format!("running {program}")),
            host.as_ref().map(|host| format!("on host {host}")),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        if facts.is_empty() { Ok(()) } else { write!(f, " ({})", facts.join(", ")) }
    }
}

impl Operation {
    /// The operation that a method of the contract is; [`Operation::Load`] for one
    /// that is none.
    fn of_method(method: &str) -> Operation {
        match method {
            "open" => Operation::Open,
            "add" => Operation::Add,
            "acquire" => Operation::Acquire,
            "register" => Operation::Register,
            "release" => Operation::Release,
            "inquire" => Operation::Inquire,
            "holders" => Operation::Holders,
            "supervisor" => Operation::Supervisor,
            "child" => Operation::Child,
            "plug" => Operation::Plug,
            "unplug" => Operation::Unplug,
            "prepare_migrate" => Operation::PrepareMigrate,
            "complete_out" | "complete_in" => Operation::CompleteMigrate,
            "cancel_out" | "cancel_in" => Operation::CancelMigrate,
            "close" => Operation::Close,
            _ => Operation::Load,
        }
    }
}

/// What follows “cannot”.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Load => "start",
            Operation::Open => "open the guest",
            Operation::Add => "add",
            Operation::Acquire => "acquire",
            Operation::Register => "register the guest's process",
            Operation::Release => "release",
            Operation::Inquire => "inquire",
            Operation::Holders => "look who holds",
            Operation::Supervisor => "name a supervisor",
            Operation::Child => "find the guest's process",
            Operation::Plug => "plug",
            Operation::Unplug => "unplug",
            Operation::PrepareMigrate => "prepare the migration",
            Operation::CompleteMigrate => "complete the migration",
            Operation::CancelMigrate => "cancel the migration",
            Operation::Close => "close the guest",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Mode;

    #[test]
    fn a_refusal_names_driver_operation_resource_holder_and_what_to_do() {
        let disk = Resource::disk("/srv/a.img", Mode::Exclusive);
        let holder = Holder {
            name: Some("web".into()),
            uuid: Some(Uuid([0x11; 16])),
            pid: Some(42),
            program: Some("qemu".into()),
            host: Some("b".into()),
        };
        let error = Error::held("lock.file", Operation::Acquire, &disk, Some(holder))
            .with_code(-243, "SANLK_ACQUIRE_IDLIVE", "Lease is held by another host")
            .with_hint("stop it first");
        assert_eq!(
            error.to_string(),
            "lock.file: cannot acquire disk /srv/a.img (exclusive): held by guest web (uuid \
             11111111-1111-1111-1111-111111111111, pid 42, running qemu, on host b) (-243 SANLK_ACQUIRE_IDLIVE: \
             Lease is held by another host); stop it first"
        );
    }

    #[test]
    fn a_holder_that_is_not_known_is_said_not_to_be() {
        let disk = Resource::disk("/srv/a.img", Mode::Shared);
        assert_eq!(
            Error::held("lock.file", Operation::Plug, &disk, None).to_string(),
            "lock.file: cannot plug disk /srv/a.img (shared): held by a process that cannot be seen from here: \
             another user's, or on another host"
        );
        let somebody = Holder { pid: Some(7), ..Holder::default() };
        assert_eq!(
            Error::held("lock.file", Operation::Plug, &disk, Some(somebody)).to_string(),
            "lock.file: cannot plug disk /srv/a.img (shared): held by a process that is no guest of this driver (pid 7)"
        );
    }

    #[test]
    fn a_holder_that_was_left_behind_is_said_to_be() {
        let disk = Resource::disk("/srv/a.img", Mode::Exclusive);
        let holder = |pid| Some(Holder { name: Some("web".into()), pid, ..Holder::default() });
        let held = |pid| Error::held("lock.file", Operation::Acquire, &disk, holder(pid)).left_behind_by(42);
        let said = "has it from the guest's own process, 42, which has ended: end what that has left behind";
        assert_eq!(
            held(Some(43)).to_string(),
            format!(
                "lock.file: cannot acquire disk /srv/a.img (exclusive): held by guest web (pid 43); process 43 {said}"
            )
        );
        assert!(
            held(None)
                .to_string()
                .ends_with(&format!("held by guest web; a process that cannot be seen {said}"))
        );
    }

    #[test]
    fn what_a_driver_does_not_do_it_says() {
        assert_eq!(
            Error::unsupported("lock.whole", Operation::PrepareMigrate).to_string(),
            "lock.whole: cannot prepare the migration: this driver does not do that; use one that does: its `about` \
             says what it does"
        );
    }
}
