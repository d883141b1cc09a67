//! `lock.file`: locks of the file system, on the disk itself or on a lease file in a
//! directory. No daemon, no root.
//!
//! A lock is an *open-file-description lock*: it belongs to an open file, and whoever
//! has a descriptor of it holds it. The guest's process inherits the descriptors, so the
//! kernel itself drops the locks when that process ends, however it ends; and the
//! process that took them can come and go, or be replaced.
//!
//! # Parameters
//!
//! | parameter | |
//! |---|---|
//! | `directory` | a directory of leases: disks are locked by files in it, named after their paths. Hosts that share the directory, over a file system whose locks they share, keep out of each other's way. Without it, disks are locked themselves. |
//!
//! # What is known of a holder
//!
//! The kernel does not tell who has such a lock. A refusal names the guest (name, uuid,
//! process, program) where its process belongs to the same user, or one asks as root: a
//! guest carries a card beside its locks. With a directory of leases it also
//! names one on another host, or of another user, that holds a disk exclusively: its
//! record stands in the lease. A process that locked without this driver is named by
//! number and program. Otherwise the refusal says that the holder cannot be seen.
//!
//! # One disk under several names
//!
//! | the names | |
//! |---|---|
//! | links, hard links, ways through other directories | one lock: a file is known by its inode; with a `directory`, hard links have a lease each |
//! | nodes of one block device (same device number) | one lock, on the node in `/dev` that the kernel has made; where `/dev` has none for it, each node has its own |
//! | a disk and its partitions; a device and what device-mapper, LVM or RAID make of it; a file and a loop device on it | a lock each: they have different device numbers, and this driver does not know what lies on what. Give all guests the same of them |
//! | one disk by drivers with different `directory` parameters, or one with and one without | a lock each: they do not see each other. Give all guests that could share a disk the same |
//! | one disk that several hosts call differently | one lease only if its path, links resolved, is the same on all |
//!
//! # What it cannot do
//!
//! * Locks are advice: a program that does not ask is not kept from the disk.
//! * A guest that closes descriptors which it does not know gives its locks up. One that
//!   has done so by the time it is registered gets a keeper, a process that holds them
//!   for it (as for what is plugged later); one that does so later has them through its
//!   manager alone, and whoever inquires when that has ended is told that they are lost.
//! * Processes that the guest leaves behind have inherited its locks, too, if they have
//!   not closed them. What they have not, plugged disks among it, its manager can hold for
//!   them ([`descriptors`](lcr_lock::Driver::descriptors)).
//! * A lock cannot be lost but by its holder, and nobody is told if a file system drops
//!   it: of the [failure actions](lcr_lock::Request::on_failure), `ignore` is what it
//!   does, and the others are refused.
//! * A manager that attaches reaches a lock in the guest's process only where it may
//!   trace that process; elsewhere unplugging and migrating are refused with that reason,
//!   and the lock ends with the guest.

#[macro_use]
mod component;
mod card;
mod keeper;
mod locks;
mod ofd;
mod place;
mod process;
mod watch;

lock_file! {
    /// The component.
    lock_file, 1, []
}
