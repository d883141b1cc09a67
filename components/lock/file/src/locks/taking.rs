//! How locks are taken, tied to the guest's process, and given up.
//!
//! All that is wanted, or nothing. What the guest's process has not inherited, a
//! [keeper](crate::keeper) has for it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use lcr_lock::{Error, Grant, Kind, Mode, Operation, Owner, Resource, Stage};

use super::holders::{self, cannot_reach, of_process, recorded, refused, seen};
use super::moving::Handed;
use super::running::drop_if_ended;
use super::written::write_down;
use super::{Held, Its, Locks, NAME, copies, system};
use crate::card::Card;
use crate::keeper::Keeper;
use crate::ofd::{Attempt, Inode, older_holder, try_lock, unlock};
use crate::place::Place;
use crate::process;
use crate::process::Seen;

impl Locks {
    /// Locks these, or none of them. What is `handed` may have the locks already.
    pub(super) fn take(
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

    pub(super) fn take_one(
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
                    Ok(Attempt::Busy) => Err(refused(operation, resource, holders::at(inode, offset))),
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
    pub(super) fn lock_one(
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
            if let Some(found) = holders::first(&in_the_way) {
                return Err(refused(operation, resource, Some(found)));
            }
        }
        Err(refused(operation, resource, recorded(&opened, place)))
    }

    /// Enters what was taken, ties it to the guest's process, and makes the grant of
    /// what is held from `before` on.
    pub(super) fn settle(
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

    pub(super) fn grant(
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
    pub(super) fn tie(&self, entry: &mut Its, operation: Operation) -> Result<(), Error> {
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
    pub(super) fn see_to(&self, owner: Owner, entry: &mut Its, operation: Operation) -> Result<(), Error> {
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
    pub(super) fn give_up(
        &self,
        entry: &mut Its,
        operation: Operation,
        resource: &Resource,
    ) -> Result<(), Error> {
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
}

/// Unlocks what was taken for nothing.
///
/// Closing would not do: a process that another thread forks just then has the file
/// open until it becomes a program of its own.
pub(super) fn give_back(taken: &[Held]) {
    for held in taken.iter().filter(|held| !held.shared) {
        if let Some(file) = &held.file {
            // Closing it is next.
            let _ = unlock(file, held.offset);
        }
    }
}

/// What was added and is not held.
pub(super) fn missing(entry: &Its) -> Vec<Resource> {
    let held = |resource: &&Resource| !entry.own.held.iter().any(|held| held.resource.is_same(resource));
    entry.resources.iter().filter(held).cloned().collect()
}
