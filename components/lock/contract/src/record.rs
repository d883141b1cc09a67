//! Guests and resources on one line of text: what a state is made of.
//!
//! ```text
//! lock.file/1 uuid=6ba7b810-… name=web pid=42 disk=exclusive,/srv/a.img
//! ```
//!
//! A head that says whose record it is and in which schema, then words: a key and its
//! parts. What is neither a letter, a digit nor one of `-_./:` is written `%20`: so a
//! record has no blank, quote or line break within a word, whatever a path holds. A
//! reader passes over keys that it does not know.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use crate::guest::Guest;
use crate::resource::{Disk, Lease, Mode, Resource};

/// A line of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    head: String,
    words: Vec<Word>,
}

/// A key and its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    key: String,
    parts: Vec<Vec<u8>>,
}

/// A line that is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no record: {1}")]
pub struct NoRecord(String, &'static str);

impl Record {
    /// An empty one of this writer and schema: `lock.file/1`.
    #[must_use]
    pub fn new(head: &str) -> Self {
        Record { head: head.to_owned(), words: Vec::new() }
    }

    /// Whose it is, and in which schema.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Appends a word.
    pub fn put(&mut self, key: &str, parts: &[&[u8]]) -> &mut Self {
        self.words
            .push(Word { key: key.to_owned(), parts: parts.iter().map(|part| part.to_vec()).collect() });
        self
    }

    /// Appends a word with one part, as it is printed.
    pub fn put_text(&mut self, key: &str, value: impl fmt::Display) -> &mut Self {
        self.put(key, &[value.to_string().as_bytes()])
    }

    /// All words, in their order.
    #[must_use]
    pub fn words(&self) -> &[Word] {
        &self.words
    }

    /// The first part of the first word with this key.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.words.iter().find(|word| word.key == key)?.text(0)
    }

    /// The same, as a value.
    #[must_use]
    pub fn value<T: FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }

    /// Appends what a guest is.
    pub fn put_guest(&mut self, guest: &Guest) -> &mut Self {
        let Guest { id, uuid, name, pid, uri } = guest;
        self.put_text("uuid", uuid).put_text("name", name);
        let numbers = [("id", id), ("pid", pid)];
        for (key, number) in numbers {
            if let Some(number) = number {
                self.put_text(key, number);
            }
        }
        if let Some(uri) = uri {
            self.put_text("uri", uri);
        }
        self
    }

    /// The guest, if there is one: a uuid at least.
    #[must_use]
    pub fn guest(&self) -> Option<Guest> {
        Some(Guest {
            id: self.value("id"),
            uuid: self.value("uuid")?,
            name: self.text("name").unwrap_or_default().to_owned(),
            pid: self.value("pid"),
            uri: self.text("uri").map(str::to_owned),
        })
    }

    /// Appends a resource, and parts that the driver adds to it.
    pub fn put_resource(&mut self, resource: &Resource, more: &[&[u8]]) -> &mut Self {
        let mode = resource.mode().word().as_bytes();
        let path = resource.path().as_os_str().as_bytes();
        match resource {
            Resource::Disk(_) => self.put("disk", &[&[mode, path], more].concat()),
            Resource::Lease(Lease { name, lockspace, offset, .. }) => {
                let offset = offset.to_string();
                let own: [&[u8]; 5] = [mode, path, offset.as_bytes(), lockspace.as_bytes(), name.as_bytes()];
                self.put("lease", &[&own, more].concat())
            }
        }
    }

    /// The resources, each with what the driver has added.
    pub fn resources(&self) -> impl Iterator<Item = (Resource, &[Vec<u8>])> {
        self.words.iter().filter_map(Word::resource)
    }
}

impl Word {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> &[Vec<u8>] {
        &self.parts
    }

    /// The part with this number, if it is UTF-8.
    #[must_use]
    pub fn text(&self, number: usize) -> Option<&str> {
        str::from_utf8(self.parts.get(number)?).ok()
    }

    fn path(&self, number: usize) -> Option<PathBuf> {
        Some(PathBuf::from(OsStr::from_bytes(self.parts.get(number)?)))
    }

    fn resource(&self) -> Option<(Resource, &[Vec<u8>])> {
        let (mode, path) = (|| Mode::of_word(self.text(0)?), || self.path(1));
        match self.key.as_str() {
            "disk" => Some((Resource::Disk(Disk { mode: mode()?, path: path()? }), &self.parts[2..])),
            "lease" => {
                let lease = Lease {
                    mode: mode()?,
                    path: path()?,
                    offset: self.text(2)?.parse().ok()?,
                    lockspace: self.text(3)?.to_owned(),
                    name: self.text(4)?.to_owned(),
                };
                Some((Resource::Lease(lease), &self.parts[5..]))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        for Word { key, parts } in &self.words {
            write!(f, " {key}=")?;
            for (number, part) in parts.iter().enumerate() {
                if number > 0 {
                    f.write_char(',')?;
                }
                for byte in part {
                    match byte {
                        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b':' => {
                            f.write_char(char::from(*byte))?;
                        }
                        other => write!(f, "%{other:02x}")?,
                    }
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Record {
    type Err = NoRecord;

    fn from_str(line: &str) -> Result<Self, NoRecord> {
        let no = |why| NoRecord(line.to_owned(), why);
        let mut words = line.split_ascii_whitespace();
        let mut record = Record::new(words.next().ok_or_else(|| no("it is empty"))?);
        for word in words {
            let (key, parts) = word.split_once('=').ok_or_else(|| no("a word has no `=`"))?;
            let parts: Option<Vec<Vec<u8>>> = parts.split(',').map(plain).collect();
            let parts = parts.ok_or_else(|| no("a `%` has no two hexadecimal digits behind it"))?;
            record.words.push(Word { key: key.to_owned(), parts });
        }
        Ok(record)
    }
}

/// What was escaped.
fn plain(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Uuid;

    #[test]
    fn a_record_is_read_as_it_is_written() {
        let guest = Guest {
            id: Some(3),
            uuid: Uuid([7; 16]),
            name: "my web, 100 %=\n\"ü\"".into(),
            pid: Some(42),
            uri: Some("qemu:///system".into()),
        };
        let disk = Resource::disk(OsStr::from_bytes(b"/srv/a b\xff.img"), Mode::Shared);
        let lease = Resource::Lease(Lease {
            name: String::new(),
            lockspace: "a,b".into(),
            path: "/srv/leases".into(),
            offset: u64::MAX,
            mode: Mode::ReadOnly,
        });
        let mut record = Record::new("lock.file/1");
        record
            .put_guest(&guest)
            .put_resource(&disk, &[b"9", b""])
            .put_resource(&lease, &[])
            .put_text("new", "word");
        let line = record.to_string();
        assert!(!line.contains(['\n', '"']) && line.is_ascii(), "{line}");
        let read: Record = line.parse().unwrap();
        assert_eq!(read, record);
        assert_eq!(read.guest(), Some(guest));
        let resources: Vec<_> = read.resources().collect();
        assert_eq!(resources.len(), 2);
        assert_eq!((&resources[0].0, resources[0].1), (&disk, &[b"9".to_vec(), vec![]][..]));
        assert_eq!((&resources[1].0, resources[1].1), (&lease, &[][..]));
    }

    #[test]
    fn what_is_no_record_is_refused_or_passed_over() {
        for wrong in ["", "   ", "lock.file/1 name", "lock.file/1 name=%2", "lock.file/1 name=%zz"] {
            let error = wrong.parse::<Record>().unwrap_err().to_string();
            assert!(error.contains("is no record"), "{error}");
        }
        let strange: Record = "x disk=fully,/a lease=shared,/a,no,s,n disk=shared uuid=1".parse().unwrap();
        assert_eq!((strange.resources().count(), strange.guest()), (0, None));
    }
}
