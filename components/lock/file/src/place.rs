//! Where a resource's lock lies: a file, and a byte of it.
//!
//! * A lease: the byte at its offset, in its file.
//! * A disk: the disk's first byte. That is where virtlockd locks, too, so that each
//!   refuses what the other holds; QEMU's own image locks lie at bytes 100 to 299.
//! * A disk, with a directory of leases: the first byte of the file in it that is named
//!   after the disk's path, links resolved. So hosts that share the directory agree if
//!   they call the disk the same, and disks that cannot be locked themselves (read-only
//!   for this process, on a file system without locks) can be used. Lease files stay:
//!   removing one that somebody is about to lock would let two have it.
//!
//! The lock of a block device lies on its node: two nodes of one device do not see each
//! other. Links to one node do.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use lcr_lock::{Error, Kind, Mode, Operation, Resource};
use sha2::{Digest as _, Sha256};

use crate::ofd::Inode;

/// Where a lock lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) offset: i64,
    /// A file of ours, in which the holder may be recorded.
    pub(crate) leases: bool,
}

impl Place {
    pub(crate) fn of(
        driver: &str,
        operation: Operation,
        resource: &Resource,
        directory: Option<&Path>,
    ) -> Result<Place, Error> {
        match (resource, directory) {
            (Resource::Lease(lease), _) => {
                let offset = i64::try_from(lease.offset).ok().filter(|offset| *offset < i64::MAX);
                let offset = offset.ok_or_else(|| {
                    Error::new(Kind::Invalid, driver, operation, "no file is as long as its offset")
                        .on(resource)
                })?;
                Ok(Place { file: lease.path.clone(), offset, leases: false })
            }
            (Resource::Disk(disk), None) => Ok(Place { file: disk.path.clone(), offset: 0, leases: false }),
            (Resource::Disk(disk), Some(directory)) => {
                let path = disk.path.canonicalize().map_err(|error| {
                    Error::of_system(driver, operation, "its path cannot be resolved", &error).on(resource)
                })?;
                let digest = Sha256::digest(path.as_os_str().as_bytes());
                let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                Ok(Place { file: directory.join(name + ".lease"), offset: 0, leases: true })
            }
        }
    }

    /// Opens it as a lock of that mode needs it.
    pub(crate) fn open(
        &self,
        driver: &str,
        operation: Operation,
        resource: &Resource,
    ) -> Result<(OwnedFd, Inode), Error> {
        let exclusive = resource.mode() == Mode::Exclusive;
        let wrong = |error: &io::Error| {
            let what = format!("{} cannot be opened", self.file.display());
            let hint = match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files: a lock is a descriptor",
                Some(libc::EACCES | libc::EPERM | libc::EROFS) if self.leases => {
                    "the directory of leases must be writable for whoever runs guests"
                }
                Some(libc::EACCES | libc::EPERM | libc::EROFS) if exclusive => {
                    "an exclusive lock needs write access: ask for it readonly or shared, or use a directory of leases"
                }
                Some(libc::ENOENT) => "create it, or name another one",
                _ => "",
            };
            Error::of_system(driver, operation, &what, error).on(resource).with_hint(hint)
        };
        let mut options = OpenOptions::new();
        // A pipe must not keep us waiting for its other end.
        options.read(true).write(exclusive || self.leases).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        if self.leases {
            options.create(true).mode(0o660);
        }
        let file: File = options.open(&self.file).map_err(|error| wrong(&error))?;
        let metadata = file.metadata().map_err(|error| wrong(&error))?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let reason = format!("{} is neither a file nor a block device", self.file.display());
            return Err(Error::new(Kind::Invalid, driver, operation, reason).on(resource));
        }
        Ok((file.into(), Inode::of(&metadata)))
    }

    /// Which file it is now, if there is one.
    pub(crate) fn inode(&self) -> Option<Inode> {
        std::fs::metadata(&self.file).ok().map(|metadata| Inode::of(&metadata))
    }
}
