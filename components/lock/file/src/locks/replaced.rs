//! The driver's replacement: what it hands to its successor.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use lcr_core::{BoxError, State};
use lcr_lock::book::Entry;
use lcr_lock::record::Record;
use lcr_lock::{Operation, Resource};

use super::written::place_of;
use super::{HEAD, Held, Its, Locks, Own};
use crate::card::Card;
use crate::keeper::Keeper;

impl Locks {
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
pub(super) fn resource_number(entry: &Its, resource: &Resource) -> usize {
    entry.resources.iter().position(|other| other.is_same(resource)).unwrap_or(usize::MAX)
}
