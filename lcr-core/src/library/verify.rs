//! What is verified is what is loaded.
//!
//! A path says nothing: between looking at it and opening it anyone who may write
//! the directory can put another file there. So the file is opened once, its
//! descriptor is checked against the [`Policy`], and the bytes that it reads are
//! copied into memory that nobody can change any more (a sealed memfd). Metadata is
//! read from that copy, a signature is checked over it, and it is what the dynamic
//! linker maps. Replacing the file, or overwriting it in place, can neither change
//! what was verified nor crash a process that has it mapped.
//!
//! Where memfds cannot be executed (`vm.memfd_noexec`, a security module, an old
//! kernel) or `LCR_NO_MEMFD=1` says so, the copy is a nameless file in the first of
//! `LCR_RUNTIME_DIR`, `XDG_RUNTIME_DIR`, the temporary directory and `/var/tmp`
//! whose file system allows execution. It is as unique and as private, but not
//! sealed: the process's own user could write it, who could also trace the process.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, SealFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use super::elf::Dynamic;
use super::error::LoadError;
use super::policy::{Policy, parent};

/// A file that was verified and copied, and can be loaded.
#[derive(Debug)]
pub struct Candidate {
    pub(super) path: PathBuf,
    pub(super) copy: File,
    pub(super) dynamic: Dynamic,
    /// The verified file itself, where the policy lets its path be loaded.
    pub(super) original: Option<File>,
    stamp: Stamp,
}

/// Which file it was, as of the moment it was read: what an index compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// The size in bytes.
    pub size: u64,
    /// The time of the last modification: seconds, nanoseconds.
    pub modified: (i64, i64),
    /// The time of the last change of the inode: seconds, nanoseconds.
    pub changed: (i64, i64),
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        // The fields' types differ between targets.
        #[allow(clippy::unnecessary_cast)]
        Stamp {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

impl From<&fs::Metadata> for Stamp {
    fn from(status: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Stamp {
            device: status.dev(),
            inode: status.ino(),
            size: status.size(),
            modified: (status.mtime(), status.mtime_nsec()),
            changed: (status.ctime(), status.ctime_nsec()),
        }
    }
}

/// How often a file that changes while it is read is read again.
const TRIES: u32 = 5;

impl Candidate {
    /// Opens, verifies and copies the library at `path`. Nothing of it runs.
    ///
    /// # Errors
    ///
    /// [`LoadError`], with the command that cures it where there is one.
    pub fn open(path: impl AsRef<Path>, policy: &Policy) -> Result<Candidate, LoadError> {
        let path = path.as_ref();
        if super::is_static() {
            return Err(LoadError::Static { path: path.into() });
        }
        let file = open_verified(path, policy)?;
        let (copy, stamp) = copy_of(&file, path, policy)?;
        let dynamic = Dynamic::read(&copy).map_err(|found| LoadError::NotElf { path: path.into(), found })?;
        let by_path = dynamic.origin.is_some();
        if let Some(runpath) = &dynamic.origin
            && !policy.allows_path()
        {
            return Err(LoadError::Origin { path: path.into(), runpath: runpath.clone() });
        }
        Ok(Candidate { path: path.into(), copy, dynamic, original: by_path.then_some(file), stamp })
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The verified copy: read metadata from here, never from the path.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.copy
    }

    /// Which file the copy was made from.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }
}

fn open_verified(path: &Path, policy: &Policy) -> Result<File, LoadError> {
    let cannot = |error: io::Error| LoadError::Open { path: path.into(), source: error };
    let named_in = parent(path);
    let mut tries = 0;
    loop {
        tries += 1;
        let real = fs::canonicalize(path).map_err(cannot)?;
        let directory = parent(&real);
        let opened = open_directory(&directory).map_err(|error| cannot(error.into()))?;
        policy.check_directory(&directory, &stat(&opened).map_err(cannot)?, has_acl(opened.as_fd()))?;
        if fs::canonicalize(&named_in).is_ok_and(|named| named != directory) {
            let opened = open_directory(&named_in).map_err(|error| cannot(error.into()))?;
            policy.check_directory(&named_in, &stat(&opened).map_err(cannot)?, has_acl(opened.as_fd()))?;
        }
        let Some(name) = real.file_name() else {
            return Err(LoadError::NotRegular { path: path.into(), found: "a directory" });
        };
        // NONBLOCK, for a pipe would wait for its writer; NOFOLLOW, for the links were
        // followed above, and this directory is the one that was checked.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::openat(&opened, name, flags, Mode::empty()) {
            Ok(file) => file,
            // The path has just been pointed elsewhere: look again.
            Err(Errno::LOOP | Errno::NOENT) if tries < TRIES => continue,
            Err(error) => return Err(cannot(error.into())),
        };
        let facts = stat(&file).map_err(cannot)?;
        let found = match FileType::from_raw_mode(facts.st_mode) {
            FileType::RegularFile => None,
            FileType::Directory => Some("a directory"),
            FileType::Fifo => Some("a pipe"),
            FileType::Socket => Some("a socket"),
            _ => Some("a device"),
        };
        if let Some(found) = found {
            return Err(LoadError::NotRegular { path: path.into(), found });
        }
        policy.check_file(path, &facts, has_acl(file.as_fd()))?;
        return Ok(File::from(file));
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn stat(fd: &OwnedFd) -> io::Result<Stat> {
    Ok(rustix::fs::fstat(fd)?)
}

/// Whether an access control list stands behind the mode's group bits.
fn has_acl(fd: BorrowedFd<'_>) -> bool {
    // By way of /proc, which works for a descriptor that cannot read, too.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut nothing = [0_u8; 0];
    rustix::fs::getxattr(path, c"system.posix_acl_access", &mut nothing).is_ok_and(|length| length > 0)
}

/// The private copy of an opened file, and which state of the file it is.
fn copy_of(file: &File, path: &Path, policy: &Policy) -> Result<(File, Stamp), LoadError> {
    let failed =
        |what: &str, source: io::Error| LoadError::Copy { path: path.into(), what: what.into(), source };
    let look = || {
        let facts = rustix::fs::fstat(file).map_err(|error| failed("fstat", error.into()))?;
        policy.check_file(path, &facts, has_acl(file.as_fd()))?;
        Ok(Stamp::of(&facts))
    };
    for _ in 0..TRIES {
        let before = look()?;
        if before.size > policy.largest() {
            return Err(LoadError::TooLarge {
                path: path.into(),
                found: before.size,
                wanted: policy.largest(),
            });
        }
        let (mut copy, sealed) = empty_copy().map_err(|(what, error)| failed(&what, error))?;
        let mut from = file;
        from.rewind().map_err(|error| failed("rewind", error))?;
        let length =
            io::copy(&mut from.take(before.size), &mut copy).map_err(|error| failed("copy", error))?;
        // A writer that comes in between is seen by the times; a file shorter than it said
        // was being truncated.
        if look()? != before || length != before.size {
            continue;
        }
        let copy = if sealed {
            let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
            seal(&copy, seals).map_err(|error| failed("seal", error.into()))?;
            copy
        } else {
            reopen(&copy).map_err(|error| failed("reopen", error))?
        };
        return Ok((copy, before));
    }
    Err(LoadError::Changing { path: path.into(), tries: TRIES })
}

/// Seals a copy. The kernel refuses while a page of it is still being written back
/// or looked at, which passes.
fn seal(copy: &File, seals: SealFlags) -> Result<(), Errno> {
    const TRIES: u32 = 20;
    for _ in 1..TRIES {
        match rustix::fs::fcntl_add_seals(copy, seals) {
            Err(Errno::BUSY) => std::thread::sleep(std::time::Duration::from_millis(5)),
            answer => return answer,
        }
    }
    rustix::fs::fcntl_add_seals(copy, seals)
}

/// An empty file to copy into, and whether it can be sealed.
fn empty_copy() -> Result<(File, bool), (String, io::Error)> {
    let refused = if std::env::var_os("LCR_NO_MEMFD").is_some_and(|value| value == "1") {
        "LCR_NO_MEMFD is set".to_owned()
    } else {
        match memfd() {
            Ok(file) => return Ok((file, true)),
            Err(error) => format!("memfd: {error}"),
        }
    };
    match nameless_file() {
        Ok(file) => Ok((file, false)),
        Err((tried, error)) => Err((format!("{refused}; a file in {tried}"), error)),
    }
}

fn memfd() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create("lcr", flags | MemfdFlags::EXEC) {
        // Kernels before 6.3 do not know EXEC: there every memfd can be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create("lcr", flags)?,
        other => other?,
    };
    executable(&file)?;
    Ok(File::from(file))
}

/// Whether the system lets pages of this file be executed.
fn executable(file: impl AsFd) -> io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    // Not rustix's: under valgrind it looks at a vDSO that is not there.
    // SAFETY: answers a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    // SAFETY: a new mapping, where the kernel likes, that nobody looks into.
    unsafe {
        let at =
            mmap(std::ptr::null_mut(), page, ProtFlags::READ | ProtFlags::EXEC, MapFlags::PRIVATE, file, 0)?;
        munmap(at, page)?;
    }
    Ok(())
}

/// A file without a name, where programs may be executed.
fn nameless_file() -> Result<File, (String, io::Error)> {
    let from_environment = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let directories = [
        from_environment("LCR_RUNTIME_DIR").map(PathBuf::from),
        from_environment("XDG_RUNTIME_DIR").map(PathBuf::from),
        Some(std::env::temp_dir()),
        Some(PathBuf::from("/var/tmp")),
    ];
    let mut tried = Vec::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for directory in directories.into_iter().flatten() {
        match nameless_file_in(&directory) {
            Ok(file) => return Ok(file),
            Err(error) => last = error,
        }
        tried.push(directory.display().to_string());
    }
    Err((tried.join(", "), last))
}

fn nameless_file_in(directory: &Path) -> io::Result<File> {
    if rustix::fs::statvfs(directory)?.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "mounted noexec"));
    }
    let mode = Mode::RUSR | Mode::XUSR;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
    let file = match rustix::fs::open(directory, flags, mode) {
        Ok(file) => File::from(file),
        // This file system wants a name: one in a directory of our own, gone at once.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => named_for_a_moment(directory)?,
        Err(error) => return Err(error.into()),
    };
    executable(&file)?;
    Ok(file)
}

fn named_for_a_moment(directory: &Path) -> io::Result<File> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let own = directory.join(format!("lcr-{}-{number}", std::process::id()));
        match rustix::fs::mkdir(&own, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => continue,
            Err(error) => return Err(error.into()),
        }
        let path = own.join("library");
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o500).open(&path);
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir(&own);
        return file;
    }
}

/// The same file for reading alone; the descriptor that could write is closed.
fn reopen(file: &File) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Reads exactly `length` bytes at `offset`.
pub(super) fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
