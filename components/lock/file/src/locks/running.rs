//! What a guest that runs has: found in its process, and with its keepers.
//!
//! A manager that attaches has a state, or a guest's card, that says where the locks lie;
//! it duplicates what the guest's process and its keepers have, where it may.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use lcr_lock::record::Record;
use lcr_lock::{Error, Grant, Guest, Mode, Operation, Owner, Resource, Stage};

use super::holders::seen;
use super::written::place_of;
use super::{HEAD, Held, Its, Locks, Own};
use crate::card::Card;
use crate::keeper::Keeper;
use crate::ofd::Inode;
use crate::process;
use crate::process::Seen;

impl Locks {
    /// Takes a running guest up: from its state, or else from its card.
    pub(super) fn attach(&self, guest: &Guest, grant: Grant) -> Result<Owner, Error> {
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
}

/// A descriptor that another process has passed on: a lock of this guest, or its card.
pub(super) fn adopt(entry: &mut Its, descriptor: OwnedFd) {
    use std::os::fd::AsRawFd as _;
    let Ok(inode) = Inode::of_descriptor(&descriptor) else { return };
    if let Some(held) = entry.own.held.iter_mut().find(|held| held.inode == inode && held.file.is_none()) {
        held.file = Some(descriptor);
    } else if Card::is_one(std::process::id(), descriptor.as_raw_fd()) {
        entry.own.card = Some(Card(descriptor));
    }
}

/// Duplicates of what only the guest's process has, where that is allowed.
pub(super) fn fetch(entry: &mut Its) {
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
    // First what it has itself: others are looked through for what is missing then.
    let mut own = true;
    loop {
        let missing = held.iter().filter(|held| held.file.is_none());
        let inodes: HashSet<Inode> = missing.map(|held| held.inode).collect();
        if inodes.is_empty() {
            return;
        }
        let locks = Locked::of(if own { vec![pid] } else { process::all().collect() }, &inodes);
        for at in 0..held.len() {
            let of_it = |seen: &&Seen| seen.is_of(pid, start);
            if held[at].file.is_none()
                && let Some(lock) = locks.on(&held[at]).iter().find(of_it)
            {
                held[at].file = lock.fetch().ok();
                if lock.pid != pid && lock.is_a_keepers() {
                    held[at].keeper = keeper(held, lock.pid);
                }
            }
        }
        if !own {
            return;
        }
        own = false;
    }
}

/// The locks of some processes on some files, each looked at once: by file and place.
struct Locked(HashMap<(Inode, i64), Vec<Seen>>);

impl Locked {
    fn of(processes: Vec<u32>, files: &HashSet<Inode>) -> Locked {
        let mut all: HashMap<(Inode, i64), Vec<Seen>> = HashMap::new();
        for lock in
            processes.into_iter().flat_map(|pid| process::locks_in(pid, |inode| files.contains(&inode)))
        {
            all.entry((lock.inode, lock.offset)).or_default().push(lock);
        }
        Locked(all)
    }

    fn on(&self, held: &Held) -> &[Seen] {
        self.0.get(&(held.inode, held.offset)).map_or(&[], Vec::as_slice)
    }
}

/// The keepers that have these for the guest already.
pub(super) fn find_keepers(all: &mut [Held], pid: u32, start: Option<u64>) {
    let without = all.iter().filter(|held| held.keeper.is_none());
    let files: HashSet<Inode> = without.map(|held| held.inode).collect();
    if files.is_empty() {
        return;
    }
    let locks = Locked::of(process::all().collect(), &files);
    for at in 0..all.len() {
        if all[at].keeper.is_none() {
            let of_it = |lock: &&Seen| lock.pid != pid && lock.is_of(pid, start) && lock.is_a_keepers();
            let found = locks.on(&all[at]).iter().find(of_it).map(|lock| lock.pid);
            all[at].keeper = found.and_then(|pid| keeper(all, pid));
        }
    }
}

/// The keeper with this number: one that is known, or else a new hold on it.
pub(super) fn keeper(known: &[Held], pid: u32) -> Option<Arc<Keeper>> {
    let known = known.iter().filter_map(|held| held.keeper.as_ref()).find(|keeper| keeper.pid == pid);
    match known {
        Some(keeper) => Some(Arc::clone(keeper)),
        None => Some(Arc::new(Keeper { pid, process: process::open(pid).ok()? })),
    }
}

/// The card of a guest, of a process that can be trusted.
pub(super) fn card_of(guest: &Guest, fits: impl Fn(&Record) -> bool) -> Option<Record> {
    let candidates: Vec<u32> = match guest.pid {
        Some(pid) => vec![pid],
        None => process::all().filter(|pid| process::is_trusted(*pid)).collect(),
    };
    candidates.into_iter().flat_map(Card::all_of).map(|(_, card)| card).find(fits)
}

/// Whether the guest's process, or what keeps locks for it, is seen to have this one.
pub(super) fn is_seen(held: &Held, pid: u32, start: Option<u64>) -> bool {
    let exclusive = held.resource.mode() == Mode::Exclusive;
    let is_it = |lock: &Seen| lock.offset == held.offset && (lock.exclusive || !exclusive);
    let own = process::locks_in(pid, |inode| inode == held.inode);
    own.iter().any(is_it)
        || seen(held.inode, held.offset).iter().any(|lock| is_it(lock) && lock.is_of(pid, start))
}

/// Whether nobody has this lock for the guest any more. What cannot be looked into is not
/// said to have lost it.
pub(super) fn is_lost(held: &Held, pid: u32, start: Option<u64>) -> bool {
    if pid == std::process::id() {
        return false;
    }
    match &held.file {
        Some(file) => !process::has_lock(file, held.offset),
        None => process::can_be_looked_into(pid) && !is_seen(held, pid, start),
    }
}

/// Drops what would be held for a process that has ended.
pub(super) fn drop_if_ended(entry: &mut Its) {
    if let Some(pid) = entry.guest.pid
        && process::start_of(pid).is_none_or(|start| entry.own.start.is_some_and(|of_it| of_it != start))
    {
        entry.own.held.clear();
    }
}
