//! sanlock's daemon, as tests run it: without a watchdog, with short timeouts, and
//! several on one machine, each for a host of its own.
//!
//! The client library looks up where its daemon is (`SANLOCK_RUN_DIR`) in the process'
//! environment: so each simulated host has processes of its own. The suite's own process
//! is one of the first host.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use lcr_tests::Scratch;

use crate::{Parameters, soon};

const CURE: &str =
    "install the packages sanlock and libsanlock-client1 (Debian), or sanlock and sanlock-lib (Fedora)";

/// The daemon's program and the client library, or nothing, which was said. They are
/// wanted wherever a run decides whether a change is good.
///
/// # Panics
///
/// In CI, if one is missing.
#[must_use]
#[track_caller]
pub fn program() -> Option<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        // No installation helps: it is the user that is missing.
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let line = format!("SKIPPED {test}: only root runs the daemon sanlock; run the tests as root\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        return None;
    }
    let program = lcr_tests::program("sanlock", CURE)?;
    // SAFETY: what it runs when it is opened is nothing.
    let library = unsafe { libc::dlopen(c"libsanlock_client.so.1".as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        lcr_tests::missing("the library libsanlock_client.so.1", CURE);
        return None;
    }
    Some(program)
}

/// Storage for leases: in memory where sanlock can use that and there is enough of it, so
/// that a disk which others keep busy loses no lockspace; else with what tests build.
/// Removed when dropped.
#[derive(Debug)]
pub struct Storage {
    path: PathBuf,
    _scratch: Option<Scratch>,
}

impl Storage {
    /// An empty one.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Storage {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/dev/shm/lcr-tests-{}-{number}", std::process::id()));
        // Of a process that was killed and had our number.
        let _ = fs::remove_dir_all(&path);
        if is_usable(&path) {
            return Storage { path, _scratch: None };
        }
        let _ = fs::remove_dir_all(&path);
        let scratch = Scratch::new();
        Storage { path: scratch.path().to_owned(), _scratch: Some(scratch) }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Makes the directory. False if there is little room, or no direct I/O, with which
/// sanlock does all of its.
fn is_usable(path: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt as _;
    let Ok(room) = rustix::fs::statvfs("/dev/shm") else { return false };
    let enough = room.f_bavail.saturating_mul(room.f_frsize) >= 1 << 30;
    let mut options = File::options();
    options.write(true).create(true).truncate(false).custom_flags(libc::O_DIRECT);
    enough && fs::create_dir(path).is_ok() && options.open(path.join("direct")).is_ok()
}

/// One host's daemon. Killed when dropped, or when this process ends, however it does.
#[derive(Debug)]
pub struct Daemon {
    process: Child,
    /// Kills it when this process has ended.
    warden: Child,
    directory: PathBuf,
}

impl Daemon {
    /// Starts one, which calls its host `name`; its files are in `directory`.
    ///
    /// # Panics
    ///
    /// If it does not come to listen.
    #[must_use]
    #[track_caller]
    pub fn start(program: &Path, name: &str, directory: &Path) -> Daemon {
        fs::create_dir_all(directory).expect("a directory can be made");
        let process = Command::new(program)
            .args(["daemon", "-D", "-w", "0", "-l", "0", "-U", "root", "-G", "root", "-e", name])
            .env("SANLOCK_PRIVILEGED", "0")
            .env("SANLOCK_RUN_DIR", directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        // It has ignored SIGTERM since it joined its first lockspace.
        let warden = Command::new("sh")
            .args(["-c", "read line; kill -9 $0; test -z \"$1\" || rm -rf \"$1\""])
            .arg(process.id().to_string())
            .arg(if name == SHARED {
                directory.parent().unwrap_or(Path::new("")).as_os_str()
            } else {
                OsStr::new("")
            })
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("sh: {error}"));
        let daemon = Daemon { process, warden, directory: directory.to_owned() };
        soon("sanlock listens", || UnixStream::connect(daemon.directory.join("sanlock.sock")).is_ok());
        daemon
    }

    /// Where its socket is: `SANLOCK_RUN_DIR` for its clients.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it, as nothing can be caught.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        let _ = self.warden.kill();
        let _ = self.warden.wait();
    }
}

/// The name of the host that the suite runs on.
const SHARED: &str = "suite";

/// The parameters of the driver on the suite's host: one daemon and one lockspace for all
/// tests of this process.
///
/// # Panics
///
/// As [`program`]; or if the daemon does not start.
#[must_use]
#[track_caller]
pub fn shared() -> Option<Parameters> {
    static DAEMON: OnceLock<(Daemon, PathBuf)> = OnceLock::new();
    let program = program()?;
    let (_, leases) = DAEMON.get_or_init(|| {
        let storage = Storage::new();
        let (run, leases) = (storage.path().join("run"), storage.path().join("leases"));
        fs::create_dir(&leases).expect("a directory can be made");
        let daemon = Daemon::start(&program, SHARED, &run);
        // The daemon's warden removes it, after the last test.
        std::mem::forget(storage);
        // SAFETY: what else reads the environment in this process is Rust's standard
        // library, which has a lock for it, and the client library, after this.
        unsafe { std::env::set_var("SANLOCK_RUN_DIR", &run) };
        (daemon, leases)
    });
    Some(parameters(leases, 1, 2))
}

/// What the driver is told on a host with this number; the I/O timeout is in seconds.
#[must_use]
pub fn parameters(leases: &Path, host_id: u32, io_timeout: u32) -> Parameters {
    vec![
        ("directory", leases.display().to_string()),
        ("host_id", host_id.to_string()),
        ("io_timeout", io_timeout.to_string()),
    ]
}
