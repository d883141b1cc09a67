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

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use lcr_core::{BoxError, State};
use lcr_lock::book::{Book, Entry};
use lcr_lock::record::Record;
use lcr_lock::{
    About, Error, Features, Grant, Guest, Holder, Kind, Mode, Opening, Operation, Owned, Owner, Request,
    Resource, Stage, Target,
};

use crate::card::{self, Card};
use crate::holder::{self, of_process, recorded, refused, seen};
use crate::keeper::Keeper;
use crate::ofd::{Attempt, Inode, older_holder, try_lock, unlock};
use crate::place::Place;
use crate::process::{self, Seen};
use crate::watch::Watch;

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

/// What is known of a guest, for its card and as its state.
fn record(entry: &Its) -> Record {
    let mut record = Record::new(HEAD);
    record.put_guest(&entry.guest);
    if let Some(start) = entry.own.start {
        record.put_text("start", start);
    }
    if let Some(host) = host() {
        record.put_text("host", host);
    }
    for held in entry.own.held.iter().filter(|_| !gave_up(entry)) {
        record.put_resource(
            &held.resource,
            &[held.inode.to_string().as_bytes(), held.offset.to_string().as_bytes()],
        );
    }
    record
}

/// Whether it has left without its open files: what it had is unlocked.
fn gave_up(entry: &Its) -> bool {
    entry.stage == Stage::Left && !entry.own.handed_over
}

/// What the parts behind a resource say.
fn place_of(more: &[Vec<u8>]) -> Option<(Inode, i64)> {
    let [inode, offset] = more else { return None };
    let (device, number) = str::from_utf8(inode).ok()?.split_once(':')?;
    let inode = Inode { device: device.parse().ok()?, number: number.parse().ok()? };
    Some((inode, str::from_utf8(offset).ok()?.parse().ok()?))
}

/// Unlocks what was taken for nothing.
///
/// Closing would not do: a process that another thread forks just then has the file
/// open until it becomes a program of its own.
fn give_back(taken: &[Held]) {
    for held in taken.iter().filter(|held| !held.shared) {
        if let Some(file) = &held.file {
            // Closing it is next.
            let _ = unlock(file, held.offset);
        }
    }
}

/// This host's name.
pub(crate) fn host() -> Option<String> {
    Some(std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim_end().to_owned())
}

/// Writes down what is held: on the card, and into leases.
fn write_down(entry: &Its, operation: Operation) -> Result<String, Error> {
    let record = record(entry);
    if let Some(card) = &entry.own.card {
        card.write(&record)
            .map_err(|error| system(operation, "the guest's card cannot be written", error))?;
    }
    let text = record.to_string();
    for held in entry.own.held.iter().filter(|_| entry.stage != Stage::Left) {
        // Those who share one cannot all stand in it.
        if held.lease
            && held.resource.mode() == Mode::Exclusive
            && let Some(file) = &held.file
        {
            // A lease without it is as good; the refusal of others will say less.
            let _ = card::write(file, &text);
        }
    }
    Ok(text)
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

    /// Takes a running guest up: from its state, or else from its card.
    fn attach(&self, guest: &Guest, grant: Grant) -> Result<Owner, Error> {
        let of_it = |record: &Record| {
            let pid: Option<u32> = record.value("pid");
            record.head() == HEAD
                && record.value("uuid") == Some(guest.uuid)
                && (guest.pid.is_none() || pid.is_none() || pid == guest.pid)
        };
        let lives = |record: &Record| {
            record.value("pid").is_some_and(|pid| process::start_of(pid) == record.value("start"))
        };
        let stated = grant.state.parse::<Record>().ok().filter(&of_it);
        let record = match stated {
            Some(record) if lives(&record) => Some(record),
            // Nothing was written down, or before the last change of process.
            stated => card_of(guest, |record| of_it(record) && lives(record)).or(stated),
        };
        let pid = guest.pid.or_else(|| record.as_ref()?.value("pid"));
        let guest = Guest { pid, ..guest.clone() };
        let start = match &record {
            Some(record) => record.value("start"),
            None => pid.and_then(process::start_of),
        };
        let owner = self.book.open(&guest, Stage::Acquired, Own { start, ..Own::default() })?;
        let attached = self.with(owner, Operation::Open, |entry| {
            for (resource, more) in record.iter().flat_map(Record::resources) {
                let Some((inode, offset)) = place_of(more) else { continue };
                let lease = self.directory.is_some() && matches!(resource, Resource::Disk(_));
                entry.resources.push(resource.clone());
                entry.own.held.push(Held {
                    resource,
                    inode,
                    offset,
                    lease,
                    file: None,
                    shared: false,
                    keeper: None,
                });
            }
            for descriptor in grant.descriptors {
                adopt(entry, descriptor);
            }
            fetch(entry);
            self.see_to(owner, entry, Operation::Open)
        });
        if let Err(error) = attached {
            self.book.close(owner);
            return Err(error);
        }
        Ok(owner)
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

    pub(crate) fn holders(&self, resource: &Resource) -> Result<Vec<Holder>, Error> {
        let place = self.place(Operation::Holders, resource)?;
        let Some(inode) = place.inode() else { return Ok(Vec::new()) };
        let mut holders = holder::each(&seen(inode, place.offset));
        if holders.is_empty() {
            // A lock of the older kind, or of somebody whom we cannot see.
            let reader = Resource::Lease(lcr_lock::Lease {
                name: String::new(),
                lockspace: String::new(),
                path: place.file.clone(),
                offset: 0,
                mode: Mode::ReadOnly,
            });
            let (file, _) = place.open(NAME, Operation::Holders, &reader)?;
            holders.extend(older_holder(&file, true, place.offset).map(|pid| of_process(pid).holder));
        }
        Ok(holders)
    }

    // Migration.

    pub(crate) fn prepare_migrate(&self, owner: Owner, target: &Target) -> Result<Grant, Error> {
        let operation = Operation::PrepareMigrate;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Acquired])?;
            drop_if_ended(entry);
            let state = record(entry).to_string();
            let descriptors = if target.with_descriptors {
                fetch(entry);
                if let Some(held) = entry.own.held.iter().find(|held| held.file.is_none()) {
                    return Err(cannot_reach(operation, entry.guest.pid).on(&held.resource));
                }
                copies(operation, entry.own.held.iter().filter_map(|held| held.file.as_ref()))?
            } else {
                Vec::new()
            };
            entry.own.handed_over = target.with_descriptors;
            entry.stage = Stage::Leaving;
            Ok(Grant { state, descriptors })
        })
    }

    pub(crate) fn complete_out(&self, owner: Owner) -> Result<(), Error> {
        let operation = Operation::CompleteMigrate;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Leaving])?;
            // The other side that has the same open files has their locks: unlocking would be
            // for it, too.
            if !entry.own.handed_over {
                give_up_all(entry, operation)?;
            }
            entry.stage = Stage::Left;
            write_down(entry, operation).map(drop)
        })
    }

    pub(crate) fn cancel_out(&self, owner: Owner) -> Result<(), Error> {
        let operation = Operation::CancelMigrate;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Leaving, Stage::Left])?;
            if entry.stage == Stage::Left {
                drop_if_ended(entry);
                if let Err(error) = self.take_back(owner, entry, operation) {
                    entry.stage = Stage::Left;
                    return Err(error);
                }
            }
            entry.own.handed_over = false;
            entry.stage = Stage::Acquired;
            Ok(())
        })
    }

    pub(crate) fn complete_in(&self, owner: Owner, grant: Grant) -> Result<Grant, Error> {
        let operation = Operation::CompleteMigrate;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Arriving])?;
            // Where the guest's process stays the same, it has a card already, and keepers.
            fetch(entry);
            let handed = Handed::of(entry, grant);
            let wanted = missing(entry);
            let mut taken = self.take(entry, operation, &wanted, handed)?;
            if let Some(pid) = entry.guest.pid {
                find_keepers(&mut taken, pid, entry.own.start);
            }
            let granted = self.settle(owner, entry, operation, taken, 0)?;
            if entry.guest.pid.is_some() {
                // It has arrived: what it has is its own.
                entry.own.held.iter_mut().for_each(|held| held.shared = false);
            }
            Ok(granted)
        })
    }

    pub(crate) fn cancel_in(&self, owner: Owner) -> Result<(), Error> {
        let operation = Operation::CancelMigrate;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Arriving])?;
            entry.stage = Stage::Released;
            Ok(())
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

    // How it is done.

    /// Locks these, or none of them. What is `handed` may have the locks already.
    fn take(
        &self,
        entry: &Its,
        operation: Operation,
        wanted: &[Resource],
        mut handed: Handed,
    ) -> Result<Vec<Held>, Error> {
        let mut taken: Vec<Held> = Vec::with_capacity(wanted.len());
        for resource in wanted {
            match self.take_one(entry, operation, resource, &taken, &mut handed) {
                Ok(held) => taken.push(held),
                Err(error) => {
                    give_back(&taken);
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    fn take_one(
        &self,
        entry: &Its,
        operation: Operation,
        resource: &Resource,
        taken: &[Held],
        handed: &mut Handed,
    ) -> Result<Held, Error> {
        let handed = handed.take(resource);
        // A process that goes on as it is has its files, whatever they are called by now.
        let opened = match &handed {
            Some(handed) if handed.by_the_same_process => None,
            _ => {
                let place = self.place(operation, resource)?;
                let (opened, inode) = place.open(NAME, operation, resource)?;
                Some((place, opened, inode))
            }
        };
        let (inode, offset) = match (&handed, &opened) {
            (Some(handed), Some((place, _, inode)))
                if (*inode, place.offset) != (handed.inode, handed.offset) =>
            {
                let reason = "its path leads to another file by now than the one that the guest has";
                return Err(Error::new(Kind::Invalid, NAME, operation, reason)
                    .on(resource)
                    .with_hint("put the file back, or move the guest as the process that it is"));
            }
            (Some(handed), _) => (handed.inode, handed.offset),
            (None, Some((place, _, inode))) => (*inode, place.offset),
            (None, None) => unreachable!("what was not handed over is opened"),
        };
        let same = |held: &&Held| held.inode == inode && held.offset == offset;
        if let Some(other) = entry.own.held.iter().chain(taken).find(same) {
            let reason = format!("it is the same as {}, which the guest has already", other.resource);
            return Err(Error::new(Kind::Invalid, NAME, operation, reason)
                .on(resource)
                .with_hint("name it once"));
        }
        let lease = self.directory.is_some() && matches!(resource, Resource::Disk(_));
        let held = |file, shared| Held {
            resource: resource.clone(),
            inode,
            offset,
            lease,
            file,
            shared,
            keeper: None,
        };
        match (handed, opened) {
            (Some(handed), _) => {
                let exclusive = resource.mode() == Mode::Exclusive;
                match try_lock(&handed.file, exclusive, offset) {
                    Ok(Attempt::Locked) => Ok(held(Some(handed.file), true)),
                    Ok(Attempt::Busy) => Err(refused(operation, resource, holder::at(inode, offset))),
                    Err(error) => {
                        Err(system(operation, "what was handed over cannot be locked", error).on(resource))
                    }
                }
            }
            (None, Some((place, opened, _))) => {
                Ok(held(self.lock_one(entry, operation, resource, &place, inode, opened)?, false))
            }
            (None, None) => unreachable!("what was not handed over is opened"),
        }
    }

    /// Locks one. No descriptor if the guest's process has it already.
    fn lock_one(
        &self,
        entry: &Its,
        operation: Operation,
        resource: &Resource,
        place: &Place,
        inode: Inode,
        opened: OwnedFd,
    ) -> Result<Option<OwnedFd>, Error> {
        let exclusive = resource.mode() == Mode::Exclusive;
        let offset = place.offset;
        let fail = |error| {
            system(operation, &format!("{} cannot be locked", place.file.display()), error)
                .on(resource)
                .with_hint("use a directory of leases on a file system that has locks")
        };
        // Twice: who was in the way may have left before we could see who.
        for _ in 0..2 {
            if try_lock(&opened, exclusive, offset).map_err(fail)? == Attempt::Locked {
                return Ok(Some(opened));
            }
            if let Some(pid) = older_holder(&opened, exclusive, offset) {
                return Err(refused(operation, resource, Some(of_process(pid))));
            }
            let in_the_way: Vec<Seen> =
                seen(inode, offset).into_iter().filter(|seen| exclusive || seen.exclusive).collect();
            let own = entry
                .guest
                .pid
                .and_then(|pid| in_the_way.iter().find(|seen| seen.is_of(pid, entry.own.start)));
            if let Some(own) = own
                && (own.exclusive || !exclusive)
            {
                return Ok(None);
            }
            if let Some(found) = holder::first(&in_the_way) {
                return Err(refused(operation, resource, Some(found)));
            }
        }
        Err(refused(operation, resource, recorded(&opened, place)))
    }

    /// Takes back what a guest had that has left; refused, nothing is held that was not.
    fn take_back(&self, owner: Owner, entry: &mut Its, operation: Operation) -> Result<(), Error> {
        let (gave_up, before) = (gave_up(entry), entry.own.held.len());
        let taken = lock_again(entry, operation).and_then(|()| {
            // What was only in the guest's process, and was not to be found there.
            let wanted = missing(entry);
            let alive = entry.guest.pid.is_none_or(|pid| process::start_of(pid).is_some());
            let wanted = if alive { &wanted[..] } else { &[] };
            let taken = self.take(entry, operation, wanted, Handed::default())?;
            self.settle(owner, entry, operation, taken, before).map(drop)
        });
        if taken.is_err() && gave_up {
            give_back(&entry.own.held);
        }
        taken
    }

    /// Enters what was taken, ties it to the guest's process, and makes the grant of
    /// what is held from `before` on.
    fn settle(
        &self,
        owner: Owner,
        entry: &mut Its,
        operation: Operation,
        taken: Vec<Held>,
        before: usize,
    ) -> Result<Grant, Error> {
        let stage = entry.stage;
        entry.own.held.extend(taken);
        entry.stage = Stage::Acquired;
        let granted = self.grant(owner, entry, operation, before);
        if granted.is_err() {
            give_back(&entry.own.held[before..]);
            entry.own.held.truncate(before);
            entry.stage = stage;
        }
        granted
    }

    fn grant(
        &self,
        owner: Owner,
        entry: &mut Its,
        operation: Operation,
        before: usize,
    ) -> Result<Grant, Error> {
        if entry.own.card.is_none() {
            let card =
                Card::new().map_err(|error| system(operation, "the guest's card cannot be made", error))?;
            entry.own.card = Some(card);
        }
        let state = write_down(entry, operation)?;
        let inherits = entry.guest.pid.is_none_or(|pid| pid == std::process::id());
        if !inherits {
            self.tie(entry, operation)?;
            self.see_to(owner, entry, operation)?;
            return Ok(Grant::of_state(state));
        }
        let files = entry.own.held[before..].iter().filter_map(|held| held.file.as_ref());
        let card = entry.own.card.as_ref().map(|card| &card.0);
        Ok(Grant { state, descriptors: copies(operation, files.chain(card))? })
    }

    /// Has a keeper hold what the guest's process does not.
    fn tie(&self, entry: &mut Its, operation: Operation) -> Result<(), Error> {
        let Some(pid) = entry.guest.pid else { return Ok(()) };
        let waiting = |held: &Held| held.file.is_some() && held.keeper.is_none();
        if !entry.own.held.iter().any(waiting) {
            return Ok(());
        }
        let held = &entry.own.held;
        let inherited = process::locks_in(pid, |inode| held.iter().any(|held| held.inode == inode));
        let loose: Vec<usize> = (0..held.len())
            .filter(|at| waiting(&held[*at]))
            .filter(|at| {
                let Held { inode, offset, .. } = &held[*at];
                !inherited.iter().any(|seen| seen.inode == *inode && seen.offset == *offset)
            })
            .collect();
        if loose.is_empty() {
            return Ok(());
        }
        let gone = |error: std::io::Error| {
            system(operation, &format!("the locks cannot be tied to process {pid}"), error)
        };
        let process = process::open(pid).map_err(gone)?;
        if process::start_of(pid) != entry.own.start {
            return Err(Error::new(Kind::NotFound, NAME, operation, format!("process {pid} has ended")));
        }
        let files = loose.iter().filter_map(|at| held[*at].file.as_ref());
        let all: Vec<_> =
            files.chain(entry.own.card.as_ref().map(|card| &card.0)).map(OwnedFd::as_fd).collect();
        let keeper = Arc::new(Keeper::start(&process, &all).map_err(gone)?);
        for at in loose {
            entry.own.held[at].keeper = Some(Arc::clone(&keeper));
        }
        Ok(())
    }

    /// Has the guest's process watched, if it is another one than this.
    fn see_to(&self, owner: Owner, entry: &mut Its, operation: Operation) -> Result<(), Error> {
        let Some(pid) = entry.guest.pid.filter(|pid| *pid != std::process::id()) else { return Ok(()) };
        let opened = process::open(pid);
        drop_if_ended(entry);
        match opened {
            Ok(process) if !entry.own.held.is_empty() => self
                .watch
                .add(owner, process)
                .map_err(|error| system(operation, "the guest's process cannot be watched", error)),
            // It has ended, or there is nothing that we would hold too long.
            _ => Ok(()),
        }
    }

    /// Gives one up, held by this owner or by its guest's process.
    fn give_up(&self, entry: &mut Its, operation: Operation, resource: &Resource) -> Result<(), Error> {
        let at = entry.own.held.iter().rposition(|held| held.resource.is_same(resource));
        let failed = |error: std::io::Error| system(operation, "it cannot be unlocked", error).on(resource);
        if let Some(at) = at {
            let held = &mut entry.own.held[at];
            if let Some(file) = &held.file {
                if held.lease && held.resource.mode() == Mode::Exclusive {
                    let _ = rustix::fs::ftruncate(file, 0);
                }
                unlock(file, held.offset).map_err(failed)?;
                if let Some(keeper) = held.keeper.take().and_then(Arc::into_inner) {
                    keeper.end();
                }
                entry.own.held.remove(at);
                return Ok(());
            }
        }
        // What only the guest's process has.
        if let Some(pid) = entry.guest.pid {
            let place = self.place(operation, resource)?;
            let known = at.map(|at| (entry.own.held[at].inode, entry.own.held[at].offset));
            let known = known.or_else(|| Some((place.inode()?, place.offset)));
            let of_it = |(inode, offset)| {
                let all = seen(inode, offset).into_iter();
                all.filter(|lock| lock.is_of(pid, entry.own.start)).collect::<Vec<Seen>>()
            };
            // Until none is seen: a process that was just forked has all that its parent
            // has, and is another one before it can be asked.
            for lock in std::iter::repeat_with(|| known.map_or_else(Vec::new, of_it))
                .take_while(|locks| !locks.is_empty())
                .flatten()
            {
                let file = match lock.fetch() {
                    Ok(file) => file,
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EBADF | libc::ESRCH)) => continue,
                    Err(error) => {
                        let mut refusal = cannot_reach(operation, Some(lock.pid)).on(resource);
                        refusal.reason = format!("{}: {error}", refusal.reason);
                        return Err(refusal);
                    }
                };
                unlock(&file, lock.offset).map_err(failed)?;
                if lock.pid != pid
                    && lock.is_a_keepers()
                    && !process::holds_any(lock.pid)
                    && let Ok(keeper) = process::open(lock.pid)
                {
                    process::kill(&keeper);
                }
            }
        }
        if let Some(at) = at {
            entry.own.held.remove(at);
        }
        Ok(())
    }

    // Replacement.

    pub(crate) fn pause(&self) {
        self.watch.pause();
    }

    pub(crate) fn resume(&self) {
        // Without its thread it serves on; what guests leave is dropped with the owner.
        let _ = self.watch.resume();
    }

    pub(crate) fn save(&self, state: &mut State) -> Result<(), BoxError> {
        let section = state.section("owners", 1);
        let mut head = Record::new(HEAD);
        head.put_text("last", self.book.last());
        if let Some(directory) = &self.directory {
            use std::os::unix::ffi::OsStrExt as _;
            head.put("directory", &[directory.as_os_str().as_bytes()]);
        }
        section.write(format!("{head}\n").as_bytes());
        let saved = self.book.each(|owner, entry| -> Result<(), BoxError> {
            let mut record = entry.record(HEAD, owner);
            let own = &entry.own;
            if let Some(start) = own.start {
                record.put_text("start", start);
            }
            record.put_text("handed_over", own.handed_over);
            if let Some(card) = &own.card {
                record.put_text("card", section.descriptor_count());
                section.attach(&card.0)?;
            }
            let mut keepers: Vec<(u32, usize)> = Vec::new();
            for held in &own.held {
                let mut number = |descriptor: &OwnedFd| -> Result<String, BoxError> {
                    let number = section.descriptor_count();
                    section.attach(descriptor)?;
                    Ok(number.to_string())
                };
                let file = held.file.as_ref().map(&mut number).transpose()?.unwrap_or_default();
                let keeper = match &held.keeper {
                    Some(keeper) => {
                        let pid = keeper.pid;
                        if !keepers.iter().any(|(known, _)| *known == pid) {
                            keepers.push((pid, number(&keeper.process)?.parse()?));
                        }
                        pid.to_string()
                    }
                    None => String::new(),
                };
                let parts = [
                    resource_number(entry, &held.resource).to_string(),
                    held.inode.to_string(),
                    held.offset.to_string(),
                    held.lease.to_string(),
                    file,
                    keeper,
                ];
                record.put("held", &parts.each_ref().map(|part| part.as_bytes()));
            }
            for (pid, number) in keepers {
                record.put("keeper", &[pid.to_string().as_bytes(), number.to_string().as_bytes()]);
            }
            section.write(format!("{record}\n").as_bytes());
            Ok(())
        });
        saved.into_iter().collect()
    }

    pub(crate) fn restore(version: i32, state: &State) -> Result<Locks, BoxError> {
        let section = state.read("owners", 1..=1)?;
        let mut lines = str::from_utf8(section.bytes())?.lines();
        let head: Record = lines.next().ok_or("the section `owners` is empty")?.parse()?;
        let locks = Locks::new(version, None)?;
        let directory = head.words().iter().find(|word| word.key() == "directory").and_then(|word| {
            use std::os::unix::ffi::OsStrExt as _;
            Some(PathBuf::from(std::ffi::OsStr::from_bytes(word.parts().first()?)))
        });
        let locks = Locks { directory, ..locks };
        locks.book.go_on_from(head.value("last").ok_or("the section `owners` does not say what was last")?);
        for line in lines {
            let record: Record = line.parse()?;
            let broken = || format!("an owner cannot be read: {line}");
            let (owner, mut entry) = Entry::of_record(&record, Own::default()).ok_or_else(broken)?;
            let own = &mut entry.own;
            own.start = record.value("start");
            own.handed_over = record.value("handed_over").ok_or_else(broken)?;
            if let Some(number) = record.value("card") {
                own.card = Some(Card(section.take(number)?));
            }
            let mut keepers = Vec::new();
            for word in record.words().iter().filter(|word| word.key() == "keeper") {
                let part = |at: usize| word.text(at).and_then(|text| text.parse().ok()).ok_or_else(broken);
                let (pid, number): (u32, u32) = (part(0)?, part(1)?);
                keepers.push(Arc::new(Keeper { pid, process: section.take(number as usize)? }));
            }
            for word in record.words().iter().filter(|word| word.key() == "held") {
                let text = |at: usize| word.text(at).ok_or_else(broken);
                let resource: usize = text(0)?.parse()?;
                let resource = entry.resources.get(resource).ok_or_else(broken)?.clone();
                let (inode, offset) = place_of(&word.parts()[1..3]).ok_or_else(broken)?;
                let file = match text(4)? {
                    "" => None,
                    number => Some(section.take(number.parse()?)?),
                };
                let keeper = match text(5)? {
                    "" => None,
                    pid => {
                        let pid: u32 = pid.parse()?;
                        Some(keepers.iter().find(|keeper| keeper.pid == pid).ok_or_else(broken)?.clone())
                    }
                };
                own.held.push(Held {
                    resource,
                    inode,
                    offset,
                    lease: text(3)? == "true",
                    file,
                    shared: false,
                    keeper,
                });
            }
            locks.see_to(owner, &mut entry, Operation::Load)?;
            locks.book.restore(owner, entry);
        }
        Ok(locks)
    }
}

/// Where a resource stands among its owner's.
fn resource_number(entry: &Its, resource: &Resource) -> usize {
    entry.resources.iter().position(|other| other.is_same(resource)).unwrap_or(usize::MAX)
}

/// What was added and is not held.
fn missing(entry: &Its) -> Vec<Resource> {
    let held = |resource: &&Resource| !entry.own.held.iter().any(|held| held.resource.is_same(resource));
    entry.resources.iter().filter(held).cloned().collect()
}

/// Open files that the source of a migration has handed over.
#[derive(Debug, Default)]
struct Handed {
    files: Vec<HandedOne>,
}

/// One of them.
#[derive(Debug)]
struct HandedOne {
    resource: Resource,
    inode: Inode,
    offset: i64,
    file: OwnedFd,
    by_the_same_process: bool,
}

impl Handed {
    /// What the state says of the descriptors, for this guest: which disk each one is.
    fn of(entry: &Its, grant: Grant) -> Handed {
        let Grant { state, mut descriptors } = grant;
        let record = state.parse::<Record>().ok();
        let Some(record) =
            record.filter(|record| record.head() == HEAD && record.value("uuid") == Some(entry.guest.uuid))
        else {
            return Handed::default();
        };
        let start: Option<u64> = record.value("start");
        let by_the_same_process = entry.guest.pid.is_some()
            && record.value("pid") == entry.guest.pid
            && start.is_some()
            && start == entry.own.start;
        let mut files = Vec::new();
        for (resource, more) in record.resources() {
            let Some((inode, offset)) = place_of(more) else { continue };
            let fits = |file: &OwnedFd| Inode::of_descriptor(file).is_ok_and(|of_it| of_it == inode);
            let Some(at) = descriptors.iter().position(fits) else { continue };
            let file = descriptors.swap_remove(at);
            files.push(HandedOne { resource, inode, offset, file, by_the_same_process });
        }
        Handed { files }
    }

    fn take(&mut self, resource: &Resource) -> Option<HandedOne> {
        let at = self.files.iter().position(|one| one.resource.is_same(resource))?;
        Some(self.files.swap_remove(at))
    }
}

/// Unlocks all that an owner has, or nothing, and keeps the open files: so it can be
/// taken back.
fn give_up_all(entry: &mut Its, operation: Operation) -> Result<(), Error> {
    fetch(entry);
    let (pid, start) = (entry.guest.pid, entry.own.start);
    let is_there = |held: &Held| pid.is_some_and(|pid| is_seen(held, pid, start));
    if let Some(held) = entry.own.held.iter().find(|held| held.file.is_none() && is_there(held)) {
        return Err(cannot_reach(operation, pid).on(&held.resource));
    }
    entry.own.held.retain(|held| held.file.is_some());
    for (at, held) in entry.own.held.iter().enumerate().rev() {
        let Some(file) = &held.file else { continue };
        if held.lease && held.resource.mode() == Mode::Exclusive {
            // A lease that names its last holder is as good.
            let _ = rustix::fs::ftruncate(file, 0);
        }
        if let Err(error) = unlock(file, held.offset) {
            for held in &entry.own.held[at + 1..] {
                // Nobody can have had it for longer than a moment; if somebody has, the guest
                // is told at the next inquiry.
                let _ = held
                    .file
                    .as_ref()
                    .map(|file| try_lock(file, held.resource.mode() == Mode::Exclusive, held.offset));
            }
            return Err(system(operation, "it cannot be unlocked", error).on(&held.resource));
        }
    }
    Ok(())
}

/// Locks what a guest that has left had, in the open files that it had it in.
fn lock_again(entry: &Its, operation: Operation) -> Result<(), Error> {
    for held in &entry.own.held {
        let Some(file) = &held.file else { continue };
        let exclusive = held.resource.mode() == Mode::Exclusive;
        match try_lock(file, exclusive, held.offset) {
            Ok(Attempt::Locked) => {}
            Ok(Attempt::Busy) => {
                let older = older_holder(file, exclusive, held.offset).map(of_process);
                let holder = older.or_else(|| holder::at(held.inode, held.offset));
                return Err(refused(operation, &held.resource, holder));
            }
            Err(error) => {
                return Err(system(operation, "it cannot be locked again", error).on(&held.resource));
            }
        }
    }
    Ok(())
}

/// Whether the guest's process, or what keeps locks for it, is seen to have this one.
fn is_seen(held: &Held, pid: u32, start: Option<u64>) -> bool {
    let exclusive = held.resource.mode() == Mode::Exclusive;
    let is_it = |lock: &Seen| lock.offset == held.offset && (lock.exclusive || !exclusive);
    let own = process::locks_in(pid, |inode| inode == held.inode);
    own.iter().any(is_it)
        || seen(held.inode, held.offset).iter().any(|lock| is_it(lock) && lock.is_of(pid, start))
}

/// Whether nobody has this lock for the guest any more. What cannot be looked into is not
/// said to have lost it.
fn is_lost(held: &Held, pid: u32, start: Option<u64>) -> bool {
    if pid == std::process::id() {
        return false;
    }
    match &held.file {
        Some(file) => !process::has_lock(file, held.offset),
        None => process::can_be_looked_into(pid) && !is_seen(held, pid, start),
    }
}

/// The keepers that have these for the guest already.
fn find_keepers(all: &mut [Held], pid: u32, start: Option<u64>) {
    for at in 0..all.len() {
        if all[at].keeper.is_none() {
            let found = seen(all[at].inode, all[at].offset).into_iter().find(|lock| {
                lock.offset == all[at].offset
                    && lock.pid != pid
                    && lock.is_of(pid, start)
                    && lock.is_a_keepers()
            });
            all[at].keeper = found.and_then(|lock| keeper(all, lock.pid));
        }
    }
}

/// The keeper with this number: one that is known, or else a new hold on it.
fn keeper(known: &[Held], pid: u32) -> Option<Arc<Keeper>> {
    let known = known.iter().filter_map(|held| held.keeper.as_ref()).find(|keeper| keeper.pid == pid);
    match known {
        Some(keeper) => Some(Arc::clone(keeper)),
        None => Some(Arc::new(Keeper { pid, process: process::open(pid).ok()? })),
    }
}

/// Drops what would be held for a process that has ended.
fn drop_if_ended(entry: &mut Its) {
    if let Some(pid) = entry.guest.pid
        && process::start_of(pid).is_none_or(|start| entry.own.start.is_some_and(|of_it| of_it != start))
    {
        entry.own.held.clear();
    }
}

/// A descriptor that another process has passed on: a lock of this guest, or its card.
fn adopt(entry: &mut Its, descriptor: OwnedFd) {
    use std::os::fd::AsRawFd as _;
    let Ok(inode) = Inode::of_descriptor(&descriptor) else { return };
    if let Some(held) = entry.own.held.iter_mut().find(|held| held.inode == inode && held.file.is_none()) {
        held.file = Some(descriptor);
    } else if Card::is_one(std::process::id(), descriptor.as_raw_fd()) {
        entry.own.card = Some(Card(descriptor));
    }
}

/// Duplicates of what only the guest's process has, where that is allowed.
fn fetch(entry: &mut Its) {
    let Some(pid) = entry.guest.pid.filter(|pid| *pid != std::process::id()) else { return };
    if entry.own.card.is_none()
        && let Some((number, _)) =
            Card::all_of(pid).into_iter().find(|(_, card)| card.value("uuid") == Some(entry.guest.uuid))
    {
        let card = Seen {
            pid,
            number,
            inode: Inode { device: 0, number: 0 },
            offset: 0,
            exclusive: false,
            card: None,
            trusted: false,
        };
        entry.own.card = card.fetch().ok().map(Card);
    }
    let start = entry.own.start;
    let held = &mut entry.own.held;
    for at in 0..held.len() {
        if held[at].file.is_some() {
            continue;
        }
        let (inode, offset) = (held[at].inode, held[at].offset);
        let of_it = |seen: &Seen| seen.offset == offset && seen.is_of(pid, start);
        let own = process::locks_in(pid, |of_it| of_it == inode).into_iter().find(of_it);
        let keepers = || seen(inode, offset).into_iter().find(of_it);
        if let Some(lock) = own.or_else(keepers) {
            held[at].file = lock.fetch().ok();
            if lock.pid != pid && lock.is_a_keepers() {
                held[at].keeper = keeper(held, lock.pid);
            }
        }
    }
}

/// The card of a guest, of a process that can be trusted.
fn card_of(guest: &Guest, fits: impl Fn(&Record) -> bool) -> Option<Record> {
    let candidates: Vec<u32> = match guest.pid {
        Some(pid) => vec![pid],
        None => process::all().filter(|pid| process::is_trusted(*pid)).collect(),
    };
    candidates.into_iter().flat_map(Card::all_of).map(|(_, card)| card).find(fits)
}

fn cannot_reach(operation: Operation, pid: Option<u32>) -> Error {
    let whose = pid.map_or_else(String::new, |pid| format!(" {pid}"));
    let reason = format!("the lock is in process{whose}, and its descriptor cannot be fetched from there");
    Error::new(Kind::Denied, NAME, operation, reason).with_hint(
        "do it as the user that started the guest or as root, with kernel.yama.ptrace_scope at 0, or let the guest end",
    )
}
