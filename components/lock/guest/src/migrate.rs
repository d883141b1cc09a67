//! `lcr-guest migrate`: hands a guest over to another run directory.
//!
//! The first design's migration, between two hosts on one machine. The *source* is the
//! guest's supervisor; the *destination* is this program, which supervises the guest
//! from then on. They talk over the supervisor's socket:
//!
//! ```text
//!  destination                               source
//!  takes the name in DIR
//!        ── Prepare ──────────────────────▶  prepare_migrate
//!        ◀────────── state, descriptors ───
//!  starts COMMAND, which waits; runs --move
//!        ── Complete ─────────────────────▶  the guest stands still; complete (out)
//!  complete (in); starts a COMMAND that could not wait
//!  writes the guest down as running          ← from here on it has arrived
//!        ── Finish ───────────────────────▶  kills the process here, forgets the guest
//! ```
//!
//! What fails before it has arrived is answered with Cancel: the source takes its locks
//! back, and the guest goes on. If it cannot have them back, the guest does not: it stands
//! still, `stopped`, until `attach` has them or `stop` ends it.
//!
//! # What holds, wherever it breaks off
//!
//! The guest's record in DIR decides, alone: `running` means arrived ([`arrival`]). A
//! source whose connection ends asks it. If the destination is alive, and has not
//! decided, the source waits for it; if it has ended, the process that it may have
//! started is killed, its record removed, and the guest goes on at the source. So does a
//! supervisor that takes the guest up at the source later. Until then the process at the
//! source stands still: two never write. Nor do others: a process of the guest besides its
//! own is a refusal, before the locks pass over, where another process is to go on.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command};

use lcr_lock::Grant;
use lcr_lock::life::{Arriving, Incoming, Plugin, Running};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use serde_json::json;

use crate::arguments::Migrate;
use crate::command;
use crate::directory::Guests;
use crate::family;
use crate::plug;
use crate::process::{self, Process};
use crate::record::{Record, State};
use crate::refusal::{Refusal, note};
use crate::run::copies;
use crate::signals::Signals;
use crate::supervise::{Open, Origin, Post, Supervisor};
use crate::wire::Client;
use crate::within::{self, Waiting};

/// Whether a guest has arrived where it was to move to.
pub(crate) enum Arrival {
    Arrived,
    /// It has not, and will not.
    Not,
    /// The destination is alive, as this process, and has not decided.
    Undecided(OwnedFd, Process),
    /// It cannot be looked up.
    Unknown(Refusal),
}

/// What the record in `to` says of the guest that leaves, as `record`.
pub(crate) fn arrival(to: &Path, record: &Record) -> Arrival {
    let decided = || -> Result<Arrival, Refusal> {
        let there = Guests::of(to)?;
        let locked = there.lock()?;
        let Some(other) = there.record(&record.name)?.filter(|other| other.uuid == record.uuid) else {
            return Ok(Arrival::Not);
        };
        if other.state != State::Arriving {
            return Ok(Arrival::Arrived);
        }
        if let Some(destination) = other.supervisor.open() {
            return Ok(Arrival::Undecided(destination, other.supervisor));
        }
        // What it has started has not arrived, and never will.
        let incoming = there.process(&other).filter(|process| Some(*process) != record.process);
        if let Some(process) = incoming.and_then(Process::open) {
            process::send(&process, Signal::KILL).map_err(Refusal::new)?;
            process::wait(&process, None);
        }
        there.remove(&other.name, &locked);
        Ok(Arrival::Not)
    };
    decided().unwrap_or_else(|refusal| {
        let Record { name, .. } = record;
        let reason = format!("it cannot be known whether guest {name} has arrived in {}", to.display());
        Arrival::Unknown(Refusal::new(format!("{reason}: {}", refusal.reason)))
    })
}

pub(crate) fn run(Migrate { name, to, parameters, mover, command }: Migrate) -> crate::Result {
    command::check(&command)?;
    let here = Guests::here()?;
    let at_source = here.known(&name.0)?;
    let to = std::path::absolute(&to).map_err(|error| Refusal::new(format!("{}: {error}", to.display())))?;
    if to.to_str().is_none() {
        return Err(Refusal::new(format!("{} is not UTF-8: move to a directory that is", to.display())));
    }
    let there = Guests::of(&to)?;
    let same = |path: &Path| path.canonicalize().ok();
    if same(&to) == same(here.runtime()) {
        return Err(Refusal::new(format!("guest {name} is in {} already", to.display()))
            .detail("--to names another run directory: what LCR_RUNTIME_DIR is there"));
    }
    let source = plug::connect(&here, &name.0)?;
    let post = Post::new(there)?;
    let mark = if command.is_empty() { at_source.mark.clone() } else { family::mark()? };
    let mut record =
        Record { process: None, supervisor: post.own, state: State::Arriving, mark, ..at_source.clone() };
    parameters.into_iter().for_each(|parameter| record.set(parameter));
    let plugin = post.driver(&mut record)?;
    post.guests.claim(&record)?;
    let own = post.own;
    let mut migration = Migration {
        post: &post,
        plugin: &plugin,
        source: &source,
        at_source: &at_source,
        to: &to,
        prepared: false,
    };
    match migration.arrive(&mut record, mover.as_deref(), &command) {
        Ok((guest, origin, open, kept)) => {
            if let Err(refusal) = source.call("Finish", &json!({})) {
                // Nobody else does, then.
                note(refusal.reason);
                if record.process != at_source.process {
                    at_source
                        .process
                        .map_or(Ok(()), |process| process.signal(Signal::KILL))
                        .map_err(Refusal::new)?;
                }
                here.forget(&name.0, at_source.supervisor);
            }
            note(format!("guest {name} has arrived in {}", to.display()));
            Supervisor::run(post, plugin, record, open, guest, kept, origin)
        }
        Err(refusal) => {
            // First the name: it has not arrived.
            post.guests.forget(&name.0, own);
            let cancelled =
                if migration.prepared { source.call("Cancel", &json!({})).map(drop) } else { Ok(()) };
            Err(match cancelled {
                Ok(()) => refusal.detail(format!("guest {name} goes on in {}", here.runtime().display())),
                Err(cancel) => {
                    let reason = format!(
                        "guest {name} does not go on in {}: {}",
                        here.runtime().display(),
                        cancel.reason
                    );
                    cancel.details.iter().fold(refusal.detail(reason), Refusal::detail)
                }
            })
        }
    }
}

/// A migration, as its destination sees it.
struct Migration<'a> {
    post: &'a Post,
    plugin: &'a Plugin,
    source: &'a Client,
    at_source: &'a Record,
    to: &'a Path,
    /// The source waits for what becomes of it.
    prepared: bool,
}

/// The guest's process over here, before the locks have passed over.
enum Coming {
    /// It is there, and waits. What holds its locks, as far as that is known before.
    Process(Incoming, Origin, Vec<OwnedFd>),
    /// It waits for its command.
    Waiting(Incoming, Waiting),
    /// It is started when there are locks for it to inherit.
    Later(Arriving, Command, File),
}

impl Coming {
    fn cancel(self) {
        match self {
            Coming::Process(incoming, origin, _) => {
                incoming.cancel();
                if let Origin::Started(child) = origin {
                    end(child);
                }
            }
            Coming::Waiting(incoming, waiting) => {
                incoming.cancel();
                end(waiting.into_child().0);
            }
            Coming::Later(arriving, ..) => arriving.cancel(),
        }
    }
}

fn end(mut child: Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

impl Migration<'_> {
    /// Brings the guest here. Refused, nothing of it is left here.
    fn arrive(
        &mut self,
        record: &mut Record,
        mover: Option<&std::ffi::OsStr>,
        arguments: &[OsString],
    ) -> Result<(Running, Origin, Open, Vec<OwnedFd>), Refusal> {
        let mut arriving = self.plugin.arrive(&record.guest()).map_err(Refusal::new)?;
        for resource in record.resources() {
            arriving.add(&resource).map_err(Refusal::new)?;
        }
        let parameters = json!({"to": self.to.to_str(), "same_process": arguments.is_empty()});
        let (answer, descriptors) = self.source.call("Prepare", &parameters)?;
        self.prepared = true;
        let grant = Grant { state: answer["state"].as_str().unwrap_or_default().to_owned(), descriptors };
        let coming = self.start(record, arriving, mover.is_some(), arguments)?;
        if let Some(mover) = mover
            && let Err(refusal) = self.move_it(record, mover)
        {
            coming.cancel();
            return Err(refusal);
        }
        if let Err(refusal) = self.source.call("Complete", &json!({})) {
            coming.cancel();
            return Err(refusal);
        }
        let (guest, origin, kept) = self.complete(record, coming, grant)?;
        match self.post.running(record, &guest) {
            Ok(open) => Ok((guest, origin, open, kept)),
            Err(refusal) => {
                if let Origin::Started(child) = origin {
                    end(child);
                }
                Err(refusal)
            }
        }
    }

    /// The guest's process here: the one that it is, or one that waits, or none yet.
    fn start(
        &self,
        record: &mut Record,
        arriving: Arriving,
        moved: bool,
        arguments: &[OsString],
    ) -> Result<Coming, Refusal> {
        let Migration { post, plugin, at_source, .. } = self;
        if arguments.is_empty() {
            let process = at_source.process.ok_or_else(|| Refusal::new("the guest has no process yet"))?;
            record.process = Some(process);
            let incoming = arriving.started(process.pid).map_err(Refusal::new)?;
            return Ok(Coming::Process(incoming, Origin::Adopted, Vec::new()));
        }
        if !plugin.about().features.before_process {
            let mut waiting = within::start(post, record, arguments, true)?;
            let incoming = arriving.started(waiting.child.id()).map_err(Refusal::new)?;
            if !moved {
                return Ok(Coming::Waiting(incoming, waiting));
            }
            waiting.let_go()?;
            let (child, kept) = waiting.into_child();
            return Ok(Coming::Process(incoming, Origin::Started(child), kept));
        }
        let supervisor = arriving.supervisor().map_err(Refusal::new)?;
        let mut command = command::make(arguments, supervisor);
        command::tell(&mut command, record);
        let born = post.guests.born(&record.name)?;
        command::announced(&mut command, &born, &post.signals);
        if !moved {
            return Ok(Coming::Later(arriving, command, born));
        }
        let child = command.spawn().map_err(|error| {
            Refusal::new(format!("the guest's command {} cannot be started: {error}", arguments[0].display()))
        })?;
        record.process = post.guests.process(record);
        let written = post.write(record);
        match written.and_then(|()| arriving.started(child.id()).map_err(Refusal::new)) {
            Ok(incoming) => Ok(Coming::Process(incoming, Origin::Started(child), Vec::new())),
            Err(refusal) => {
                end(child);
                Err(refusal)
            }
        }
    }

    /// Runs what moves the guest, to its end.
    fn move_it(&self, record: &Record, mover: &std::ffi::OsStr) -> Result<(), Refusal> {
        let shown = mover.display();
        let failed = |error: std::io::Error| Refusal::new(format!("`{shown}` cannot be run: {error}"));
        let mut command = Command::new("sh");
        command.arg("-c").arg(mover);
        command::tell(&mut command, record);
        let pid =
            |process: Option<Process>| process.map_or_else(String::new, |process| process.pid.to_string());
        command.env(family::VARIABLE, family::OF_MOVER);
        command.env("LCR_GUEST_PID", pid(self.at_source.process));
        command.env("LCR_GUEST_INCOMING_PID", pid(record.process)).env("LCR_GUEST_TO", self.to);
        self.post.signals.restored_in(&mut command);
        let mut child = command.spawn().map_err(failed)?;
        pass_signals_on(&child, &self.post.signals);
        let status = child.wait().map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        Err(Refusal::new(format!("`{shown}` has not moved the guest: {status}")))
    }

    /// Takes the locks over.
    fn complete(
        &self,
        record: &mut Record,
        coming: Coming,
        grant: Grant,
    ) -> Result<(Running, Origin, Vec<OwnedFd>), Refusal> {
        let kept = |guest: &Running| guest.descriptors().map_err(Refusal::new);
        match coming {
            Coming::Process(incoming, origin, before) => match incoming.complete(grant) {
                Ok(guest) => match kept(&guest) {
                    Ok(kept) => Ok((guest, origin, before.into_iter().chain(kept).collect())),
                    Err(refusal) => {
                        if let Origin::Started(child) = origin {
                            end(child);
                        }
                        Err(refusal)
                    }
                },
                Err(failed) => {
                    Coming::Process(failed.guest, origin, before).cancel();
                    Err(Refusal::new(failed.error))
                }
            },
            Coming::Waiting(incoming, mut waiting) => match incoming.complete(grant) {
                Ok(guest) => {
                    let kept = kept(&guest)?;
                    waiting.let_go()?;
                    let (child, before) = waiting.into_child();
                    Ok((guest, Origin::Started(child), before.into_iter().chain(kept).collect()))
                }
                Err(failed) => {
                    Coming::Waiting(failed.guest, waiting).cancel();
                    Err(Refusal::new(failed.error))
                }
            },
            Coming::Later(arriving, command, born) => {
                let guest = arriving.complete(grant).map_err(|failed| {
                    let failed = *failed;
                    failed.guest.cancel();
                    Refusal::new(failed.error)
                })?;
                let kept = copies(guest.grant())?;
                let (guest, child) = guest.start(command).map_err(Refusal::new)?;
                drop(born);
                record.process = self.post.guests.process(record);
                Ok((guest, Origin::Started(child), kept))
            }
        }
    }
}

/// Until a command has ended, it gets the signals that come.
fn pass_signals_on(child: &Child, signals: &Signals) {
    let process =
        Pid::from_raw(child.id().cast_signed()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(process) = process else { return };
    loop {
        let mut waits = [
            PollFd::new(&process, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.descriptor().as_fd(), PollFlags::IN),
        ];
        // An interruption shows nothing, and is polled again.
        let _ = poll(&mut waits, None);
        if !waits[0].revents().is_empty() {
            return;
        }
        while let Some(came) = signals.next() {
            if !came.of_terminal {
                let _ = process::send(&process, came.signal);
            }
        }
    }
}
