//! A counter whose answers show whether a replacement has lost, repeated or torn a
//! call.
//!
//! Each caller counts for itself: its next [`Ticket`] bears the number after its
//! last one, whichever version gives it out. The numbers are the counter's state,
//! and handed over; each instance that takes them over is the next generation. So a
//! caller that compares sees at once
//!
//! - a number that is too high: a call was executed whose answer nobody got,
//! - one that is too low: state was lost, or saved while a call was inside,
//! - an earlier generation after a later one: the old version answered after the new,
//! - a broken seal: an answer of two generations, or of a destroyed instance.

use std::sync::atomic::{AtomicU64, Ordering};

use lcr_core::{Abi, BoxError, State};

/// Gives numbers out.
#[lcr_core::contract]
pub trait Counter: Send + Sync {
    /// The caller's next ticket. Callers are numbered from 0 to [`CALLERS`] - 1.
    fn next(&self, caller: u32) -> Ticket;
    /// How many tickets each caller got, from all versions together.
    fn given(&self) -> Vec<u64>;
}

/// How many callers there can be.
pub const CALLERS: usize = 256;

/// What a caller gets.
#[derive(Abi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Who asked.
    pub caller: u32,
    /// The version that answered.
    pub version: i32,
    /// How often the numbers had been handed over before.
    pub generation: u64,
    /// The caller's how-many-eth ticket this is, from 1.
    pub number: u64,
    /// Over all of them; see [`Ticket::is_whole`].
    pub seal: u64,
}

impl Ticket {
    /// Whether it was made in one piece, by an instance that was alive.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let Ticket { caller, version, generation, number, seal } = *self;
        seal == sealed(caller, version, key(generation), number)
    }
}

/// What a generation seals with.
fn key(generation: u64) -> u64 {
    (generation + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn sealed(caller: u32, version: i32, key: u64, number: u64) -> u64 {
    let who = u64::from(caller) << 32 | u64::from(version.cast_unsigned());
    (key ^ who).rotate_left(23).wrapping_add(number).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

/// One number to a cache line: callers do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

/// The numbers: what all versions of the counter are made around.
#[derive(Debug)]
pub struct Ledger {
    generation: u64,
    /// Gone when the ledger is: who still asks gets a broken seal.
    key: AtomicU64,
    numbers: Box<[Cell]>,
}

impl Ledger {
    /// An empty one: generation 0.
    #[must_use]
    pub fn new() -> Ledger {
        Ledger::of(0, std::iter::repeat_n(0, CALLERS))
    }

    fn of(generation: u64, numbers: impl Iterator<Item = u64>) -> Ledger {
        let numbers = numbers.map(|number| Cell(AtomicU64::new(number))).collect();
        Ledger { generation, key: AtomicU64::new(key(generation)), numbers }
    }

    /// The caller's next ticket, by this version.
    ///
    /// # Panics
    ///
    /// If there is no such caller.
    #[must_use]
    pub fn next(&self, caller: u32, version: i32) -> Ticket {
        // Sealed with what was there before, numbered by what is there after.
        let key = self.key.load(Ordering::Acquire);
        let number = self.numbers[caller as usize].0.fetch_add(1, Ordering::AcqRel) + 1;
        let seal = sealed(caller, version, key, number);
        Ticket { caller, version, generation: self.generation, number, seal }
    }

    /// How many tickets each caller got.
    #[must_use]
    pub fn given(&self) -> Vec<u64> {
        self.numbers.iter().map(|cell| cell.0.load(Ordering::Acquire)).collect()
    }

    /// Writes the numbers.
    pub fn save(&self, state: &mut State) {
        let section = state.section("numbers", 1);
        section.write(&self.generation.to_le_bytes());
        for number in self.given() {
            section.write(&number.to_le_bytes());
        }
    }

    /// The next generation, with the numbers that were saved.
    ///
    /// # Errors
    ///
    /// There are none, or not as many as there are callers.
    pub fn restore(state: &State) -> Result<Ledger, BoxError> {
        let (words, rest) = state.read("numbers", 1..=1)?.bytes().as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let generation = words.next().ok_or("the section `numbers` is empty")?;
        if words.len() != CALLERS || !rest.is_empty() {
            return Err(format!("the section `numbers` has {} of {CALLERS} numbers", words.len()).into());
        }
        Ok(Ledger::of(generation + 1, words))
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger::new()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.key.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_generation_goes_on_counting() {
        let old = Ledger::new();
        assert_eq!((old.next(3, 1).number, old.next(3, 1).number, old.next(4, 1).number), (1, 2, 1));
        let mut state = State::new();
        old.save(&mut state);
        let new = Ledger::restore(&state).unwrap();
        let ticket = new.next(3, 2);
        assert_eq!((ticket.number, ticket.generation, ticket.is_whole()), (3, 1, true));
        assert!(!Ticket { generation: 0, ..ticket }.is_whole());
        assert!(!Ticket { number: 4, ..ticket }.is_whole());
        assert!(Ledger::restore(&State::new()).is_err());
    }

    #[test]
    fn who_asks_after_the_end_gets_a_broken_seal() {
        let ledger = std::mem::ManuallyDrop::new(Ledger::new());
        ledger.key.store(0, Ordering::Release);
        assert!(!ledger.next(0, 1).is_whole());
        drop(std::mem::ManuallyDrop::into_inner(ledger));
    }
}
