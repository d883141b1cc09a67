//! What is written down: on the guest's card, in leases, as its state.

use lcr_lock::record::Record;
use lcr_lock::{Error, Mode, Operation, Stage};

use super::moving::gave_up;
use super::{HEAD, Its, system};
use crate::card;
use crate::ofd::Inode;

/// What is known of a guest, for its card and as its state.
pub(super) fn record(entry: &Its) -> Record {
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

/// What the parts behind a resource say.
pub(super) fn place_of(more: &[Vec<u8>]) -> Option<(Inode, i64)> {
    let [inode, offset] = more else { return None };
    let (device, number) = str::from_utf8(inode).ok()?.split_once(':')?;
    let inode = Inode { device: device.parse().ok()?, number: number.parse().ok()? };
    Some((inode, str::from_utf8(offset).ok()?.parse().ok()?))
}

/// This host's name.
pub(super) fn host() -> Option<String> {
    Some(std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim_end().to_owned())
}

/// Writes down what is held: on the card, and into leases.
pub(super) fn write_down(entry: &Its, operation: Operation) -> Result<String, Error> {
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
