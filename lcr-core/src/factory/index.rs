//! The index of a list of components: name → versions.
//!
//! Built once, at the first look-up. It must be fast for ten thousand components
//! (a static binary's start), so it makes one vector and one table of positions, and
//! nothing per entry: descriptors of one name are chained by position.
//!
//! What takes the time then is memory. A registration points to a component, that to
//! an interface, that to a name, each in a line of its own that nothing has touched
//! yet. So they are visited kind by kind, and what the next visit needs is fetched
//! during the one before.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicU32, Ordering};

use super::offer::{Offer, origin};
use crate::descriptor::Iface;
use crate::error::ReferenceError;
use crate::registry::Registration;
use crate::version::Version;

pub(crate) struct Index {
    entries: Vec<Entry>,
    /// Positions of the first entries of names, by hash; `END` where there is none.
    /// A power of two, and at least half of it empty.
    heads: Vec<u32>,
    /// Two entries of one name that have one version, behind the name's first entry.
    /// Of each name the first two that were found.
    duplicates: Vec<(u32, (u32, u32))>,
}

struct Entry {
    iface: &'static Iface,
    registration: &'static Registration,
    name_len: u32,
    hash: u32,
    /// The next entry of the same name; `END` where there is none.
    next: u32,
    /// How many raw references are held.
    holders: AtomicU32,
}

impl Entry {
    fn name(&self) -> &'static str {
        // SAFETY: `Index::new` found that so many bytes of text stand there, in a
        // descriptor that is never unmapped.
        unsafe {
            let bytes = std::slice::from_raw_parts(self.iface.name.cast::<u8>(), self.name_len as usize);
            std::str::from_utf8_unchecked(bytes)
        }
    }

    /// Reads the name. One that is no UTF-8 cannot be asked for.
    fn read_name(&mut self) -> bool {
        // SAFETY: a registered descriptor has a name.
        let Ok(name) = unsafe { CStr::from_ptr(self.iface.name) }.to_str() else { return false };
        let Ok(len) = u32::try_from(name.len()) else { return false };
        self.name_len = len;
        self.hash = hash(name);
        true
    }
}

const END: u32 = u32::MAX;

/// How many registrations ahead memory is fetched.
const AHEAD: usize = 8;

impl Index {
    pub(crate) fn new(registrations: &[&'static Registration]) -> Self {
        let mut entries = Vec::with_capacity(registrations.len());
        for (at, registration) in registrations.iter().enumerate() {
            if let Some(later) = registrations.get(at + AHEAD) {
                fetch(later.comp());
            }
            // SAFETY: a registered descriptor is a sound one.
            for iface in unsafe { registration.comp().ifaces() } {
                fetch(iface);
                let holders = AtomicU32::new(0);
                entries.push(Entry { iface, registration, name_len: 0, hash: 0, next: END, holders });
            }
        }
        for entry in &entries {
            fetch::<c_char>(entry.iface.name);
        }
        entries.retain_mut(Entry::read_name);
        entries.truncate(END as usize / 4);
        let heads = vec![END; (entries.len() * 2).next_power_of_two()];
        let mut index = Index { entries, heads, duplicates: Vec::new() };
        for position in 0..index.entries.len() as u32 {
            index.link(position);
        }
        index
    }

    /// Puts an entry behind those of its name, which are in order of registration.
    fn link(&mut self, position: u32) {
        let entry = &self.entries[position as usize];
        let (place, first) = self.place(entry.name(), entry.hash);
        let Some(first) = first else {
            self.heads[place] = position;
            return;
        };
        let version = entry.iface.version;
        let mut last = first;
        loop {
            let other = &self.entries[last as usize];
            if other.iface.version == version && self.duplicate(first).is_none() {
                self.duplicates.push((first, (last, position)));
            }
            if other.next == END {
                break;
            }
            last = other.next;
        }
        self.entries[last as usize].next = position;
    }

    /// Where a name's first entry stands, or would, and its position.
    #[inline]
    fn place(&self, name: &str, hash: u32) -> (usize, Option<u32>) {
        let mask = self.heads.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let position = self.heads[place];
            if position == END {
                return (place, None);
            }
            let entry = &self.entries[position as usize];
            if entry.hash == hash && entry.name() == name {
                return (place, Some(position));
            }
            place = (place + 1) & mask;
        }
    }

    #[inline]
    fn head(&self, name: &str) -> Option<u32> {
        self.place(name, hash(name)).1
    }

    fn duplicate(&self, first: u32) -> Option<(u32, u32)> {
        self.duplicates.iter().find(|(name, _)| *name == first).map(|(_, two)| *two)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The position of what answers a reference.
    pub(crate) fn find(&self, name: &str, version: Version) -> Result<Option<usize>, ReferenceError> {
        let Some(head) = self.head(name) else { return Ok(None) };
        if let Some((first, second)) = self.duplicate(head) {
            let (first, second) = (&self.entries[first as usize], &self.entries[second as usize]);
            return Err(ReferenceError::Duplicate {
                name: name.to_owned(),
                version: first.iface.version,
                first: origin(first.registration),
                second: origin(second.registration),
            });
        }
        // SAFETY: a registered descriptor is a sound one.
        let offers = self.chain(head).map(|(_, e)| (e.iface.version, unsafe { e.iface.replaces() }));
        Ok(version.choose(offers).and_then(|at| self.chain(head).nth(at)).map(|(position, _)| position))
    }

    /// All entries of a name.
    pub(crate) fn all(&self, name: &str) -> Result<Vec<(usize, Offer)>, ReferenceError> {
        // Duplicates are refused here too.
        self.find(name, Version::any())?;
        let Some(head) = self.head(name) else { return Ok(Vec::new()) };
        Ok(self.chain(head).map(|(position, _)| (position, self.offer(position))).collect())
    }

    /// All versions of a name, with their origins.
    pub(crate) fn versions(&self, name: &str) -> Vec<(i32, String)> {
        self.head(name)
            .map(|head| self.chain(head).map(|(_, e)| (e.iface.version, origin(e.registration))).collect())
            .unwrap_or_default()
    }

    pub(crate) fn name(&self, position: usize) -> &'static str {
        self.entries[position].name()
    }

    /// Is there nothing that it requires?
    pub(crate) fn is_alone(&self, position: usize) -> bool {
        self.entries[position].iface.dependency_count == 0
    }

    /// Does a reference to it run nothing?
    pub(crate) fn is_inert(&self, position: usize) -> bool {
        let iface = self.entries[position].iface;
        iface.dependency_count == 0 && iface.constructor.is_none()
    }

    /// How many raw references to it are held.
    pub(crate) fn holders(&self, position: usize) -> &AtomicU32 {
        &self.entries[position].holders
    }

    /// The versions of a name of which raw references are held, and how many.
    pub(crate) fn holders_of(&self, name: &str) -> impl Iterator<Item = (i32, usize)> {
        let entries = self.head(name).into_iter().flat_map(|head| self.chain(head));
        let counts = entries.map(|(_, e)| (e.iface.version, e.holders.load(Ordering::Relaxed) as usize));
        counts.filter(|(_, count)| *count > 0)
    }

    pub(crate) fn offer(&self, position: usize) -> Offer {
        let entry = &self.entries[position];
        Offer::compiled_in(entry.iface, entry.registration)
    }

    /// The entries of a name, from its first.
    #[inline]
    fn chain(&self, first: u32) -> impl Iterator<Item = (usize, &Entry)> {
        let mut next = first;
        std::iter::from_fn(move || {
            let position = next as usize;
            let entry = self.entries.get(position)?;
            next = entry.next;
            Some((position, entry))
        })
    }
}

/// Has the processor fetch what is there; nothing else happens, whatever is there.
#[inline(always)]
fn fetch<T>(what: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint: it cannot fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(what.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = what;
}

/// Eight bytes at a time, each step a multiplication whose halves are folded. Names
/// are short, and come from the program itself, not from a stranger: so speed counts,
/// and chosen collisions do not.
#[inline]
fn hash(name: &str) -> u32 {
    const ODD: u128 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let wide = u128::from(hash.rotate_left(23) ^ word ^ 0x2d35_8dcc_aa6c_78a5) * ODD;
        wide as u64 ^ (wide >> 64) as u64
    };
    let bytes = name.as_bytes();
    let (words, _) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let hash = match bytes.last_chunk::<8>() {
        // May overlap the word before: the length tells such names apart.
        Some(last) => mix(hash, u64::from_le_bytes(*last)),
        None => mix(hash, bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))),
    };
    (hash >> 32) as u32 ^ hash as u32
}
