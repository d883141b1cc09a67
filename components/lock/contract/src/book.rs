//! The owners of a driver: who is open, with which resources, where in life.
//!
//! Every driver needs the same list, refuses the same calls out of order and hands
//! the same facts to its successor. [`Book`] is that list; what a driver knows of an
//! owner beyond it is the type parameter.
//!
//! Each owner has a lock of its own: an operation that takes its time, a lease that is
//! acquired over a network, holds up no other guest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::driver::{Owned, Stage};
use crate::error::{Error, Kind, Operation};
use crate::guest::{Guest, Owner};
use crate::record::Record;
use crate::resource::Resource;

/// The owners of one driver.
#[derive(Debug)]
pub struct Book<T> {
    driver: &'static str,
    owners: Mutex<Owners<T>>,
}

#[derive(Debug)]
struct Owners<T> {
    last: u64,
    entries: BTreeMap<Owner, Arc<Mutex<Entry<T>>>>,
}

/// One owner.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The guest.
    pub guest: Guest,
    /// What was added.
    pub resources: Vec<Resource>,
    /// Where it is in its life.
    pub stage: Stage,
    /// What the driver knows besides.
    pub own: T,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Book<T> {
    /// An empty one, of the driver with this interface.
    #[must_use]
    pub fn new(driver: &'static str) -> Self {
        Book { driver, owners: Mutex::new(Owners { last: 0, entries: BTreeMap::new() }) }
    }

    /// The driver's interface.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    /// Enters a guest.
    ///
    /// # Errors
    ///
    /// The guest has no name: nobody could tell who holds a lock.
    pub fn open(&self, guest: &Guest, stage: Stage, own: T) -> Result<Owner, Error> {
        if guest.name.is_empty() {
            return Err(Error::new(Kind::Invalid, self.driver, Operation::Open, "the guest has no name")
                .with_hint("give it one: refusals of others will tell it"));
        }
        let entry = Entry { guest: guest.clone(), resources: Vec::new(), stage, own };
        let mut owners = locked(&self.owners);
        owners.last += 1;
        let owner = Owner(owners.last);
        owners.entries.insert(owner, Arc::new(Mutex::new(entry)));
        Ok(owner)
    }

    /// Does something with an owner, alone.
    ///
    /// # Errors
    ///
    /// There is no such owner; or what `act` says.
    pub fn with<R>(
        &self,
        owner: Owner,
        operation: Operation,
        act: impl FnOnce(&mut Entry<T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let entry = locked(&self.owners).entries.get(&owner).cloned();
        let entry = entry.ok_or_else(|| Error::no_owner(self.driver, operation, owner))?;
        let mut entry = locked(&entry);
        act(&mut entry)
    }

    /// Adds a resource to an owner that is being described or on its way here.
    ///
    /// # Errors
    ///
    /// It has its locks already, or the resource; or there is no such owner.
    pub fn add(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
        self.with(owner, Operation::Add, |entry| {
            entry.must_be(self.driver, Operation::Add, &[Stage::Described, Stage::Arriving])?;
            entry.put(self.driver, Operation::Add, resource)
        })
    }

    /// Removes an owner; answers what was known of it, once nobody is at it.
    pub fn close(&self, owner: Owner) -> Option<Entry<T>> {
        let entry = locked(&self.owners).entries.remove(&owner)?;
        drop(locked(&entry));
        Arc::into_inner(entry).map(|entry| entry.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// All owners.
    pub fn owners(&self) -> Vec<Owned> {
        self.each(|owner, entry| Owned {
            owner,
            guest: entry.guest.clone(),
            resources: entry.resources.clone(),
            stage: entry.stage,
        })
    }

    /// Does something with each owner, in the order in which they were opened.
    pub fn each<R>(&self, mut act: impl FnMut(Owner, &mut Entry<T>) -> R) -> Vec<R> {
        let entries: Vec<_> =
            locked(&self.owners).entries.iter().map(|(owner, entry)| (*owner, Arc::clone(entry))).collect();
        entries.into_iter().map(|(owner, entry)| act(owner, &mut locked(&entry))).collect()
    }

    /// Puts back what an earlier version had entered: for a driver that is restored.
    pub fn restore(&self, owner: Owner, entry: Entry<T>) {
        let mut owners = locked(&self.owners);
        owners.last = owners.last.max(owner.0);
        owners.entries.insert(owner, Arc::new(Mutex::new(entry)));
    }

    /// The number that was given out last: what a successor goes on from.
    pub fn last(&self) -> u64 {
        locked(&self.owners).last
    }

    /// Goes on from this number.
    pub fn go_on_from(&self, last: u64) {
        let mut owners = locked(&self.owners);
        owners.last = owners.last.max(last);
    }
}

impl<T> Entry<T> {
    /// Refuses an operation at any other stage.
    ///
    /// # Errors
    ///
    /// It is at another stage.
    pub fn must_be(&self, driver: &str, operation: Operation, stages: &[Stage]) -> Result<(), Error> {
        if stages.contains(&self.stage) {
            return Ok(());
        }
        let wanted: Vec<&str> = stages.iter().map(|stage| stage.words()).collect();
        let (name, is) = (&self.guest.name, self.stage.words());
        Err(Error::out_of_order(driver, operation, format!("guest {name} {is}"))
            .with_hint(format!("that can be asked for when it {}", wanted.join(" or "))))
    }

    /// Appends a resource.
    ///
    /// # Errors
    ///
    /// It is there already.
    pub fn put(&mut self, driver: &str, operation: Operation, resource: &Resource) -> Result<(), Error> {
        if self.resources.iter().any(|other| other.is_same(resource)) {
            let reason = format!("guest {} has it already", self.guest.name);
            return Err(Error::new(Kind::Invalid, driver, operation, reason)
                .on(resource)
                .with_hint("to change its mode, unplug it first"));
        }
        self.resources.push(resource.clone());
        Ok(())
    }

    /// What a successor has to know of it, with the driver's own still to be added.
    #[must_use]
    pub fn record(&self, head: &str, owner: Owner) -> Record {
        let mut record = Record::new(head);
        record.put_text("owner", owner.0).put_text("stage", self.stage.word()).put_guest(&self.guest);
        for resource in &self.resources {
            record.put_resource(resource, &[]);
        }
        record
    }

    /// The entry of such a record.
    #[must_use]
    pub fn of_record(record: &Record, own: T) -> Option<(Owner, Entry<T>)> {
        let owner = Owner(record.value("owner")?);
        let stage = Stage::of_word(record.text("stage")?)?;
        let resources = record.resources().map(|(resource, _)| resource).collect();
        Some((owner, Entry { guest: record.guest()?, resources, stage, own }))
    }
}

impl Stage {
    const ALL: [Stage; 6] =
        [Stage::Described, Stage::Acquired, Stage::Released, Stage::Leaving, Stage::Left, Stage::Arriving];

    /// Its word: `described`, `acquired`, `released`, `leaving`, `left`, `arriving`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Stage::Described => "described",
            Stage::Acquired => "acquired",
            Stage::Released => "released",
            Stage::Leaving => "leaving",
            Stage::Left => "left",
            Stage::Arriving => "arriving",
        }
    }

    /// The stage of that word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.word() == word)
    }

    /// What follows “the guest”.
    fn words(self) -> &'static str {
        match self {
            Stage::Described => "is being described",
            Stage::Acquired => "has its locks",
            Stage::Released => "has given its locks up",
            Stage::Leaving => "is about to leave for another host",
            Stage::Left => "has left for another host",
            Stage::Arriving => "is on its way here",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Uuid;
    use crate::resource::Mode;

    #[test]
    fn calls_out_of_order_say_what_is_and_what_could_be() {
        let book: Book<()> = Book::new("lock.test");
        let owner = book.open(&Guest::new("web", Uuid([1; 16])), Stage::Described, ()).unwrap();
        let disk = Resource::disk("/srv/a.img", Mode::Exclusive);
        book.add(owner, &disk).unwrap();
        assert_eq!(
            book.add(owner, &Resource::disk("/srv/a.img", Mode::Shared)).unwrap_err().to_string(),
            "lock.test: cannot add disk /srv/a.img (shared): guest web has it already; to change its mode, unplug it first"
        );
        book.with(owner, Operation::Acquire, |entry| {
            entry.stage = Stage::Acquired;
            Ok(())
        })
        .unwrap();
        assert_eq!(
            book.add(owner, &disk).unwrap_err().to_string(),
            "lock.test: cannot add: guest web has its locks; that can be asked for when it is being described or is on \
             its way here"
        );
        assert!(book.close(owner).is_some() && book.close(owner).is_none());
        assert_eq!(
            book.add(owner, &disk).unwrap_err().to_string(),
            "lock.test: cannot add: there is no owner 1; it was closed, or another driver's: open the guest first"
        );
        let unnamed = book.open(&Guest::default(), Stage::Described, ()).unwrap_err().to_string();
        assert!(unnamed.starts_with("lock.test: cannot open the guest: the guest has no name"), "{unnamed}");
    }

    #[test]
    fn a_successor_goes_on_with_the_same_owners_and_never_gives_a_number_twice() {
        let (old, new): (Book<()>, Book<()>) = (Book::new("lock.test"), Book::new("lock.test"));
        let guest = Guest::new("web", Uuid([1; 16])).with_pid(7);
        let kept = old.open(&guest, Stage::Arriving, ()).unwrap();
        old.add(kept, &Resource::disk("/srv/a b", Mode::ReadOnly)).unwrap();
        let closed = old.open(&guest, Stage::Described, ()).unwrap();
        old.close(closed);
        for line in old.each(|owner, entry| entry.record("lock.test/1", owner).to_string()) {
            let (owner, entry) = Entry::of_record(&line.parse().unwrap(), ()).unwrap();
            new.restore(owner, entry);
        }
        new.go_on_from(old.last());
        assert_eq!(new.owners(), old.owners());
        assert_eq!(new.open(&guest, Stage::Described, ()).unwrap(), Owner(closed.0 + 1));
        for stage in Stage::ALL {
            assert_eq!(Stage::of_word(stage.word()), Some(stage));
        }
    }
}
