//! What is locked, and how.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use lcr_core::Abi;

/// What a guest needs for itself, or shares by agreement.
///
/// Two descriptions are the same resource if all but the mode agree
/// ([`Resource::is_same`]).
#[derive(Abi, Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A disk: the driver decides how its lock is kept.
    Disk(Disk),
    /// A lease that was set up beforehand, at a place of its own.
    Lease(Lease),
}

/// A disk of a guest: a file or a block device.
#[derive(Abi, Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Where it is.
    pub path: PathBuf,
    /// How it is wanted.
    pub mode: Mode,
}

/// A lease: a name in a lockspace, kept at an offset of a file or a device.
#[derive(Abi, Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The lease's name in its lockspace.
    pub name: String,
    /// The lockspace that it belongs to; empty where the driver has only one.
    pub lockspace: String,
    /// The file or device that it is kept in.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How it is wanted.
    pub mode: Mode,
}

/// How a resource is wanted. Exclusive gets on with none, the other two get on with
/// each other and themselves.
#[derive(Abi, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// For this guest alone.
    #[default]
    Exclusive,
    /// To be written by several guests that have agreed on how.
    Shared,
    /// To be read. A driver may refuse it to one guest while another one has it
    /// exclusively, or may not lock at all for readers.
    ReadOnly,
}

impl Mode {
    /// Its word: `exclusive`, `shared`, `readonly`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Mode::Exclusive => "exclusive",
            Mode::Shared => "shared",
            Mode::ReadOnly => "readonly",
        }
    }

    /// The mode of that word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Mode> {
        [Mode::Exclusive, Mode::Shared, Mode::ReadOnly].into_iter().find(|mode| mode.word() == word)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Resource {
    /// A disk.
    #[must_use]
    pub fn disk(path: impl Into<PathBuf>, mode: Mode) -> Self {
        Resource::Disk(Disk { path: path.into(), mode })
    }

    /// How it is wanted.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self {
            Resource::Disk(disk) => disk.mode,
            Resource::Lease(lease) => lease.mode,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Resource::Disk(disk) => &disk.path,
            Resource::Lease(lease) => &lease.path,
        }
    }

    /// Whether both are descriptions of one thing, whatever the modes are.
    #[must_use]
    pub fn is_same(&self, other: &Resource) -> bool {
        match (self, other) {
            (Resource::Disk(Disk { path, mode: _ }), Resource::Disk(other)) => {
                is_same_path(path, &other.path)
            }
            (Resource::Lease(lease), Resource::Lease(other)) => {
                let Lease { name, lockspace, path, offset, mode: _ } = lease;
                (name, lockspace, path, offset) == (&other.name, &other.lockspace, &other.path, &other.offset)
            }
            (Resource::Disk(_), Resource::Lease(_)) | (Resource::Lease(_), Resource::Disk(_)) => false,
        }
    }
}

/// Whether both name one file as they stand: `/a//b` is `/a/b`.
///
/// A guest with a thousand disks compares half a million pairs, and component by component
/// that takes longer than all locks. Nearly all differ within their last component, which
/// can be seen in their last bytes.
fn is_same_path(one: &Path, other: &Path) -> bool {
    let (bytes, others) = (one.as_os_str().as_bytes(), other.as_os_str().as_bytes());
    // A slash or dot at the end may mean nothing.
    let plain = |bytes: &[u8]| bytes.last().is_some_and(|last| !b"/.".contains(last));
    if plain(bytes) && plain(others) {
        for (byte, its) in bytes.iter().rev().zip(others.iter().rev()) {
            if byte != its {
                return false;
            }
            if *byte == b'/' {
                break;
            }
        }
    }
    one == other
}

/// `disk /srv/a.img (exclusive)`, `lease web of lockspace space at /srv/leases+1048576 (shared)`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Disk(Disk { path, mode }) => write!(f, "disk {} ({mode})", path.display()),
            Resource::Lease(Lease { name, lockspace, path, offset, mode }) => {
                write!(f, "lease {name}")?;
                if !lockspace.is_empty() {
                    write!(f, " of lockspace {lockspace}")?;
                }
                write!(f, " at {}+{offset} ({mode})", path.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_says_what_it_is() {
        let disk = Resource::disk("/srv/a.img", Mode::Exclusive);
        assert_eq!(disk.to_string(), "disk /srv/a.img (exclusive)");
        let lease = Lease {
            name: "web".into(),
            lockspace: "space".into(),
            path: "/srv/leases".into(),
            offset: 1 << 20,
            mode: Mode::Shared,
        };
        let unnamed = Resource::Lease(Lease { lockspace: String::new(), ..lease.clone() });
        let lease = Resource::Lease(lease);
        assert_eq!(lease.to_string(), "lease web of lockspace space at /srv/leases+1048576 (shared)");
        assert_eq!(unnamed.to_string(), "lease web at /srv/leases+1048576 (shared)");
        assert!(disk.is_same(&Resource::disk("/srv/a.img", Mode::Shared)));
        assert!(!disk.is_same(&Resource::disk("/srv/b.img", Mode::Exclusive)));
        assert!(!lease.is_same(&unnamed) && !lease.is_same(&disk) && lease.is_same(&lease.clone()));
    }

    #[test]
    fn a_path_is_the_same_however_it_is_written() {
        let paths =
            ["/a/b", "/a//b", "/a/./b", "/a/b/", "/a/b/.", "a/b", "b", "/b", "xb", "/a/xb", "/c/b", "", "."];
        let more = ["..", "/a/..", "/a/b.", "/a.", "/a/b/..", "/", "//", "./b"];
        for one in paths.iter().chain(&more).map(Path::new) {
            for other in paths.iter().chain(&more).map(Path::new) {
                assert_eq!(is_same_path(one, other), one == other, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn each_mode_has_its_word() {
        for mode in [Mode::Exclusive, Mode::Shared, Mode::ReadOnly] {
            assert_eq!(Mode::of_word(&mode.to_string()), Some(mode));
        }
        assert_eq!(Mode::of_word("read-write"), None);
    }
}
