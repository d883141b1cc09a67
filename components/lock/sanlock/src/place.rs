//! Which lease stands for a resource, and making those that are missing.
//!
//! A disk's lease is named after its path: MD5 of it, in hexadecimal, in a file of that
//! name in the directory of leases. These are the names that libvirt's sanlock plugin
//! uses, so its guests and ours keep out of each other's way on shared storage. MD5 is a
//! name here, and no protection.
//!
//! A lease is written under another name and then linked to its own: nobody ever sees one
//! that is half made, and of two hosts that make it at once one wins.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use lcr_lock::{Error, Kind, Mode, Operation, Resource};
use md5::{Digest as _, Md5};

use crate::NAME;
use crate::client::{Client, Lease, Lockspace};
use crate::code;
use crate::process;
use crate::sys;

/// The name of something: of a disk's lease.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lease of a resource; none if it has none, and is not to have one.
pub(crate) fn lease_of(
    operation: Operation,
    resource: &Resource,
    directory: Option<&Path>,
    lockspace: &str,
    ignore_disks: bool,
) -> Result<Option<Lease>, Error> {
    let invalid = |reason: String| Error::new(Kind::Invalid, NAME, operation, reason).on(resource);
    let shared = resource.mode() != Mode::Exclusive;
    match resource {
        Resource::Disk(_) if ignore_disks => Ok(None),
        Resource::Disk(disk) => {
            let Some(directory) = directory else {
                return Err(Error::new(
                    Kind::Unsupported,
                    NAME,
                    operation,
                    "there is no directory for the leases of disks",
                )
                .on(resource)
                .with_hint(
                    "give the driver the parameters `directory` and `host_id`; or add leases, with the parameter `disks` \
                     set to `ignore`",
                ));
            };
            let path = real(&disk.path, operation).map_err(|error| {
                Error::of_system(NAME, operation, "the disk cannot be found", &error)
                    .on(resource)
                    .with_hint("create it, or name another one")
            })?;
            let name = hash(path.as_os_str().as_bytes());
            let path = directory.join(&name);
            Ok(Some(Lease { lockspace: lockspace.to_owned(), name, path, offset: 0, shared }))
        }
        Resource::Lease(lease) => {
            let lockspace = if lease.lockspace.is_empty() { lockspace } else { &lease.lockspace };
            for (what, name) in [("lease", lease.name.as_str()), ("lockspace", lockspace)] {
                if name.is_empty() || name.len() > sys::NAME_LENGTH || name.contains([':', ' ', '\\', '\0']) {
                    return Err(invalid(format!(
                        "`{name}` cannot be the name of a {what}: sanlock wants 1 to {} bytes, and no colon, blank or \
                         backslash",
                        sys::NAME_LENGTH
                    )));
                }
            }
            Ok(Some(Lease {
                lockspace: lockspace.to_owned(),
                name: lease.name.clone(),
                path: lease.path.clone(),
                offset: lease.offset,
                shared,
            }))
        }
    }
    .and_then(|lease| match lease {
        Some(lease) if lease.path.as_os_str().len() >= sys::PATH_LENGTH => {
            Err(invalid(format!("sanlock takes paths of up to {} bytes", sys::PATH_LENGTH - 1)))
        }
        lease => Ok(lease),
    })
}

/// The one name of a disk: two names of one disk are one. Of a disk that is not there any
/// more a lease can still be given up.
fn real(path: &Path, operation: Operation) -> io::Result<PathBuf> {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name))
            if error.kind() == io::ErrorKind::NotFound
                && !matches!(operation, Operation::Add | Operation::Acquire | Operation::Plug) =>
        {
            Ok(fs::canonicalize(parent)?.join(name))
        }
        (found, _, _) => found,
    }
}

/// What went wrong when something was made.
pub(crate) enum Failure {
    System(String, io::Error),
    Daemon(String, i32),
}

impl Failure {
    pub(crate) fn error(self, client: &Client, operation: Operation) -> Error {
        match self {
            Failure::System(what, error) => Error::of_system(NAME, operation, &what, &error),
            Failure::Daemon(_, number) if client.is_unreachable(number) => unreachable(operation, number),
            Failure::Daemon(what, number) => code::error(operation, &what, number),
        }
    }
}

/// Nobody listens.
pub(crate) fn unreachable(operation: Operation, number: i32) -> Error {
    Error { kind: Kind::Unreachable, ..code::error(operation, "the daemon sanlock cannot be reached", number) }
        .with_hint(
            "start it (`systemctl start sanlock`), or be root or in the group sanlock; a guest whose daemon has died is \
             not protected any more, and is killed by nobody: stop it",
        )
}

/// A file under a name of its own, removed unless it gets its real one.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes a file, if it is not there, and has `init` write it.
fn make(
    client: &Client,
    path: &Path,
    what: &str,
    init: impl FnOnce(&Path) -> Result<(), i32>,
) -> Result<(), Failure> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if path.exists() {
        return Ok(());
    }
    let system = |error| Failure::System(format!("{what} {} cannot be made", path.display()), error);
    let daemon = |number| Failure::Daemon(format!("{what} {} cannot be made", path.display()), number);
    let directory = path.parent().unwrap_or(Path::new("/"));
    let host = process::host().unwrap_or_default();
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let unfinished = Unfinished(directory.join(format!(".new-{host}-{}-{number}", std::process::id())));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o660)
        .open(&unfinished.0)
        .map_err(system)?;
    let_the_daemon_in(&file, directory);
    let size = client.align(&unfinished.0).map_err(daemon)?;
    file.set_len(size).map_err(system)?;
    init(&unfinished.0).map_err(daemon)?;
    match fs::hard_link(&unfinished.0, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(system(error)),
        _ => Ok(()),
    }
}

/// The daemon may be another user: what is made belongs to the directory's group.
fn let_the_daemon_in(file: &File, directory: &Path) {
    if let Ok(metadata) = fs::metadata(directory) {
        // Who may not do that is in that group, or the daemon will say that it may not.
        let _ = std::os::unix::fs::fchown(file, None, Some(metadata.gid()));
        let _ = file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o660));
    }
}

/// Makes a disk's lease. Only called for those in our directory.
pub(crate) fn make_lease(client: &Client, lease: &Lease) -> Result<(), Failure> {
    make(client, &lease.path, "the lease", |path| {
        client.init_lease(&Lease { path: path.to_owned(), ..lease.clone() })
    })
}

/// Makes the lockspace.
pub(crate) fn make_lockspace(client: &Client, of: &Lockspace, io_timeout: u32) -> Result<(), Failure> {
    make(client, &of.path, "the lockspace", |path| {
        client.init_lockspace(&Lockspace { path: path.to_owned(), host_id: 0, ..of.clone() }, io_timeout)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lcr_lock::Lease as Explicit;

    #[test]
    fn a_disks_lease_has_the_name_that_libvirt_gives_it() {
        assert_eq!(hash(b"/var/lib/libvirt/images/a.img"), "e2a4e6d938f557685858b0e989617815");
    }

    #[test]
    fn names_that_sanlock_cannot_have_are_refused() {
        for name in ["", "a:b", "a b", &"x".repeat(49)] {
            let lease = Resource::Lease(Explicit {
                name: name.to_owned(),
                lockspace: "LS".into(),
                path: "/srv/l".into(),
                offset: 0,
                mode: Mode::Exclusive,
            });
            let error = lease_of(Operation::Add, &lease, None, "LS", false).unwrap_err();
            assert_eq!(error.kind, Kind::Invalid, "{error}");
        }
        let disk = Resource::disk("/dev/null", Mode::Exclusive);
        let error = lease_of(Operation::Add, &disk, None, "LS", false).unwrap_err();
        assert_eq!(error.kind, Kind::Unsupported, "{error}");
        assert_eq!(lease_of(Operation::Add, &disk, None, "LS", true), Ok(None));
    }
}
