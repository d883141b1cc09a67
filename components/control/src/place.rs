//! Where control sockets are: `<directory>/<pid>.sock`.
//!
//! The directory is `LCR_RUNTIME_DIR`; else `$XDG_RUNTIME_DIR/lcr`; else `/run/lcr`
//! for root; else `/tmp/lcr-<uid>`, which must be this user's and nobody else's.
//! Whoever looks for programs looks into all of these, because not every program
//! was started with the environment of a session: [`sockets`]. With
//! `LCR_RUNTIME_DIR` set, that one alone counts.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, fchmod, fstat, openat, renameat, statat, unlinkat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::geteuid;

/// A control socket, found by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The process that it is named after.
    pub pid: u32,
    /// The socket.
    pub path: PathBuf,
}

/// The directory that a program of this environment has its socket in.
#[must_use]
pub fn directory() -> PathBuf {
    let uid = geteuid().as_raw();
    named().or_else(session).unwrap_or_else(|| {
        if uid == 0 { PathBuf::from("/run/lcr") } else { PathBuf::from(format!("/tmp/lcr-{uid}")) }
    })
}

fn named() -> Option<PathBuf> {
    std::env::var_os("LCR_RUNTIME_DIR").filter(|d| !d.is_empty()).map(|d| {
        let path = PathBuf::from(d);
        std::path::absolute(&path).unwrap_or(path)
    })
}

fn session() -> Option<PathBuf> {
    let directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
    // Its specification says that a relative one is to be ignored.
    directory.is_absolute().then(|| directory.join("lcr"))
}

/// All directories that a program which this user may ask can have its socket in.
#[must_use]
pub fn directories() -> Vec<PathBuf> {
    if let Some(named) = named() {
        return vec![named];
    }
    let uid = geteuid().as_raw();
    let mut all: Vec<PathBuf> = session().into_iter().collect();
    if uid == 0 {
        all.push("/run/lcr".into());
        let list = |directory: &str| std::fs::read_dir(directory).into_iter().flatten().flatten();
        all.extend(list("/run/user").map(|user| user.path().join("lcr")));
        let is_ours = |name: OsString| name.to_string_lossy().starts_with("lcr-");
        all.extend(list("/tmp").filter(|e| is_ours(e.file_name())).map(|e| e.path()));
    } else {
        all.push(format!("/run/user/{uid}/lcr").into());
        all.push(format!("/tmp/lcr-{uid}").into());
    }
    let mut seen = Vec::new();
    all.retain(|path| {
        !seen.contains(path) && {
            seen.push(path.clone());
            true
        }
    });
    all
}

/// The sockets in [`directories`], by process. Whether anybody answers is another
/// question.
#[must_use]
pub fn sockets() -> Vec<Found> {
    let mut all = Vec::new();
    for directory in directories() {
        let Ok(opened) = open(&directory) else { continue };
        // What somebody else could put there is not to be believed.
        if is_safe(&opened, true).is_err() {
            continue;
        }
        for (pid, name) in names(&opened) {
            all.push(Found { pid, path: directory.join(name) });
        }
    }
    all.sort();
    all
}

fn open(directory: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn names(directory: &OwnedFd) -> Vec<(u32, String)> {
    let Ok(entries) = Dir::read_from(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    names.filter_map(|name| Some((name.strip_suffix(".sock")?.parse().ok()?, name))).collect()
}

/// Whether nobody but its owner can write there, and the owner may be trusted:
/// this user, root, or (for root, who only looks) anybody.
fn is_safe(directory: &OwnedFd, looking: bool) -> Result<(), String> {
    let status = fstat(directory).map_err(|error| error.to_string())?;
    let uid = geteuid().as_raw();
    if status.st_uid != uid && status.st_uid != 0 && !(looking && uid == 0) {
        return Err(format!("it belongs to user {}, and this is user {uid}", status.st_uid));
    }
    if status.st_mode & 0o022 != 0 {
        let mode = status.st_mode & 0o7777;
        return Err(format!("its mode is {mode:04o}, and others can write there: chmod 0700"));
    }
    Ok(())
}

/// A directory that was made, or found and checked, and is held open.
#[derive(Debug)]
pub struct Place {
    opened: OwnedFd,
}

impl Place {
    /// Makes it, or checks that it is safe: nobody but this user and root can write there.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to be said after its path.
    pub fn make(path: &Path) -> Result<Place, String> {
        // In a directory that everybody can write to, a link could be anybody's.
        let is_shared = path.starts_with("/tmp");
        let failed = |what: &'static str| {
            move |error: io::Error| match std::fs::read_link(path) {
                Ok(target) if is_shared => format!(
                    "it is a symbolic link to {}, and none is followed below /tmp, where anybody could have made it; \
                     name the directory itself",
                    target.display()
                ),
                Ok(target) => format!("it is a symbolic link to {}, and {what}: {error}", target.display()),
                Err(_) => format!("{what}: {error}"),
            }
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(failed("it cannot be made"))?;
        let link = if is_shared { OFlags::NOFOLLOW } else { OFlags::empty() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | link;
        let opened = openat(CWD, path, flags, Mode::empty());
        let opened = opened.map_err(|errno| failed("it cannot be opened")(errno.into()))?;
        is_safe(&opened, false)?;
        Ok(Place { opened })
    }

    /// Its descriptor.
    #[must_use]
    pub fn opened(&self) -> &OwnedFd {
        &self.opened
    }

    /// A name in it that is short enough for a socket's address, for as long as
    /// `self` lives.
    #[must_use]
    pub fn short(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.opened.as_fd().as_raw_fd()).into()
    }

    /// The device and inode of a file in it.
    #[must_use]
    pub fn identity(&self, name: &str) -> Option<(u64, u64)> {
        let status = statat(&self.opened, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((status.st_dev, status.st_ino))
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) {
        let _ = unlinkat(&self.opened, name, AtFlags::empty());
    }

    /// A socket for this user alone that appears under its name when it listens already,
    /// so that nobody who sweeps takes it for a dead one.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn listen(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // The file gets what the socket has: there is no moment with another mode.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        let before = format!(".{name}");
        self.remove(&before);
        bind(&socket, &SocketAddrUnix::new(self.short(&before))?)?;
        let listening =
            listen(&socket, 1024).and_then(|()| renameat(self.opened(), &before, self.opened(), name));
        if let Err(error) = listening {
            self.remove(&before);
            return Err(error.into());
        }
        Ok(socket)
    }

    /// Whether nobody listens on that socket any more.
    #[must_use]
    pub fn is_stale(&self, name: &str) -> bool {
        // A name appears only when its owner listens: no race with one that starts.
        let refused = UnixStream::connect(self.short(name)).err();
        refused.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// Removes the sockets of processes that died.
    pub(crate) fn sweep(&self) {
        for (_, name) in names(&self.opened) {
            if self.is_stale(&name) {
                self.remove(&name);
            }
        }
    }
}

/// Connects to a socket, however long its path is.
///
/// # Errors
///
/// The system's.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if path.as_os_str().len() > 100 => {
            let place = open(parent)?;
            let mut short = OsString::from(format!("/proc/self/fd/{}/", place.as_raw_fd()));
            short.push(name);
            UnixStream::connect(PathBuf::from(short))
        }
        _ => UnixStream::connect(path),
    }
}
