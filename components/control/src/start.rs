//! Starting and stopping.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::legacy;
use crate::place::{self, Place};
use crate::server::{Server, Wake};
use lcr_core::Factory;

/// The thread's name.
const THREAD: &str = "lcr-control";

/// Starts to answer for the process-wide factory, in the usual place.
///
/// # Errors
///
/// See [`Error`].
pub fn start() -> Result<Running, Error> {
    Builder::new().start()
}

/// What differs from the usual.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is started before `start`"]
pub struct Builder {
    directory: Option<PathBuf>,
    factory: Option<Factory>,
    legacy: bool,
}

impl Builder {
    /// Nothing yet.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Has its socket in this directory, whatever the environment says.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Builder {
        self.directory = Some(directory.into());
        self
    }

    /// Answers for another factory than the process-wide one.
    pub fn factory(mut self, factory: &Factory) -> Builder {
        self.factory = Some(factory.clone());
        self
    }

    /// Listens to the original's messages, too: `livereplace NAME versionN` on the
    /// abstract socket `lcr.socket`. There is one such name for all programs of a
    /// network namespace. The same users may send; nothing is answered; the history
    /// says what became of it. Off unless switched on.
    pub fn legacy(mut self, legacy: bool) -> Builder {
        self.legacy = legacy;
        self
    }

    /// Starts.
    ///
    /// # Errors
    ///
    /// See [`Error`]. Nothing is left behind then.
    pub fn start(self) -> Result<Running, Error> {
        let Builder { directory, factory, legacy } = self;
        if lcr_core::services::received().is_some() {
            return Err(Error::Library);
        }
        let directory = directory.unwrap_or_else(place::directory);
        let place = Place::make(&directory)
            .map_err(|reason| Error::Directory { directory: directory.clone(), reason })?;
        place.sweep();
        let pid = std::process::id();
        let name = format!("{pid}.sock");
        if place.identity(&name).is_some() {
            return Err(Error::Taken { socket: directory.join(name) });
        }
        let system = |what| move |source: io::Error| Error::System { what, source };
        let wake = Arc::new(Wake::new().map_err(system("make an event descriptor"))?);
        let legacy = match legacy {
            true => Some(legacy::listen().map_err(|source| match source.kind() {
                io::ErrorKind::AddrInUse => Error::LegacyTaken,
                _ => Error::System { what: "listen on the socket `lcr.socket`", source },
            })?),
            false => None,
        };
        let listener = place.listen(&name).map_err(system("listen on its socket"))?;
        let socket = directory.join(&name);
        let identity = place.identity(&name);
        // From here on, dropping it removes the socket.
        let mut running =
            Running { socket, name, place, identity, pid, stop: Arc::default(), wake, thread: None };
        let server = Server::new(
            factory.unwrap_or_else(|| Factory::process().clone()),
            running.socket.clone(),
            listener,
            legacy,
            Arc::clone(&running.wake),
        );
        let stop = Arc::clone(&running.stop);
        let spawned = thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
            leave_signals_to_others();
            server.run(&stop);
        });
        running.thread = Some(spawned.map_err(system("start a thread"))?);
        Ok(running)
    }
}

/// A program's signals are for threads that expect them.
pub(crate) fn leave_signals_to_others() {
    // SAFETY: an empty set is made before it is filled and used, and only this
    // thread's mask changes.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        // What a fault raises must still end the process.
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP] {
            libc::sigdelset(&raw mut all, fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

/// A program that can be asked. Dropping it stops that: its thread has ended then,
/// and the socket is gone. A replacement that is under way goes on to its end.
#[derive(Debug)]
#[must_use = "dropping it stops the thread and removes the socket"]
pub struct Running {
    socket: PathBuf,
    name: String,
    place: Place,
    identity: Option<(u64, u64)>,
    /// A forked child has no thread of ours, and the socket is not its own.
    pid: u32,
    stop: Arc<AtomicBool>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::process::id() != self.pid {
            return;
        }
        // New clients find no socket, rather than one that nobody answers on.
        if self.identity.is_some() && self.place.identity(&self.name) == self.identity {
            self.place.remove(&self.name);
        }
        self.stop.store(true, Ordering::SeqCst);
        self.wake.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Why a program cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory is not to be had, or not safe.
    #[error("no control socket can be in {}: {reason}; set LCR_RUNTIME_DIR to a directory of your own", .directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
    /// Somebody listens there.
    #[error(
        "{} is there, and answers: this program was started already, or one in another PID namespace shares the directory",
        .socket.display()
    )]
    Taken {
        /// The socket.
        socket: PathBuf,
    },
    /// The original's socket has one name, and somebody has it.
    #[error(
        "another program listens on the abstract socket `lcr.socket`: only one can; stop that one, or start without `legacy` (LCR_CONTROL_LEGACY in C)"
    )]
    LegacyTaken,
    /// This crate is in a library: it would show the library, and not the program.
    #[error("lcr-control was called in a library: only the program itself can be asked; link it in there")]
    Library,
    /// The system refused.
    #[error("lcr-control cannot {what}: {source}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}
