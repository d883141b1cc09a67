//! The client library, opened at run time: each of its calls as a safe method.
//!
//! Linked, it would have to be there to build the workspace and to start a program that
//! never asks for `lock.sanlock`. Every call but those on a registration opens a
//! connection of its own and waits for the daemon's answer; calls of different threads
//! do not get in each other's way.
//!
//! A method's error is the daemon's number, which [`code`](crate::code) explains.

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::{mem, ptr, slice};

use libloading::Library;

use crate::code::{EACCES, ECONNREFUSED, ENOENT, EPERM};
use crate::sys;

/// The library's usual name.
pub(crate) const USUAL: &str = "libsanlock_client.so.1";

/// The opened library.
#[derive(Debug)]
pub(crate) struct Client {
    register: sys::Register,
    restrict: sys::Restrict,
    killpath: Option<sys::Killpath>,
    acquire: sys::Acquire,
    release: sys::Release,
    inquire: sys::Inquire,
    add_lockspace: sys::AddLockspace,
    add_lockspace_timeout: Option<sys::AddLockspaceTimeout>,
    inq_lockspace: sys::AddLockspace,
    get_lockspaces: Option<sys::GetLockspaces>,
    init: sys::Init,
    write_lockspace: Option<sys::WriteLockspace>,
    align: sys::Align,
    read_owners: Option<sys::ReadOwners>,
    version: Option<sys::Version>,
    /// Last: what is above points into it.
    _library: Library,
}

/// Where a lease is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) lockspace: String,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) shared: bool,
}

/// A lockspace, and who this host is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lockspace {
    pub(crate) name: String,
    pub(crate) host_id: u64,
    pub(crate) path: PathBuf,
}

fn name_of(text: &str) -> [u8; sys::NAME_LENGTH] {
    let mut name = [0; sys::NAME_LENGTH];
    // Longer ones were refused where they came from.
    let length = text.len().min(sys::NAME_LENGTH);
    name[..length].copy_from_slice(&text.as_bytes()[..length]);
    name
}

fn text_of(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn disk(path: &Path, offset: u64) -> sys::Disk {
    let mut bytes = [0; sys::PATH_LENGTH];
    let path = path.as_os_str().as_bytes();
    let length = path.len().min(sys::PATH_LENGTH - 1);
    bytes[..length].copy_from_slice(&path[..length]);
    sys::Disk { path: bytes, offset, pad: [0; 2] }
}

fn resource(lease: &Lease) -> sys::Resource {
    sys::Resource {
        lockspace_name: name_of(&lease.lockspace),
        name: name_of(&lease.name),
        lver: 0,
        data64: 0,
        data32: 0,
        unused: 0,
        flags: if lease.shared { sys::RESOURCE_SHARED } else { 0 },
        num_disks: 1,
        disks: [disk(&lease.path, lease.offset)],
    }
}

fn lockspace(of: &Lockspace) -> sys::Lockspace {
    sys::Lockspace { name: name_of(&of.name), host_id: of.host_id, flags: 0, host_id_disk: disk(&of.path, 0) }
}

fn answer(number: c_int) -> Result<c_int, i32> {
    if number < 0 { Err(number) } else { Ok(number) }
}

fn number(pid: u32) -> c_int {
    pid.cast_signed()
}

impl Client {
    /// Opens the library.
    ///
    /// # Errors
    ///
    /// It is not there, or older than 1.8: what to do stands in the text.
    pub(crate) fn open(path: &OsStr) -> Result<Client, String> {
        let shown = path.display();
        // SAFETY: what it runs when it is opened is the trust that is put into a system's
        // library; this one runs nothing.
        let library = unsafe { Library::new(path) }.map_err(|error| {
            format!(
                "the client library of sanlock cannot be opened: {error}; install it (Debian: libsanlock-client1, \
                 Fedora: sanlock-lib), version 1.8 or later"
            )
        })?;
        macro_rules! optional {
            ($name:literal as $kind:ty) => {
                // SAFETY: the header declares it with this type, and it is kept beside the
                // library.
                unsafe { library.get::<$kind>($name) }.ok().map(|symbol| *symbol)
            };
        }
        macro_rules! wanted {
            ($name:literal as $kind:ty) => {
                optional!($name as $kind).ok_or_else(|| {
                    let name = $name.escape_ascii();
                    format!(
                        "the client library of sanlock, {shown}, has no {name}: it is older than 1.8; install 1.8 or later"
                    )
                })?
            };
        }
        Ok(Client {
            // These two first: they tell an old library from something else.
            init: wanted!(b"sanlock_init" as sys::Init),
            align: wanted!(b"sanlock_align" as sys::Align),
            register: wanted!(b"sanlock_register" as sys::Register),
            restrict: wanted!(b"sanlock_restrict" as sys::Restrict),
            killpath: optional!(b"sanlock_killpath" as sys::Killpath),
            acquire: wanted!(b"sanlock_acquire" as sys::Acquire),
            release: wanted!(b"sanlock_release" as sys::Release),
            inquire: wanted!(b"sanlock_inquire" as sys::Inquire),
            add_lockspace: wanted!(b"sanlock_add_lockspace" as sys::AddLockspace),
            add_lockspace_timeout: optional!(b"sanlock_add_lockspace_timeout" as sys::AddLockspaceTimeout),
            inq_lockspace: wanted!(b"sanlock_inq_lockspace" as sys::AddLockspace),
            get_lockspaces: optional!(b"sanlock_get_lockspaces" as sys::GetLockspaces),
            write_lockspace: optional!(b"sanlock_write_lockspace" as sys::WriteLockspace),
            read_owners: optional!(b"sanlock_read_resource_owners" as sys::ReadOwners),
            version: optional!(b"sanlock_version" as sys::Version),
            _library: library,
        })
    }

    /// Whether an answer means that there is no daemon: a missing socket and a missing
    /// lease have the same number.
    pub(crate) fn is_unreachable(&self, number: i32) -> bool {
        let Some(version) = self.version else { return number == ECONNREFUSED };
        if ![ENOENT, EPERM, ECONNREFUSED, EACCES, -32, -104, -107].contains(&number) {
            return false;
        }
        let (mut found, mut protocol) = (0, 0);
        // SAFETY: both places are this function's.
        let answer = unsafe { version(0, &raw mut found, &raw mut protocol) };
        answer < 0
    }

    /// Makes this process known to the daemon, for as long as the answer or a copy of it
    /// is open in any process.
    pub(crate) fn register(&self) -> Result<OwnedFd, i32> {
        // SAFETY: no arguments.
        let socket = answer(unsafe { (self.register)() })?;
        // SAFETY: it was just opened for us.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // Other programs that this process starts shall not have it.
        let _ = rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC);
        Ok(socket)
    }

    /// The registered process can itself neither acquire nor release from here on.
    pub(crate) fn restrict(&self, registration: BorrowedFd<'_>) -> Result<(), i32> {
        // SAFETY: the socket is open.
        answer(unsafe { (self.restrict)(registration.as_raw_fd(), sys::RESTRICT_ALL) }).map(drop)
    }

    /// Has the daemon run a program when a lockspace of the registered process fails.
    /// None if the library has no such call.
    pub(crate) fn killpath(
        &self,
        registration: BorrowedFd<'_>,
        with_pid: bool,
        path: &CStr,
        arguments: &CStr,
    ) -> Option<Result<(), i32>> {
        let killpath = self.killpath?;
        let mut arguments = arguments.to_bytes_with_nul().to_vec();
        let flags = if with_pid { sys::KILLPATH_PID } else { 0 };
        // SAFETY: the socket is open, both texts end with a zero, and are shorter than the
        // library's limit, which the caller has seen to; the second is writable.
        let number = unsafe {
            killpath(registration.as_raw_fd(), flags, path.as_ptr(), arguments.as_mut_ptr().cast::<c_char>())
        };
        Some(answer(number).map(drop))
    }

    /// Takes a lease for a registered process, or refuses at once.
    pub(crate) fn acquire(&self, pid: u32, lease: &Lease, owner: &str) -> Result<(), i32> {
        let mut resource = resource(lease);
        let mut list = [&raw mut resource];
        let mut options = sys::Options { owner_name: name_of(owner), flags: 0, len: 0 };
        // SAFETY: one resource with one disk behind it, as it says itself.
        let number = unsafe {
            (self.acquire)(-1, number(pid), sys::ACQUIRE_OWNER_NOWAIT, 1, list.as_mut_ptr(), &raw mut options)
        };
        answer(number).map(drop)
    }

    /// Gives up a lease of a registered process.
    pub(crate) fn release(&self, pid: u32, lease: &Lease) -> Result<(), i32> {
        let mut resource = resource(lease);
        let mut list = [&raw mut resource];
        // SAFETY: as at `acquire`.
        answer(unsafe { (self.release)(-1, number(pid), 0, 1, list.as_mut_ptr()) }).map(drop)
    }

    /// What a registered process has.
    pub(crate) fn inquire(&self, pid: u32) -> Result<Vec<Lease>, i32> {
        let mut count = 0;
        let mut state: *mut c_char = ptr::null_mut();
        // SAFETY: both places are this function's.
        answer(unsafe { (self.inquire)(-1, number(pid), 0, &raw mut count, &raw mut state) })?;
        if state.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: the library has allocated a text that ends with a zero.
        let text = unsafe { CStr::from_ptr(state) }.to_bytes().to_vec();
        // SAFETY: with malloc, and for us.
        unsafe { libc::free(state.cast()) };
        Ok(leases_of(&text))
    }

    /// Joins a lockspace. Takes as long as it takes to be sure that nobody else has the
    /// host id.
    pub(crate) fn add_lockspace(&self, of: &Lockspace, io_timeout: u32) -> Result<(), i32> {
        let mut lockspace = lockspace(of);
        let number = match self.add_lockspace_timeout {
            // SAFETY: the place is this function's.
            Some(add) => unsafe { add(&raw mut lockspace, 0, io_timeout) },
            // SAFETY: as above.
            None => unsafe { (self.add_lockspace)(&raw mut lockspace, 0) },
        };
        answer(number).map(drop)
    }

    /// Waits until the lockspace that is being added was added.
    pub(crate) fn await_lockspace(&self, of: &Lockspace) -> Result<(), i32> {
        let mut lockspace = lockspace(of);
        // SAFETY: the place is this function's.
        answer(unsafe { (self.inq_lockspace)(&raw mut lockspace, sys::INQUIRE_WAIT) }).map(drop)
    }

    /// The lockspaces that this host has joined.
    pub(crate) fn lockspaces(&self) -> Result<Vec<Lockspace>, i32> {
        let Some(get) = self.get_lockspaces else { return Ok(Vec::new()) };
        let (mut all, mut count): (*mut sys::Lockspace, c_int) = (ptr::null_mut(), 0);
        // SAFETY: both places are this function's.
        answer(unsafe { get(&raw mut all, &raw mut count, 0) })?;
        // SAFETY: the library has allocated so many.
        Ok(unsafe { taken(all, count) }
            .iter()
            .map(|lockspace| Lockspace {
                name: String::from_utf8_lossy(text_of(&lockspace.name)).into_owned(),
                host_id: lockspace.host_id,
                path: OsStr::from_bytes(text_of(&lockspace.host_id_disk.path)).into(),
            })
            .collect())
    }

    /// The host ids of those that have a lease. None if the library cannot tell.
    pub(crate) fn owners(&self, lease: &Lease) -> Option<Result<Vec<u64>, i32>> {
        let read = self.read_owners?;
        let mut resource = resource(lease);
        let (mut hosts, mut count): (*mut sys::Host, c_int) = (ptr::null_mut(), 0);
        // SAFETY: the places are this function's, and the resource has its one disk.
        let number = unsafe { read(&raw mut resource, 0, &raw mut hosts, &raw mut count) };
        Some(answer(number).map(|_| {
            // SAFETY: the library has allocated so many.
            unsafe { taken(hosts, count) }.iter().map(|host| host.host_id).collect()
        }))
    }

    /// How many bytes a lockspace or a lease takes there.
    pub(crate) fn align(&self, path: &Path) -> Result<u64, i32> {
        let mut disk = disk(path, 0);
        // SAFETY: the place is this function's.
        answer(unsafe { (self.align)(&raw mut disk) }).map(|size| u64::from(size.unsigned_abs()))
    }

    /// Writes a lockspace in which nobody is.
    pub(crate) fn init_lockspace(&self, of: &Lockspace, io_timeout: u32) -> Result<(), i32> {
        let mut lockspace = lockspace(of);
        let number = match self.write_lockspace {
            // SAFETY: the place is this function's.
            Some(write) if io_timeout != 0 => unsafe { write(&raw mut lockspace, 0, 0, io_timeout) },
            // SAFETY: as above; exactly one of the two is given.
            _ => unsafe { (self.init)(&raw mut lockspace, ptr::null_mut(), 0, 0) },
        };
        answer(number).map(drop)
    }

    /// Writes a lease that nobody has.
    pub(crate) fn init_lease(&self, lease: &Lease) -> Result<(), i32> {
        let mut resource = resource(&Lease { shared: false, ..lease.clone() });
        // SAFETY: exactly one of the two is given, with its one disk.
        answer(unsafe { (self.init)(ptr::null_mut(), &raw mut resource, 0, 0) }).map(drop)
    }
}

/// Copies what the library has allocated, and frees it.
///
/// # Safety
///
/// `all` must be null or have been allocated with malloc, and hold `count` values.
unsafe fn taken<T: Copy>(all: *mut T, count: c_int) -> Vec<T> {
    if all.is_null() {
        return Vec::new();
    }
    let count = usize::try_from(count).unwrap_or(0);
    debug_assert!(mem::align_of::<T>() <= 16, "malloc aligns as much");
    // SAFETY: the caller's promise.
    let values = unsafe { slice::from_raw_parts(all, count) }.to_vec();
    // SAFETY: the same; nothing points there any more.
    unsafe { libc::free(all.cast()) };
    values
}

/// Reads `LS:NAME:PATH:OFFSET:LVER[:SH] …`, in which a backslash stands before each
/// colon, blank and backslash of a path.
fn leases_of(state: &[u8]) -> Vec<Lease> {
    let mut leases = Vec::new();
    let mut fields = vec![Vec::new()];
    let mut bytes = state.iter().copied().chain([b' ']);
    while let Some(byte) = bytes.next() {
        let last = fields.len() - 1;
        match byte {
            b'\\' => fields[last].extend(bytes.next()),
            b':' => fields.push(Vec::new()),
            b' ' => {
                leases.extend(lease_of(mem::replace(&mut fields, vec![Vec::new()])));
            }
            other => fields[last].push(other),
        }
    }
    leases
}

fn lease_of(fields: Vec<Vec<u8>>) -> Option<Lease> {
    let shared = fields.last()? == b"SH";
    let mut fields = fields.into_iter();
    let mut text = || String::from_utf8(fields.next()?).ok();
    let (lockspace, name) = (text()?, text()?);
    let path = std::ffi::OsString::from_vec(fields.next()?).into();
    let offset = String::from_utf8(fields.next()?).ok()?.parse().ok()?;
    Some(Lease { lockspace, name, path, offset, shared })
}

impl Lease {
    /// Whether both are the same for the daemon.
    pub(crate) fn is_same(&self, other: &Lease) -> bool {
        self.lockspace == other.lockspace && self.name == other.name
    }
}

/// A program and its arguments as the daemon wants them: separated by blanks, with a
/// backslash before what would separate and does not.
pub(crate) fn command_line(program: &Path, arguments: &[String]) -> Result<(CString, CString), String> {
    let arguments: Vec<String> =
        arguments.iter().map(|argument| argument.replace('\\', "\\\\").replace(' ', "\\ ")).collect();
    let line = arguments.join(" ");
    for (what, length) in [("path", program.as_os_str().len()), ("arguments", line.len())] {
        if length >= sys::HELPER_LENGTH {
            return Err(format!(
                "sanlock takes a program's {what} of up to {} bytes, and these are {length}",
                sys::HELPER_LENGTH - 1
            ));
        }
    }
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| "a zero byte is in it".to_owned());
    Ok((text(program.as_os_str().as_bytes())?, text(line.as_bytes())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_the_daemons_is_read() {
        let read = leases_of(br"LS:R0:/srv/a\:b\ c\\d:1048576:7 LS:R1:/srv/e:0:1:SH");
        let lease = |name: &str, path: &str, offset, shared| Lease {
            lockspace: "LS".into(),
            name: name.into(),
            path: path.into(),
            offset,
            shared,
        };
        assert_eq!(read, [lease("R0", r"/srv/a:b c\d", 1 << 20, false), lease("R1", "/srv/e", 0, true)]);
        assert_eq!(leases_of(b""), []);
        assert_eq!(leases_of(b"LS:R0"), []);
    }

    #[test]
    fn a_failure_program_fits_or_is_refused() {
        let (path, line) = command_line(Path::new("/bin/p"), &["a b".into(), r"c\d".into()]).unwrap();
        assert_eq!((path.to_str(), line.to_str()), (Ok("/bin/p"), Ok(r"a\ b c\\d")));
        let error = command_line(Path::new("/bin/p"), &["x".repeat(128)]).unwrap_err();
        assert_eq!(error, "sanlock takes a program's arguments of up to 127 bytes, and these are 128");
    }

    #[test]
    fn a_library_that_is_not_there_says_what_to_install() {
        let error = Client::open(OsStr::new("/no/such/library.so")).unwrap_err();
        assert!(error.contains("libsanlock-client1") && error.contains("1.8 or later"), "{error}");
    }
}
