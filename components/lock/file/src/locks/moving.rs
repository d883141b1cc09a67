//! Migration: what leaves, what comes, and how either is undone.
//!
//! Invariant: what has left is kept, as the open files that it was locked in, until the
//! owner is closed. So the source takes back what it had, whatever it is called by then;
//! and the destination knows what it is handed by the file that the state names.

use std::os::fd::OwnedFd;

use lcr_lock::record::Record;
use lcr_lock::{Error, Grant, Mode, Operation, Owner, Resource, Stage, Target};

use super::holders::{self, cannot_reach, of_process, refused};
use super::running::{drop_if_ended, fetch, find_keepers, is_seen};
use super::taking::{give_back, missing};
use super::written::{place_of, record, write_down};
use super::{HEAD, Held, Its, Locks, NAME, copies, system};
use crate::ofd::{Attempt, Inode, older_holder, try_lock, unlock};
use crate::process;

/// Open files that the source of a migration has handed over.
#[derive(Debug, Default)]
pub(super) struct Handed {
    files: Vec<HandedOne>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct HandedOne {
    pub(super) resource: Resource,
    pub(super) inode: Inode,
    pub(super) offset: i64,
    pub(super) file: OwnedFd,
    pub(super) by_the_same_process: bool,
}

impl Handed {
    /// What the state says of the descriptors, for this guest: which disk each one is.
    pub(super) fn of(entry: &Its, grant: Grant) -> Handed {
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

    pub(super) fn take(&mut self, resource: &Resource) -> Option<HandedOne> {
        let at = self.files.iter().position(|one| one.resource.is_same(resource))?;
        Some(self.files.swap_remove(at))
    }
}

impl Locks {
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

    /// Takes back what a guest had that has left; refused, nothing is held that was not.
    pub(super) fn take_back(&self, owner: Owner, entry: &mut Its, operation: Operation) -> Result<(), Error> {
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
}

/// Whether it has left without its open files: what it had is unlocked.
pub(super) fn gave_up(entry: &Its) -> bool {
    entry.stage == Stage::Left && !entry.own.handed_over
}

/// Unlocks all that an owner has, or nothing, and keeps the open files: so it can be
/// taken back.
pub(super) fn give_up_all(entry: &mut Its, operation: Operation) -> Result<(), Error> {
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
pub(super) fn lock_again(entry: &Its, operation: Operation) -> Result<(), Error> {
    for held in &entry.own.held {
        let Some(file) = &held.file else { continue };
        let exclusive = held.resource.mode() == Mode::Exclusive;
        match try_lock(file, exclusive, held.offset) {
            Ok(Attempt::Locked) => {}
            Ok(Attempt::Busy) => {
                let older = older_holder(file, exclusive, held.offset).map(of_process);
                let holder = older.or_else(|| holders::at(held.inode, held.offset));
                return Err(refused(operation, &held.resource, holder));
            }
            Err(error) => {
                return Err(system(operation, "it cannot be locked again", error).on(&held.resource));
            }
        }
    }
    Ok(())
}
