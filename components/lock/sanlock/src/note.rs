//! Who has a lease, for people: sanlock knows a host's number and a process', and no
//! guest's name.
//!
//! Beside the leases of disks, in the same directory, lies a note for each guest that has
//! one: `LEASE.HOST-ID.PID`, with the guest's [record](lcr_lock::record). A note is
//! believed only if the daemon says the same: that its host has the lease, and on this
//! host that its process has. So one that a guest has left behind does no harm; it is
//! removed by whoever gets the lease next, alone. Without a directory there are no notes,
//! and refusals name the host alone.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use lcr_lock::record::Record;
use lcr_lock::{Mode, Resource};

use crate::client::Lease;
use crate::place::hash;
use crate::process;

/// A note that was read.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) host_id: u64,
    pub(crate) pid: u32,
    pub(crate) record: Record,
}

impl Note {
    /// Whether its guest says that it has the lease alone.
    pub(crate) fn is_exclusive(&self, lease: &Lease) -> bool {
        leases(&self.record).any(|(_, other)| other.is_same(lease) && !other.shared)
    }
}

/// The resources of a record, each with its lease.
pub(crate) fn leases(record: &Record) -> impl Iterator<Item = (Resource, Lease)> {
    record.resources().filter_map(|(resource, more)| {
        let [lockspace, name, path, offset] = more else { return None };
        let text = |bytes: &[u8]| Some(str::from_utf8(bytes).ok()?.to_owned());
        let lease = Lease {
            lockspace: text(lockspace)?,
            name: text(name)?,
            path: OsStr::from_bytes(path).into(),
            offset: text(offset)?.parse().ok()?,
            shared: resource.mode() != Mode::Exclusive,
        };
        Some((resource, lease))
    })
}

/// The part of its name that all notes of a lease have.
fn stem(directory: &Path, lease: &Lease) -> String {
    // A disk's lease is named by a hash already.
    if lease.path == directory.join(&lease.name) {
        lease.name.clone()
    } else {
        hash(format!("{}:{}", lease.lockspace, lease.name).as_bytes())
    }
}

/// Writes one, and removes those that cannot be true any more.
pub(crate) fn write(directory: &Path, lease: &Lease, host_id: u64, pid: u32, record: &Record) {
    let stem = stem(directory, lease);
    for (name, note) in named(directory, &stem) {
        if (note.host_id, note.pid) != (host_id, pid) && (!lease.shared || note.is_exclusive(lease)) {
            let _ = fs::remove_file(directory.join(name));
        }
    }
    // A refusal that cannot name the holder is still one.
    let _ = fs::write(directory.join(format!("{stem}.{host_id}.{pid}")), format!("{record}\n"));
}

/// Removes one.
pub(crate) fn remove(directory: &Path, lease: &Lease, host_id: u64, pid: u32) {
    let _ = fs::remove_file(directory.join(format!("{}.{host_id}.{pid}", stem(directory, lease))));
}

/// All notes on a lease.
pub(crate) fn on(directory: &Path, lease: &Lease) -> Vec<Note> {
    named(directory, &stem(directory, lease)).into_iter().map(|(_, note)| note).collect()
}

/// The notes of a process of this host.
pub(crate) fn of_process(directory: &Path, pid: u32) -> Vec<Note> {
    let mine = |note: &Note| note.pid == pid && is_of_living(note);
    named(directory, "").into_iter().map(|(_, note)| note).filter(mine).collect()
}

/// Any note that fits, of a process of this host that lives.
pub(crate) fn find(directory: &Path, fits: impl Fn(&Record) -> bool) -> Option<Note> {
    let fits = |note: &Note| fits(&note.record) && is_of_living(note);
    named(directory, "").into_iter().map(|(_, note)| note).find(fits)
}

/// Whether it was written on this host.
pub(crate) fn is_of_this_host(note: &Note) -> bool {
    note.record.text("host").map(str::to_owned) == process::host()
}

/// Whether it speaks of a process of this host that lives.
pub(crate) fn is_of_living(note: &Note) -> bool {
    is_of_this_host(note)
        && process::start_of(note.pid).is_some_and(|start| note.record.value("start") == Some(start))
}

fn named(directory: &Path, stem: &str) -> Vec<(String, Note)> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let mut parts = name.splitn(3, '.');
            let (of, host_id, pid) =
                (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            if of.is_empty() || !stem.is_empty() && of != stem {
                return None;
            }
            let record = fs::read_to_string(directory.join(&name)).ok()?.parse().ok()?;
            Some((name, Note { host_id, pid, record }))
        })
        .collect()
}
