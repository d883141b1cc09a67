//! Who has a lock, for refusals and for those that ask.

use std::os::fd::OwnedFd;

use lcr_lock::record::Record;
use lcr_lock::{Error, Holder, Kind, Mode, Operation, Resource};

use super::written::host;
use super::{Locks, NAME};
use crate::ofd::{Inode, older_holder};
use crate::place::Place;
use crate::process;
use crate::process::Seen;

impl Locks {
    pub(crate) fn holders(&self, resource: &Resource) -> Result<Vec<Holder>, Error> {
        let place = self.place(Operation::Holders, resource)?;
        let Some(inode) = place.inode() else { return Ok(Vec::new()) };
        let mut holders = seen(inode, place.offset).into_iter().fold(Vec::new(), |mut all, seen| {
            let holder = holder_of(&seen);
            if !all.contains(&holder) {
                all.push(holder);
            }
            all
        });
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
            holders.extend(older_holder(&file, true, place.offset).map(of_process));
        }
        Ok(holders)
    }
}

/// All locks on a byte, of all processes that can be looked into.
pub(super) fn seen(inode: Inode, offset: i64) -> Vec<Seen> {
    let locks = process::all().flat_map(|pid| process::locks_in(pid, |of_it| of_it == inode));
    locks.filter(|lock| lock.offset == offset).collect()
}

pub(super) fn holder_of(seen: &Seen) -> Holder {
    let card = seen.card.as_ref();
    let guest = card.and_then(Record::guest);
    // Before the guest's process is registered, it is whoever carries the card.
    let pid = seen.guest_pid().unwrap_or(seen.pid);
    let host = card.and_then(|card| card.text("host")).filter(|name| host().as_deref() != Some(name));
    Holder {
        name: guest.as_ref().map(|guest| guest.name.clone()),
        uuid: guest.map(|guest| guest.uuid),
        pid: Some(pid),
        program: process::program_of(pid),
        host: host.map(str::to_owned),
    }
}

/// Who has a byte, as far as that can be seen.
pub(super) fn holder_at(inode: Inode, offset: i64) -> Option<Holder> {
    seen(inode, offset).first().map(holder_of)
}

pub(super) fn of_process(pid: u32) -> Holder {
    Holder { pid: Some(pid), program: process::program_of(pid), ..Holder::default() }
}

/// What the holder has written into a lease that we share with it: it may be on another
/// host.
pub(super) fn recorded(file: &OwnedFd, place: &Place) -> Option<Holder> {
    if !place.leases {
        return None;
    }
    let mut text = vec![0; 1 << 16];
    let length = rustix::io::pread(file, &mut text[..], 0).ok()?;
    let record: Record = str::from_utf8(&text[..length]).ok()?.lines().next()?.parse().ok()?;
    let guest = record.guest()?;
    let other = record.text("host").filter(|name| host().as_deref() != Some(name)).map(str::to_owned);
    Some(Holder {
        name: Some(guest.name),
        uuid: Some(guest.uuid),
        pid: guest.pid,
        program: None,
        host: other,
    })
}

pub(super) fn refused(operation: Operation, resource: &Resource, holder: Option<Holder>) -> Error {
    let error = Error::held(NAME, operation, resource, holder);
    let shareable = resource.mode() == Mode::Exclusive;
    error.with_hint(if shareable {
        "stop that guest first, or give both the disk shared or readonly"
    } else {
        "stop that guest first: it has the disk exclusively"
    })
}

pub(super) fn cannot_reach(operation: Operation, pid: Option<u32>) -> Error {
    let whose = pid.map_or_else(String::new, |pid| format!(" {pid}"));
    let reason = format!("the lock is in process{whose}, and its descriptor cannot be fetched from there");
    Error::new(Kind::Denied, NAME, operation, reason).with_hint(
        "do it as the user that started the guest or as root, with kernel.yama.ptrace_scope at 0, or let the guest end",
    )
}
