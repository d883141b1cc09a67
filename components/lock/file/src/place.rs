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
//! # Leases of several users
//!
//! A lease is made with what its directory allows, whatever the maker's umask: those who
//! may write there may read and write it.
//!
//! | the directory is writable for | a lease has |
//! |---|---|
//! | its owner alone | mode 0600 |
//! | its group (as 2770, set-group-id) | the directory's group, mode 0660 |
//! | everybody (as 1777, sticky) | mode 0666 |
//!
//! Nobody else may read it: who can read a file can lock it for reading, and so keep
//! others from it. One with another mode (made by hand, or by an older version) is
//! corrected by its owner or root when they next use it; and of one that can only be read
//! the holder is still named. Where everybody can write, somebody could put a link in a
//! lease's place: what is neither a file nor has one name alone is refused.
//!
//! # Block devices
//!
//! The kernel keeps locks by the file, and each node of a block device is one of its own: locks
//! on two nodes of one device do not see each other. So a node is not locked itself, but
//! the one that the kernel has made for its device (`/dev/` and the `DEVNAME` of
//! `/sys/dev/block/MAJOR:MINOR/uevent`), if that is there and is the same device. Where it
//! is not, as in a container with a `/dev` of its own, it is the node that was named.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use lcr_lock::{Error, Kind, Mode, Operation, Resource};
use rustix::fs::{AtFlags, CWD, OFlags, linkat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::locks::holders;
use crate::ofd::{Inode, is_taken};

/// Where a lock lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) offset: i64,
    /// A file of ours, in which the holder may be recorded.
    pub(crate) leases: bool,
}

/// A pipe must not keep us waiting for its other end.
const FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

fn flags(options: &mut OpenOptions) -> &mut OpenOptions {
    options.read(true).custom_flags(FLAGS)
}

/// The node that the kernel has made for the block device that this one is for, if it is
/// for one.
fn kernels_node(node: &Path) -> Option<PathBuf> {
    let metadata = std::fs::metadata(node).ok().filter(|metadata| metadata.file_type().is_block_device())?;
    let device = metadata.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let known = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).ok()?;
    let name = known.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let path = Path::new("/dev").join(name);
    let found = std::fs::symlink_metadata(&path).ok()?;
    (found.file_type().is_block_device() && found.rdev() == device).then_some(path)
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
            (Resource::Disk(disk), None) => {
                let file = kernels_node(&disk.path).unwrap_or_else(|| disk.path.clone());
                Ok(Place { file, offset: 0, leases: false })
            }
            (Resource::Disk(disk), Some(directory)) => {
                let path = disk.path.canonicalize().map_err(|error| {
                    Error::of_system(driver, operation, "its path cannot be resolved", &error).on(resource)
                })?;
                let path = kernels_node(&path).unwrap_or(path);
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
                    "the directory of leases must be writable for whoever runs guests, and so must be what is in it: a \
                     directory with mode 2770 for a group, or 1777 for everybody"
                }
                Some(libc::EACCES | libc::EPERM | libc::EROFS) if exclusive => {
                    "an exclusive lock needs write access: ask for it readonly or shared, or use a directory of leases"
                }
                Some(libc::ENOENT) => "create it, or name another one",
                _ => "",
            };
            Error::of_system(driver, operation, &what, error).on(resource).with_hint(hint)
        };
        let opened = if self.leases {
            self.open_lease(operation, resource, exclusive, wrong)?
        } else {
            flags(OpenOptions::new().write(exclusive)).open(&self.file).map_err(|error| wrong(&error))?
        };
        let metadata = opened.metadata().map_err(|error| wrong(&error))?;
        let kind = metadata.file_type();
        if !kind.is_file() && (self.leases || !kind.is_block_device()) {
            let reason = format!("{} is neither a file nor a block device", self.file.display());
            return Err(Error::new(Kind::Invalid, driver, operation, reason).on(resource));
        }
        if self.leases && metadata.nlink() > 1 {
            let reason = format!("{} has another name, too, and so is no lease", self.file.display());
            return Err(Error::new(Kind::Invalid, driver, operation, reason)
                .on(resource)
                .with_hint("see who has put it there, and remove it"));
        }
        Ok((opened.into(), Inode::of(&metadata)))
    }

    /// Opens a lease, and makes it if it is not there.
    fn open_lease(
        &self,
        operation: Operation,
        resource: &Resource,
        exclusive: bool,
        wrong: impl Fn(&io::Error) -> Error,
    ) -> Result<File, Error> {
        // Not made in passing: where everybody can write, the kernel may refuse that for
        // a file that is there already and another user's (`fs.protected_regular`).
        let open = |write| {
            flags(OpenOptions::new().write(write)).custom_flags(FLAGS | libc::O_NOFOLLOW).open(&self.file)
        };
        let opened = match open(true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.make_lease() {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open(true),
                made => made,
            },
            opened => opened,
        };
        let denied = match opened {
            Ok(file) => {
                // Without its right mode it is as good for us.
                let _ = self.let_others_in(&file);
                return Ok(file);
            }
            Err(error) => error,
        };
        if matches!(denied.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
            && let Ok(file) = open(false)
        {
            if !exclusive {
                return Ok(file);
            }
            if is_taken(&file, true, self.offset) {
                let inode = file.metadata().map_err(|error| wrong(&error))?;
                let file = OwnedFd::from(file);
                let found = holders::at(Inode::of(&inode), self.offset);
                let found = found.or_else(|| holders::recorded(&file, self));
                return Err(holders::refused(operation, resource, found));
            }
        }
        Err(wrong(&denied))
    }

    /// Makes the lease, as others find it: it has its name when it has its mode.
    fn make_lease(&self) -> io::Result<File> {
        let directory = self.file.parent().unwrap_or(Path::new("/"));
        let own = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        match rustix::fs::open(directory, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, own) {
            Ok(file) => {
                let file = File::from(file);
                self.let_others_in(&file)?;
                let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
                linkat(CWD, unnamed, CWD, &self.file, AtFlags::SYMLINK_FOLLOW)?;
                Ok(file)
            }
            // Not on every file system: then others may be refused at the moment between.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {
                let file =
                    flags(OpenOptions::new().write(true).create_new(true).mode(0o600)).open(&self.file)?;
                self.let_others_in(&file)?;
                Ok(file)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a lease the mode, and the group, that its directory says; if it is ours.
    fn let_others_in(&self, file: &File) -> io::Result<()> {
        let (metadata, directory) =
            (file.metadata()?, self.file.parent().unwrap_or(Path::new("/")).metadata()?);
        let user = rustix::process::geteuid();
        let is_ours = user.as_raw() == metadata.uid() || user.is_root();
        // What somebody has linked here is not to be opened for others.
        if !is_ours || !metadata.is_file() || metadata.nlink() > 1 {
            return Ok(());
        }
        let mode = if directory.mode() & 0o002 != 0 {
            0o666
        } else if directory.mode() & 0o020 == 0 {
            0o600
        } else if metadata.gid() == directory.gid()
            || std::os::unix::fs::fchown(file, None, Some(directory.gid())).is_ok()
        {
            0o660
        } else {
            // The group that it has is not the one that is meant.
            0o600
        };
        if metadata.mode() & 0o7777 == mode {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// Which file it is now, if there is one.
    pub(crate) fn inode(&self) -> Option<Inode> {
        std::fs::metadata(&self.file).ok().map(|metadata| Inode::of(&metadata))
    }
}
