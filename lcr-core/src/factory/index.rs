//! The index of a list of components: name → versions.
//!
//! Built once, at the first look-up. It must be fast for ten thousand components
//! (a static binary's start), so it makes one vector and one map, and nothing per
//! entry: descriptors of one name are chained by position.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::offer::{Offer, origin};
use crate::descriptor::Iface;
use crate::error::ReferenceError;
use crate::registry::Registration;
use crate::version::Version;

pub(crate) struct Index {
    entries: Vec<Entry>,
    heads: HashMap<&'static str, Chain, BuildHasherDefault<Folded>>,
}

struct Entry {
    name: &'static str,
    iface: &'static Iface,
    registration: &'static Registration,
    /// The next entry of the same name; `END` where there is none.
    next: u32,
    /// How many raw references are held.
    holders: AtomicUsize,
}

struct Chain {
    first: u32,
    /// Two entries of this name that have one version.
    duplicate: Option<(u32, u32)>,
}

const END: u32 = u32::MAX;

impl Index {
    pub(crate) fn new(registrations: &[&'static Registration]) -> Self {
        let mut index = Index {
            entries: Vec::with_capacity(registrations.len()),
            heads: HashMap::with_capacity_and_hasher(registrations.len(), BuildHasherDefault::default()),
        };
        for registration in registrations {
            // SAFETY: a registered descriptor is a sound one.
            for iface in unsafe { registration.comp().ifaces() } {
                index.add(iface, registration);
            }
        }
        index
    }

    fn add(&mut self, iface: &'static Iface, registration: &'static Registration) {
        // SAFETY: a registered descriptor has a name. One that is no UTF-8 cannot
        // be asked for.
        let Ok(name) = unsafe { std::ffi::CStr::from_ptr(iface.name) }.to_str() else { return };
        let Ok(position) = u32::try_from(self.entries.len()) else { return };
        let mut entry = Entry { name, iface, registration, next: END, holders: AtomicUsize::new(0) };
        let chain = self.heads.entry(name).or_insert(Chain { first: END, duplicate: None });
        // The chain is in order of registration: a list of versions is short.
        if chain.first == END {
            chain.first = position;
        } else {
            let mut last = chain.first;
            loop {
                let other = &self.entries[last as usize];
                if other.iface.version == iface.version {
                    chain.duplicate.get_or_insert((last, position));
                }
                if other.next == END {
                    break;
                }
                last = other.next;
            }
            self.entries[last as usize].next = position;
            entry.next = END;
        }
        self.entries.push(entry);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The position of what answers a reference.
    pub(crate) fn find(&self, name: &str, version: Version) -> Result<Option<usize>, ReferenceError> {
        let Some(chain) = self.heads.get(name) else { return Ok(None) };
        if let Some((first, second)) = chain.duplicate {
            let (first, second) = (&self.entries[first as usize], &self.entries[second as usize]);
            return Err(ReferenceError::Duplicate {
                name: name.to_owned(),
                version: first.iface.version,
                first: origin(first.registration),
                second: origin(second.registration),
            });
        }
        let entries = self.chain(chain);
        // SAFETY: a registered descriptor is a sound one.
        let offers = entries.map(|(_, e)| (e.iface.version, unsafe { e.iface.replaces() }));
        Ok(version.choose(offers).and_then(|at| self.chain(chain).nth(at)).map(|(position, _)| position))
    }

    /// All entries of a name.
    pub(crate) fn all(&self, name: &str) -> Result<Vec<(usize, Offer)>, ReferenceError> {
        // Duplicates are refused here too.
        self.find(name, Version::any())?;
        let Some(chain) = self.heads.get(name) else { return Ok(Vec::new()) };
        Ok(self.chain(chain).map(|(position, _)| (position, self.offer(position))).collect())
    }

    /// All versions of a name, with their origins.
    pub(crate) fn versions(&self, name: &str) -> Vec<(i32, String)> {
        self.heads
            .get(name)
            .map(|chain| self.chain(chain).map(|(_, e)| (e.iface.version, origin(e.registration))).collect())
            .unwrap_or_default()
    }

    pub(crate) fn name(&self, position: usize) -> &'static str {
        self.entries[position].name
    }

    /// Is there nothing that it requires?
    pub(crate) fn is_alone(&self, position: usize) -> bool {
        self.entries[position].iface.dependency_count == 0
    }

    /// How many raw references to it are held.
    pub(crate) fn holders(&self, position: usize) -> &AtomicUsize {
        &self.entries[position].holders
    }

    /// The versions of a name of which raw references are held, and how many.
    pub(crate) fn holders_of(&self, name: &str) -> impl Iterator<Item = (i32, usize)> {
        let chain = self.heads.get(name);
        let entries = chain.into_iter().flat_map(|chain| self.chain(chain));
        let counts = entries.map(|(_, e)| (e.iface.version, e.holders.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }

    pub(crate) fn offer(&self, position: usize) -> Offer {
        let entry = &self.entries[position];
        Offer::compiled_in(entry.iface, entry.registration)
    }

    fn chain<'a>(&'a self, chain: &Chain) -> impl Iterator<Item = (usize, &'a Entry)> {
        let mut next = chain.first;
        std::iter::from_fn(move || {
            let position = next as usize;
            let entry = self.entries.get(position)?;
            next = entry.next;
            Some((position, entry))
        })
    }
}

/// Eight bytes at a time, each step a multiplication whose halves are folded. Names
/// are short, and come from the program itself, not from a stranger: so speed counts,
/// and chosen collisions do not.
#[derive(Clone, Copy, Default)]
struct Folded(u64);

impl Folded {
    #[inline]
    fn mix(&mut self, word: u64) {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15;
        let wide = u128::from(self.0.rotate_left(23) ^ word ^ 0x2d35_8dcc_aa6c_78a5) * ODD;
        self.0 = wide as u64 ^ (wide >> 64) as u64;
    }
}

impl Hasher for Folded {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, _) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        match bytes.last_chunk::<8>() {
            // May overlap the word before: the length, below, tells such names apart.
            Some(last) => self.mix(u64::from_le_bytes(*last)),
            None => self.mix(bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))),
        }
        self.0 ^= bytes.len() as u64;
    }

    #[inline]
    fn write_u8(&mut self, end: u8) {
        // What `str` puts behind its bytes.
        self.0 = self.0.wrapping_add(u64::from(end));
    }
}
