//! The driver: what it does for each owner.
//!
//! Invariants:
//!
//! * A lock is held by an open file. Its descriptors are in the guest's process, which
//!   inherited them, or in a [keeper](crate::keeper); and here, so that it can be given
//!   up and handed on. Those here are dropped when the guest's process has ended
//!   ([`Watch`]), so the guest's alone decide how long it lives.
//! * Giving up is unlocking, which reaches every descriptor of the open file, wherever
//!   it is. Where this process has none, it fetches one from the guest's process
//!   (`pidfd_getfd`).
//! * What an operation has taken before it fails is closed, and so free again.
//! * The card says what is held, at all times; and while a guest leaves with its open
//!   files, what it takes along.
//! * What leaves is kept here until the owner is closed, and is known by its file, not by
//!   its path: so a migration that fails is undone whatever was renamed meanwhile.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use lcr_core::BoxError;
use lcr_lock::book::{Book, Entry};
use lcr_lock::{
    About, Error, Features, Grant, Guest, Kind, Opening, Operation, Owned, Owner, Request, Resource, Stage,
};

use crate::card::Card;
use crate::keeper::Keeper;
use crate::ofd::Inode;
use crate::place::Place;
use crate::process;
use crate::watch::Watch;

pub(crate) mod holders;
mod moving;
mod replaced;
mod running;
mod taking;
mod written;

use self::moving::{Handed, gave_up};
use self::running::{card_of, drop_if_ended, fetch, is_lost};
use self::taking::missing;
use self::written::{record, write_down};

/// The interface.
pub(crate) const NAME: &str = "lock.file";
/// The head of its records.
const HEAD: &str = "lock.file/1";

/// The driver.
#[derive(Debug)]
pub(crate) struct Locks {
    book: Arc<Book<Own>>,
    watch: Watch,
    version: i32,
    /// Where the leases of disks are; none if disks are locked themselves.
    directory: Option<PathBuf>,
}

/// What it knows of an owner.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// When the guest's process was started.
    start: Option<u64>,
    held: Vec<Held>,
    card: Option<Card>,
    /// The other side of a migration has our open files.
    handed_over: bool,
}

/// A lock that an owner has; or, at [`Stage::Left`], had and can take back.
#[derive(Debug)]
struct Held {
    resource: Resource,
    inode: Inode,
    offset: i64,
    /// The file is one of our leases.
    lease: bool,
    /// Ours; none if only the guest's process has one.
    file: Option<OwnedFd>,
    /// The file is open in the place that the guest comes from, too.
    shared: bool,
    keeper: Option<Arc<Keeper>>,
}

type Its = Entry<Own>;

/// An error of ours.
fn system(operation: Operation, what: &str, error: impl Into<std::io::Error>) -> Error {
    Error::of_system(NAME, operation, what, &error.into())
}

fn copy(operation: Operation, descriptor: &OwnedFd) -> Result<OwnedFd, Error> {
    descriptor.try_clone().map_err(|error| {
        system(operation, "a lock's descriptor cannot be duplicated", error)
            .with_hint("raise the limit of open files: a lock is a descriptor")
    })
}

fn copies<'a>(
    operation: Operation,
    of: impl IntoIterator<Item = &'a OwnedFd>,
) -> Result<Vec<OwnedFd>, Error> {
    of.into_iter().map(|descriptor| copy(operation, descriptor)).collect()
}

impl Locks {
    pub(crate) fn new(version: i32, directory: Option<PathBuf>) -> Result<Locks, BoxError> {
        if let Some(directory) = &directory
            && !directory.is_dir()
        {
            let directory = directory.display();
            return Err(format!(
                "the directory of leases, {directory}, is not there: create it, writable for whoever runs guests, or \
                 leave the parameter `directory` out to lock the disks themselves"
            )
            .into());
        }
        let book: Arc<Book<Own>> = Arc::new(Book::new(NAME));
        let its = Arc::clone(&book);
        let watch = Watch::new(move |owner| {
            // The owner may be closed, or have another process by now.
            let _ = its.with(owner, Operation::Close, |entry| {
                drop_if_ended(entry);
                Ok(())
            });
        })?;
        Ok(Locks { book, watch, version, directory })
    }

    fn with<R>(
        &self,
        owner: Owner,
        operation: Operation,
        act: impl FnOnce(&mut Its) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.book.with(owner, operation, act)
    }

    fn place(&self, operation: Operation, resource: &Resource) -> Result<Place, Error> {
        Place::of(NAME, operation, resource, self.directory.as_deref())
    }

    // What it is.

    pub(crate) fn about(&self) -> About {
        let summary = match &self.directory {
            None => "locks disks and leases themselves, for as long as the guest's process lives".to_owned(),
            Some(directory) => {
                let directory = directory.display();
                format!("locks disks by leases in {directory}, for as long as the guest's process lives")
            }
        };
        let features =
            Features { resources: true, hot_plug: true, migrate: true, before_process: true, state: true };
        About { interface: NAME.to_owned(), version: self.version, summary, features }
    }

    // Description.

    pub(crate) fn open(&self, guest: &Guest, opening: Opening) -> Result<Owner, Error> {
        let known = |pid: Option<u32>| Own { start: pid.and_then(process::start_of), ..Own::default() };
        match opening {
            Opening::New => self.book.open(guest, Stage::Described, known(guest.pid)),
            Opening::Migrate => self.book.open(guest, Stage::Arriving, known(guest.pid)),
            Opening::Attach(grant) => self.attach(guest, grant),
        }
    }

    pub(crate) fn add(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
        self.place(Operation::Add, resource)?;
        self.book.add(owner, resource)
    }

    pub(crate) fn close(&self, owner: Owner) {
        self.watch.remove(owner);
        if let Some(entry) = self.book.close(owner)
            && gave_up(&entry)
        {
            // They keep nothing any more.
            entry.own.held.iter().filter_map(|held| held.keeper.as_ref()).for_each(|keeper| keeper.end());
        }
    }

    pub(crate) fn owners(&self) -> Vec<Owned> {
        self.book.owners()
    }

    pub(crate) fn inquire(&self, owner: Owner) -> Result<Option<String>, Error> {
        let operation = Operation::Inquire;
        self.with(owner, operation, |entry| {
            drop_if_ended(entry);
            if matches!(entry.stage, Stage::Acquired | Stage::Leaving)
                && let Some(pid) = entry.guest.pid
                && let Some(held) = entry.own.held.iter().find(|held| is_lost(held, pid, entry.own.start))
            {
                let name = &entry.guest.name;
                let reason = format!("process {pid} of guest {name} has no lock of it any more");
                let error = Error::new(Kind::Lost, NAME, operation, reason).on(&held.resource);
                return Err(error.with_hint(
                    "the guest has closed the descriptor, and who kept the lock for it has ended: stop the guest, another \
                     one may have the disk",
                ));
            }
            Ok(Some(record(entry).to_string()))
        })
    }

    pub(crate) fn child(&self, owner: Owner) -> Result<u32, Error> {
        let operation = Operation::Child;
        self.with(owner, operation, |entry| {
            let name = &entry.guest.name;
            let Some(pid) = entry.guest.pid else {
                let found = card_of(&entry.guest, |record| {
                    record.value("uuid") == Some(entry.guest.uuid)
                        && record
                            .value("pid")
                            .is_some_and(|pid| process::start_of(pid) == record.value("start"))
                });
                return found.and_then(|record| record.value("pid")).ok_or_else(|| {
                    let uuid = entry.guest.uuid;
                    let reason =
                        format!("no process that can be seen carries the card of guest {name}, {uuid}");
                    Error::new(Kind::NotFound, NAME, operation, reason)
                        .with_hint("it has ended, or it is another user's: ask as that user, or as root")
                });
            };
            if process::start_of(pid).is_some_and(|start| entry.own.start.is_none_or(|of_it| of_it == start))
            {
                Ok(pid)
            } else {
                let reason = format!("process {pid} of guest {name} has ended");
                Err(Error::new(Kind::NotFound, NAME, operation, reason).with_hint("its locks ended with it"))
            }
        })
    }

    // Locks.

    pub(crate) fn acquire(&self, owner: Owner, request: &Request) -> Result<Grant, Error> {
        let operation = Operation::Acquire;
        request.has_no_failure_action(NAME)?;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Described, Stage::Acquired, Stage::Released])?;
            drop_if_ended(entry);
            if request.register_only {
                return self.grant(owner, entry, operation, 0);
            }
            // What was lost is taken again.
            let (pid, start) = (entry.guest.pid, entry.own.start);
            let is_lost = |held: &mut Held| pid.is_some_and(|pid| is_lost(held, pid, start));
            let lost: Vec<Held> = entry.own.held.extract_if(.., is_lost).collect();
            let before = entry.own.held.len();
            let wanted = missing(entry);
            let granted = self
                .take(entry, operation, &wanted, Handed::default())
                .and_then(|taken| self.settle(owner, entry, operation, taken, before));
            if granted.is_err() {
                entry.own.held.extend(lost);
            }
            granted
        })
    }

    pub(crate) fn register(&self, owner: Owner, pid: u32) -> Result<String, Error> {
        let operation = Operation::Register;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Described, Stage::Acquired, Stage::Arriving])?;
            let Some(start) = process::start_of(pid) else {
                // What ends at once is no error of anybody's: nothing is locked for it.
                let reason = format!("there is no process {pid}, or it has ended");
                let exists = std::path::Path::new("/proc").join(pid.to_string()).exists();
                if !exists {
                    return Err(Error::new(Kind::NotFound, NAME, operation, reason));
                }
                entry.guest.pid = Some(pid);
                entry.own.start = Some(0);
                entry.own.held.clear();
                return Ok(record(entry).to_string());
            };
            entry.guest.pid = Some(pid);
            entry.own.start = Some(start);
            // The card has the process on it before anybody is tied to it by that.
            let state = write_down(entry, operation)?;
            let tied = self.tie(entry, operation).and_then(|()| self.see_to(owner, entry, operation));
            if tied.is_err() && process::start_of(pid) != Some(start) {
                // It has ended meanwhile, and that was no error either.
                entry.own.held.clear();
                return Ok(state);
            }
            if tied.is_ok() {
                // It has arrived: what it has is its own.
                entry.own.held.iter_mut().for_each(|held| held.shared = false);
            } else {
                entry.guest.pid = None;
                entry.own.start = None;
            }
            tied.map(|()| state)
        })
    }

    pub(crate) fn release(&self, owner: Owner) -> Result<Option<String>, Error> {
        let operation = Operation::Release;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Described, Stage::Acquired, Stage::Released])?;
            drop_if_ended(entry);
            let state = record(entry).to_string();
            if entry.guest.pid.is_none() {
                // The place that it was to come from has the same open files: unlocking would
                // be for that, too.
                entry.own.held.retain(|held| !held.shared);
            }
            // The last first: each is found, and taken out, at once.
            for resource in entry.resources.clone().iter().rev() {
                self.give_up(entry, operation, resource)?;
            }
            entry.stage = Stage::Released;
            write_down(entry, operation)?;
            Ok(Some(state))
        })
    }

    pub(crate) fn plug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
        let operation = Operation::Plug;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Acquired])?;
            drop_if_ended(entry);
            if entry.guest.pid.is_none() {
                let reason = format!("guest {} has no process yet", entry.guest.name);
                return Err(Error::out_of_order(NAME, operation, reason)
                    .on(resource)
                    .with_hint("add what it needs before acquire, or register its process first"));
            }
            let before = entry.own.held.len();
            entry.put(NAME, operation, resource)?;
            let plugged = self
                .take(entry, operation, std::slice::from_ref(resource), Handed::default())
                .and_then(|taken| self.settle(owner, entry, operation, taken, before));
            if plugged.is_err() {
                entry.resources.pop();
            }
            plugged.map(drop)
        })
    }

    pub(crate) fn unplug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
        let operation = Operation::Unplug;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Acquired])?;
            drop_if_ended(entry);
            self.give_up(entry, operation, resource)?;
            entry.resources.retain(|other| !other.is_same(resource));
            write_down(entry, operation).map(drop)
        })
    }

    pub(crate) fn descriptors(&self, owner: Owner) -> Result<Vec<OwnedFd>, Error> {
        self.with(owner, Operation::Inquire, |entry| {
            fetch(entry);
            let files = entry.own.held.iter().filter_map(|held| held.file.as_ref());
            let card = entry.own.card.as_ref().map(|card| &card.0);
            copies(Operation::Inquire, files.chain(card))
        })
    }
}
