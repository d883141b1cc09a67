//! Notices that guests' processes have ended.
//!
//! The driver has duplicates of the locks, to give them up when it is asked to; so it
//! must drop them when the guest has ended, or the locks would live as long as the
//! manager. One thread waits for the processes of all guests. It is started with the
//! first of them, and stands still while the driver is replaced.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use lcr_lock::Owner;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

/// The processes, and the thread.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    processes: Mutex<Vec<(Owner, Arc<OwnedFd>)>>,
    stop: AtomicBool,
    /// Wakes the thread: the list has changed, or it is to stop.
    changed: OwnedFd,
    ended: Box<dyn Fn(Owner) + Send + Sync>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Calls `ended` for each owner whose process has.
    pub(crate) fn new(ended: impl Fn(Owner) + Send + Sync + 'static) -> io::Result<Watch> {
        let shared = Shared {
            processes: Mutex::default(),
            stop: AtomicBool::new(false),
            changed: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            ended: Box::new(ended),
        };
        Ok(Watch { shared: Arc::new(shared), thread: Mutex::default() })
    }

    /// Watches this process for this owner, in the place of another one.
    pub(crate) fn add(&self, owner: Owner, process: OwnedFd) -> io::Result<()> {
        let mut processes = locked(&self.shared.processes);
        processes.retain(|(other, _)| *other != owner);
        processes.push((owner, Arc::new(process)));
        drop(processes);
        if locked(&self.thread).is_some() {
            self.shared.wake();
            Ok(())
        } else {
            self.resume()
        }
    }

    /// Watches nothing for this owner any more.
    pub(crate) fn remove(&self, owner: Owner) {
        locked(&self.shared.processes).retain(|(other, _)| *other != owner);
        self.shared.wake();
    }

    /// Ends the thread.
    pub(crate) fn pause(&self) {
        let thread = locked(&self.thread).take();
        if let Some(thread) = thread {
            self.shared.stop.store(true, Ordering::Release);
            self.shared.wake();
            // It panics only with what it calls.
            let _ = thread.join();
            self.shared.stop.store(false, Ordering::Release);
        }
    }

    /// Starts it, if there is anything to wait for.
    pub(crate) fn resume(&self) -> io::Result<()> {
        let mut thread = locked(&self.thread);
        if thread.is_none() && !locked(&self.shared.processes).is_empty() {
            let shared = Arc::clone(&self.shared);
            let builder = std::thread::Builder::new().name("lcr-lock-watch".to_owned());
            *thread = Some(builder.spawn(move || shared.run())?);
        }
        Ok(())
    }
}

impl Shared {
    fn wake(&self) {
        // A counter that is full wakes as well.
        let _ = rustix::io::write(&self.changed, &1_u64.to_ne_bytes());
    }

    fn run(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let processes = locked(&self.processes).clone();
            let mut waits = vec![PollFd::new(&self.changed, PollFlags::IN)];
            waits.extend(
                processes.iter().map(|(_, process)| PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)),
            );
            match poll(&mut waits, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // Not without memory: what it waits for is looked at in the next call.
                Err(_) => std::thread::yield_now(),
            }
            let ended = waits[1..].iter().zip(&processes).filter(|(wait, _)| !wait.revents().is_empty());
            for (_, (owner, process)) in ended {
                locked(&self.processes).retain(|(_, other)| !Arc::ptr_eq(process, other));
                (self.ended)(*owner);
            }
            let _ = rustix::io::read(&self.changed, &mut [0; 8]);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.pause();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("processes", &locked(&self.shared.processes).len())
            .finish_non_exhaustive()
    }
}
