//! What a supervisor does: it waits for its guest's end, passes signals on, and serves.
//!
//! # Signals
//!
//! What a process sends to the supervisor goes to the guest. What the terminal sends
//! reaches all that are in its foreground: a guest that was started here is, and has it
//! already; an adopted one is not, and then it is meant for the supervisor, which leaves.
//! So Ctrl-C ends what a person sees running, once. A guest that does not end by its
//! signal keeps its supervisor.
//!
//! # The guest's end
//!
//! A guest ends with the last of its processes ([`family`]). When its own has ended and
//! others are left, the guest is running still: the supervisor holds its locks, waits for
//! them, and passes signals on to them. Where it has no hold of the locks (it has adopted
//! the guest, and the driver ties locks to a process: `lock.sanlock`), those that are left
//! may have none, and are killed.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, ExitCode, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lcr_lock::Driver as _;
use lcr_lock::life::{Departed, Departing, Plugin, Running};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::FileType;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::directory::Guests;
use crate::drivers;
use crate::family::{self, Reaper};
use crate::process::{self, Process};
use crate::record::{Record, State};
use crate::refusal::{Refusal, note};
use crate::signals::Signals;

/// How often it is looked whether a daemon that has given locks is still there.
const LOOK: Duration = Duration::from_secs(5);

/// What a supervisor has before it has a guest.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) guests: Guests,
    pub(crate) signals: Signals,
    pub(crate) own: Process,
}

/// What a supervisor can be asked through: by `lcr-guest`, and by `lcr`.
#[derive(Debug)]
pub(crate) struct Open {
    listener: UnixListener,
    control: Option<lcr_control::Running>,
}

impl Post {
    /// Takes it up. To be called before there is another thread.
    pub(crate) fn new(guests: Guests) -> Result<Post, Refusal> {
        let system = |error| Refusal::new(format!("no supervisor can be started: {error}"));
        let signals = Signals::take().map_err(system)?;
        let own = Process::own().map_err(system)?;
        // What the guest leaves behind falls to this process: see `family`.
        let orphans = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        orphans.map_err(|error| system(error.into()))?;
        // How drivers are called is decided while there is one thread: with more, the
        // kernel takes a grace period of some milliseconds to prepare for it.
        let _ = lcr_core::gate::readers_pay_a_fence();
        Ok(Post { guests, signals, own })
    }

    /// The driver that a record names.
    pub(crate) fn driver(&self, record: &mut Record) -> Result<Plugin, Refusal> {
        let plugin = drivers::load(&record.driver, &record.parameters)?;
        record.driver_version = plugin.about().version;
        Ok(plugin)
    }

    /// Writes a record down.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Refusal> {
        self.guests.write(record, &self.guests.lock()?)
    }

    /// Has it served from here on: who reads that the guest is running can ask for it.
    pub(crate) fn running(&self, record: &mut Record, guest: &Running) -> Result<Open, Refusal> {
        let name = &record.name;
        let started = lcr_control::Builder::new().directory(self.guests.runtime()).start();
        let control =
            started.map_err(|error| note(format!("the driver cannot be replaced live: {error}"))).ok();
        let listener = self.guests.place().listen(&format!("{name}.sock")).map_err(|error| {
            Refusal::new(format!("nobody could ask the supervisor of guest {name}: {error}"))
        })?;
        record.state = State::Running;
        record.supervisor = self.own;
        record.to = None;
        record.lock_state = guest.state().unwrap_or_else(|_| record.lock_state.clone());
        self.write(record)?;
        self.guests.place().remove(&format!("{}.born", record.name));
        Ok(Open { listener: listener.into(), control })
    }
}

/// A supervisor with its guest.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) guests: Guests,
    pub(crate) plugin: Plugin,
    own: Process,
    /// The guest's very process.
    pub(crate) process: OwnedFd,
    inner: Mutex<Inner>,
    /// Says that the guest has moved.
    pub(crate) moved: OwnedFd,
}

/// What changes while a guest runs.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) record: Record,
    pub(crate) hold: Hold,
    pub(crate) moved_to: Option<PathBuf>,
    /// It moves, and its process goes on as it is.
    pub(crate) same_process: bool,
    /// What holds its locks, whatever becomes of its own process.
    pub(crate) kept: Vec<OwnedFd>,
    /// The daemon that has given its locks does so no more.
    pub(crate) unprotected: bool,
    /// Its own process was killed, perhaps because its locks were lost: what it has left is, too.
    killed: bool,
}

/// The guest, at a point of its life.
#[derive(Debug)]
pub(crate) enum Hold {
    Running(Running),
    Departing(Departing),
    Departed(Departed),
    /// It is being changed, or gone.
    None,
}

/// A guest that runs, and how it came here.
#[derive(Debug)]
pub(crate) enum Origin {
    /// It was started here.
    Started(Child),
    /// It ran before.
    Adopted,
}

/// How it ended.
enum End {
    Ended,
    Moved(PathBuf),
    Left(i32),
}

impl Supervisor {
    /// Supervises a guest that runs, to its end.
    pub(crate) fn run(
        post: Post,
        plugin: Plugin,
        record: Record,
        open: Open,
        guest: Running,
        kept: Vec<OwnedFd>,
        origin: Origin,
    ) -> Result<ExitCode, Refusal> {
        let Post { guests, signals, own } = post;
        let Open { listener, control } = open;
        let name = record.name.clone();
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::new(format!("guest {name} cannot be supervised: {error}"))
                .detail(format!("it runs on, and is locked: lcr-guest attach {name}"))
        };
        let process = match &origin {
            // Its number is nobody else's before it is waited for.
            Origin::Started(child) => Pid::from_raw(child.id().cast_signed())
                .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()),
            Origin::Adopted => record.process.and_then(Process::open),
        };
        let process = process.ok_or_else(|| failed(&"its process has ended"))?;
        let moved = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| failed(&error))?;
        let inner = Mutex::new(Inner {
            record,
            hold: Hold::Running(guest),
            moved_to: None,
            same_process: false,
            kept,
            unprotected: false,
            killed: false,
        });
        let supervisor = Arc::new(Supervisor { guests, plugin, own, process, inner, moved });
        let adopted = matches!(origin, Origin::Adopted);
        let end = supervisor.attend(&signals, &listener, adopted);
        // Who asks from here on finds nobody.
        supervisor.guests.place().remove(&format!("{name}.sock"));
        let code = match end {
            End::Ended => {
                let code = match origin {
                    Origin::Started(mut child) => {
                        child.wait().map_err(|error| failed(&error)).map(code_of)?
                    }
                    Origin::Adopted => {
                        note(format!("guest {name} has ended"));
                        ExitCode::SUCCESS
                    }
                };
                supervisor.guests.forget(&name, supervisor.own);
                code
            }
            End::Moved(to) => {
                note(format!("guest {name} has moved to {}", to.display()));
                ExitCode::SUCCESS
            }
            End::Left(signal) => {
                supervisor.let_go();
                note(format!("guest {name} runs on, and is locked: lcr-guest attach {name}"));
                ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
            }
        };
        drop(control);
        Ok(code)
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the record down.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Refusal> {
        self.guests.write(record, &self.guests.lock()?)
    }

    /// Removes the record.
    pub(crate) fn forget(&self, name: &str) {
        self.guests.forget(name, self.own);
    }

    /// Waits, and sees to what comes.
    fn attend(self: &Arc<Self>, signals: &Signals, listener: &UnixListener, adopted: bool) -> End {
        let own = self.inner().record.process;
        // Those that the guest has left behind, once its own process has ended.
        let mut left: Option<Vec<OwnedFd>> = None;
        let mut reaper = Reaper::default();
        let of_process = !self.plugin.about().features.before_process;
        loop {
            if of_process && left.is_none() {
                self.look_for_daemon();
            }
            let mut waits = vec![
                PollFd::new(signals.descriptor(), PollFlags::IN),
                PollFd::new(listener, PollFlags::IN),
                PollFd::new(&self.moved, PollFlags::IN),
            ];
            match &left {
                None => waits.push(PollFd::new(&self.process, PollFlags::IN)),
                Some(left) => waits.extend(left.iter().map(|process| PollFd::new(process, PollFlags::IN))),
            }
            let look = of_process.then_some(LOOK);
            let due = [reaper.due(), look].into_iter().flatten().min();
            let due = due.and_then(|due| Timespec::try_from(due).ok());
            match poll(&mut waits, due.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // Not without memory.
                Err(_) => std::thread::yield_now(),
            }
            let came = |at: usize| !waits[at].revents().is_empty();
            let (signalled, asked, moved) = (came(0), came(1), came(2));
            let ended = waits[3..].iter().any(|wait| !wait.revents().is_empty());
            drop(waits);
            if ended || moved {
                // Who hands it over has the lock until that is done.
                let mut inner = self.inner();
                if let Some(to) = inner.moved_to.take() {
                    return End::Moved(to);
                }
                if ended {
                    let first = left.is_none();
                    let nothing = first && !adopted && family::has_no_children(&inner.record);
                    left = Some(if nothing { Vec::new() } else { self.left_behind(&mut inner, first) });
                }
            }
            if left.as_ref().is_some_and(Vec::is_empty) {
                return End::Ended;
            }
            reaper.reap(own);
            if signalled {
                reaper.told();
                while let Some(came) = signals.next() {
                    let to = left.as_deref().unwrap_or(std::slice::from_ref(&self.process));
                    if !came.of_terminal {
                        for process in to {
                            if let Err(error) = process::send(process, came.signal) {
                                note(format!("a signal cannot be passed on: {error}"));
                            }
                        }
                    } else if adopted && left.is_none() {
                        return End::Left(came.signal.as_raw());
                    }
                }
            }
            if asked && let Ok((stream, _)) = listener.accept() {
                let supervisor = Arc::clone(self);
                let builder = std::thread::Builder::new().name("lcr-guest-serve".to_owned());
                // Without a thread it hangs up.
                let _ = builder.spawn(move || supervisor.serve(&stream));
            }
        }
    }

    /// A driver that ties locks to a process has a connection for it, to a daemon: looks
    /// whether that has hung up, and says so once.
    fn look_for_daemon(&self) {
        let mut inner = self.inner();
        if inner.unprotected {
            return;
        }
        let has_hung_up = |kept: &OwnedFd| {
            let is_socket = rustix::fs::fstat(kept)
                .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Socket);
            let mut looked = [PollFd::new(kept, PollFlags::empty())];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            is_socket
                && poll(&mut looked, Some(&now)).is_ok()
                && looked[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
        };
        if inner.kept.iter().any(has_hung_up) {
            inner.unprotected = true;
            let Record { name, driver, .. } = &inner.record;
            note(format!(
                "the daemon of {driver} has ended: the locks of guest {name} are not protected any more, and another \
                 host may get its disks: end it: lcr-guest stop {name}"
            ));
        }
    }

    /// Whether a signal has ended the guest's own process, if it is this one's child.
    fn was_killed(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        // Whoever wants its status gets it yet.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        waitid(WaitId::PidFd(self.process.as_fd()), options)
            .is_ok_and(|status| status.is_some_and(|status| status.killed()))
    }

    /// The guest's own process has ended: those that it has left behind. At `first`, that
    /// is said.
    fn left_behind(&self, inner: &mut Inner, first: bool) -> Vec<OwnedFd> {
        loop {
            let family = family::of(&inner.record);
            let opened: Vec<OwnedFd> = family.iter().filter_map(|process| family::open(*process)).collect();
            if opened.is_empty() && !family.is_empty() {
                // They have ended just now, and may have started others.
                continue;
            }
            if opened.is_empty() {
                return opened;
            }
            let (name, all) = (&inner.record.name, family::shown(&family));
            let features = self.plugin.about().features;
            let locks = features.resources && inner.record.resources().next().is_some();
            inner.killed |= first && !features.before_process && self.was_killed();
            if locks && (inner.kept.is_empty() || inner.killed || inner.unprotected) {
                if first && inner.kept.is_empty() {
                    note(format!(
                        "guest {name}'s own process has ended, and its locks with it: what it has left is killed: {all}"
                    ));
                } else if first {
                    note(format!(
                        "guest {name}'s own process was killed, as {} does when locks are lost: what it has left is \
                         killed, too: {all}",
                        inner.record.driver
                    ));
                }
                for process in &opened {
                    // One that may not be killed is waited for.
                    let _ = process::send(process, Signal::KILL);
                }
            } else if first {
                note(format!(
                    "guest {name}'s own process has ended, and has left others: {all}; the guest runs, locked, until \
                     they end: lcr-guest stop {name} ends them"
                ));
            }
            return opened;
        }
    }

    /// Has the locks kept that only this supervisor has: the guest may have closed them.
    fn let_go(&self) {
        let inner = self.inner();
        if let Hold::Running(guest) = &inner.hold
            && self.plugin.about().features.before_process
            && let Err(error) = self.plugin.driver().register(guest.owner(), guest.pid())
        {
            note(error);
        }
    }

    /// Whether the guest's own process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        process::wait(&self.process, Some(std::time::Duration::ZERO))
    }

    /// Holds what the guest has by now.
    pub(crate) fn keep(&self, inner: &mut Inner) {
        if let Hold::Running(guest) = &inner.hold
            && let Ok(kept) = guest.descriptors()
            && !kept.is_empty()
            // What is asked for after its end is not all that it had.
            && !self.has_ended()
        {
            inner.kept = kept;
        }
    }
}

/// The guest's status as this program's.
fn code_of(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
