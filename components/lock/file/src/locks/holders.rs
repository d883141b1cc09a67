//! Who holds a lock, as far as that can be seen from here.
//!
//! Whoever has a descriptor of the open file holds the lock; the card beside it says for
//! which guest. While that guest's own process lives, it is named; when it has ended, the
//! one is that has the lock from it: a process that it has left behind rather than one
//! that keeps the lock for those.

use std::os::fd::OwnedFd;

use lcr_lock::record::Record;
use lcr_lock::{Error, Holder, Kind, Mode, Operation, Resource};

use super::written::host;
use super::{Locks, NAME};
use crate::ofd::{Inode, older_holder};
use crate::place::Place;
use crate::process::{self, Seen};

impl Locks {
    pub(crate) fn holders(&self, resource: &Resource) -> Result<Vec<Holder>, Error> {
        let place = self.place(Operation::Holders, resource)?;
        let Some(inode) = place.inode() else { return Ok(Vec::new()) };
        let mut holders = each(&seen(inode, place.offset));
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
}

/// Who has a lock.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) holder: Holder,
    /// The guest's own process, which has ended: the holder is another one.
    ended: Option<u32>,
}

/// All locks on a byte, of all processes that can be looked into.
pub(crate) fn seen(inode: Inode, offset: i64) -> Vec<Seen> {
    let locks = process::all().flat_map(|pid| process::locks_in(pid, |of_it| of_it == inode));
    locks.filter(|lock| lock.offset == offset).collect()
}

/// Who has a byte.
pub(crate) fn at(inode: Inode, offset: i64) -> Option<Found> {
    first(&seen(inode, offset))
}

/// The one to be named of those that have a lock.
pub(crate) fn first(all: &[Seen]) -> Option<Found> {
    let first = all.first()?;
    let found = of(first);
    if found.ended.is_none() {
        return Some(found);
    }
    // A keeper is about to end, too; and what a program keeps from those that it starts
    // was not inherited.
    let heir = all.iter().find(|seen| !seen.is_a_keepers() && seen.is_inherited());
    Some(heir.map_or(found, of))
}

/// Each guest and process that has a lock.
pub(crate) fn each(all: &[Seen]) -> Vec<Holder> {
    all.iter().map(|seen| of(seen).holder).fold(Vec::new(), |mut each, holder| {
        if !each.contains(&holder) {
            each.push(holder);
        }
        each
    })
}

fn of(seen: &Seen) -> Found {
    let card = seen.card.as_ref();
    let guest = card.and_then(Record::guest);
    let start: Option<u64> = card.and_then(|card| card.value("start"));
    let own = seen.guest_pid();
    let ended = own.filter(|pid| start.is_some() && process::start_of(*pid) != start);
    // Before the guest's process is registered, it is whoever carries the card.
    let pid = own.filter(|_| ended.is_none()).unwrap_or(seen.pid);
    let host = card.and_then(|card| card.text("host")).filter(|name| host().as_deref() != Some(name));
    let holder = Holder {
        name: guest.as_ref().map(|guest| guest.name.clone()),
        uuid: guest.map(|guest| guest.uuid),
        pid: Some(pid),
        program: process::program_of(pid),
        host: host.map(str::to_owned),
    };
    Found { holder, ended }
}

/// A process of which no more is known.
pub(crate) fn of_process(pid: u32) -> Found {
    let holder = Holder { pid: Some(pid), program: process::program_of(pid), ..Holder::default() };
    Found { holder, ended: None }
}

/// What the holder has written into a lease that we share with it: it may be on another
/// host.
pub(crate) fn recorded(file: &OwnedFd, place: &Place) -> Option<Found> {
    if !place.leases {
        return None;
    }
    let mut text = vec![0; 1 << 16];
    let length = rustix::io::pread(file, &mut text[..], 0).ok()?;
    let record: Record = str::from_utf8(&text[..length]).ok()?.lines().next()?.parse().ok()?;
    let guest = record.guest()?;
    let other = record.text("host").filter(|name| host().as_deref() != Some(name)).map(str::to_owned);
    let holder =
        Holder { name: Some(guest.name), uuid: Some(guest.uuid), pid: guest.pid, program: None, host: other };
    let start: Option<u64> = record.value("start");
    let ended =
        guest.pid.filter(|pid| holder.host.is_none() && start.is_some() && process::start_of(*pid) != start);
    // Who has it from that cannot be seen.
    let pid = holder.pid.filter(|_| ended.is_none());
    Some(Found { holder: Holder { pid, ..holder }, ended })
}

/// Refused, because somebody has it.
pub(crate) fn refused(operation: Operation, resource: &Resource, found: Option<Found>) -> Error {
    let (holder, ended) = found.map_or((None, None), |Found { holder, ended }| (Some(holder), ended));
    let error = Error::held(NAME, operation, resource, holder);
    match ended {
        Some(ended) => error.left_behind_by(ended),
        None if resource.mode() == Mode::Exclusive => {
            error.with_hint("stop that guest first, or give both the disk shared or readonly")
        }
        None => error.with_hint("stop that guest first: it has the disk exclusively"),
    }
}

pub(super) fn cannot_reach(operation: Operation, pid: Option<u32>) -> Error {
    let whose = pid.map_or_else(String::new, |pid| format!(" {pid}"));
    let reason = format!("the lock is in process{whose}, and its descriptor cannot be fetched from there");
    Error::new(Kind::Denied, NAME, operation, reason).with_hint(
        "do it as the user that started the guest or as root, with kernel.yama.ptrace_scope at 0, or let the guest end",
    )
}
