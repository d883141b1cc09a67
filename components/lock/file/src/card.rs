//! A guest's card: who it is, and what it has, on a file that its process carries.
//!
//! The kernel does not say who has an open-file-description lock: `F_OFD_GETLK` gives
//! the process -1. But `/proc` shows which process has the descriptor, to its user and
//! to root; and beside its locks a guest inherits an anonymous file (a memfd) named
//! [`NAME`], on which the driver writes the guest's [record](lcr_lock::record). Whoever
//! is refused reads it and can name the holder. There is no directory of records that
//! could be stale: the card ends with the process, as the locks do.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use lcr_lock::process::files_of;
use lcr_lock::record::Record;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pwrite;

use crate::ofd::Inode;

/// What the file is called.
pub(crate) const NAME: &str = "lcr-lock";

/// The file of one guest.
#[derive(Debug)]
pub(crate) struct Card(pub(crate) OwnedFd);

impl Card {
    pub(crate) fn new() -> io::Result<Card> {
        Ok(Card(memfd_create(NAME, MemfdFlags::CLOEXEC)?))
    }

    /// Writes it anew. All who carry it have the new text.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        write(&self.0, &record.to_string())
    }

    /// Whether a descriptor is a card.
    pub(crate) fn is_one(pid: u32, number: i32) -> bool {
        let link = fs::read_link(files_of(pid).join(format!("fd/{number}")));
        link.is_ok_and(|link| link.to_str().is_some_and(|link| link.starts_with(&format!("/memfd:{NAME} "))))
    }

    /// What stands on a process' descriptor, if that is a card.
    pub(crate) fn read(pid: u32, number: i32) -> Option<Record> {
        if !Card::is_one(pid, number) {
            return None;
        }
        fs::read_to_string(files_of(pid).join(format!("fd/{number}"))).ok()?.parse().ok()
    }

    /// The cards that a process carries.
    pub(crate) fn all_of(pid: u32) -> Vec<(i32, Record)> {
        let Ok(entries) = fs::read_dir(files_of(pid).join("fd")) else { return Vec::new() };
        entries
            .filter_map(|entry| {
                let number = entry.ok()?.file_name().to_str()?.parse().ok()?;
                Some((number, Card::read(pid, number)?))
            })
            .collect()
    }

    /// Whether the card's guest has the lock at that byte.
    pub(crate) fn tells_of(card: &Record, inode: Inode, offset: i64) -> bool {
        let place = [inode.to_string().into_bytes(), offset.to_string().into_bytes()];
        card.resources().any(|(_, more)| more == place)
    }
}

/// Puts a line into the place of what a file held.
pub(crate) fn write(file: impl AsFd, line: &str) -> io::Result<()> {
    let text = format!("{line}\n");
    let mut written = 0;
    while written < text.len() {
        written += pwrite(file.as_fd(), &text.as_bytes()[written..], written as u64)?;
    }
    ftruncate(file, text.len() as u64)?;
    Ok(())
}
