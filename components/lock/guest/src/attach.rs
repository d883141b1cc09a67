//! `lcr-guest attach`: takes up a guest that has lost its supervisor.
//!
//! A guest that has lost its locks meanwhile is not taken up as if all were well: another
//! one may have its disks. It is left as it is, `lost`, to be stopped; only where it stands
//! still, since a migration that failed, are they taken again, and then it goes on. Such a
//! guest may have a supervisor yet, which is asked to.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use lcr_lock::life::{Plugin, Policy, Running};
use lcr_lock::{Driver as _, Grant};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use serde_json::json;

use crate::arguments::Attach;
use crate::directory::{Guests, Life};
use crate::drivers;
use crate::family;
use crate::migrate::{Arrival, arrival};
use crate::process::Process;
use crate::record::{Record, State};
use crate::refusal::{Refusal, note};
use crate::run::runs_on;
use crate::serve::{self, regain};
use crate::supervise::{Origin, Post, Supervisor};
use crate::wire::Client;

pub(crate) fn run(Attach { name }: &Attach) -> crate::Result {
    let guests = Guests::here()?;
    let known = guests.known(&name.0)?;
    if known.state == State::Stopped && guests.life(&known) == Life::Supervised {
        return resume(&guests, &known);
    }
    let post = Post::new(guests)?;
    let (mut record, was) = adopt(&post, &name.0)?;
    if matches!(was, State::Leaving | State::Stopped) {
        settle(&post, &record)?;
    }
    let plugin = post.driver(&mut record)?;
    let guest = attached(&plugin, &record)?;
    if was == State::Starting && plugin.about().features.before_process {
        // Its supervisor was killed before it had said so.
        plugin.driver().register(guest.owner(), guest.pid()).map_err(Refusal::new)?;
    }
    let moves = matches!(was, State::Leaving | State::Stopped).then_some(record.process).flatten();
    take_up(&post, &plugin, &mut record, &guest, moves)?;
    let kept = guest.descriptors().unwrap_or_default();
    let open = post.running(&mut record, &guest).map_err(|refusal| runs_on(refusal, &name.0))?;
    Supervisor::run(post, plugin, record, open, guest, kept, Origin::Adopted)
}

/// The guest, as its driver finds it.
fn attached(plugin: &Plugin, record: &Record) -> Result<Running, Refusal> {
    let guest = plugin.attach(&record.guest(), Grant::of_state(record.lock_state.as_str()));
    guest.map_err(Refusal::new)?.child(Policy::default()).map_err(|error| {
        Refusal::new(error).detail("it was left as it is: a process that cannot be identified is not killed")
    })
}

/// What holds the locks of a guest without a supervisor, as far as it can be had.
pub(crate) fn descriptors(record: &Record) -> Vec<OwnedFd> {
    let descriptors = || -> Result<Vec<OwnedFd>, Refusal> {
        let plugin = drivers::load(&record.driver, &record.parameters)?;
        attached(&plugin, record)?.descriptors().map_err(Refusal::new)
    };
    if drivers::only_looks(&record.driver) { descriptors().unwrap_or_default() } else { Vec::new() }
}

/// Whether a guest without a supervisor has lost its locks, as far as that can be seen.
pub(crate) fn has_lost(record: &Record) -> bool {
    let lost = || -> Result<bool, Refusal> {
        let plugin = drivers::load(&record.driver, &record.parameters)?;
        Ok(serve::has_lost(&attached(&plugin, record)?).is_some())
    };
    // While it starts, or moves, it is another's to say.
    record.state == State::Running && drivers::only_looks(&record.driver) && lost().unwrap_or(false)
}

/// Sees to it that the guest has its locks. One that was about to move (`moves`) stands
/// still, and goes on with them.
fn take_up(
    post: &Post,
    plugin: &Plugin,
    record: &mut Record,
    guest: &Running,
    moves: Option<Process>,
) -> Result<(), Refusal> {
    let name = record.name.clone();
    let mut left = |state: State, refusal: Refusal| {
        record.state = state;
        match post.write(record) {
            Ok(()) => refusal,
            Err(unwritten) => refusal.detail(unwritten.reason),
        }
    };
    match (serve::has_lost(guest), moves) {
        (None, None) => Ok(()),
        (Some(lost), moves) if !moves.is_some_and(Process::is_stopped) => Err(left(
            State::Lost,
            Refusal::new(lost)
                .detail(format!(
                    "guest {name} runs without its locks, and was left as it is, without a supervisor"
                ))
                .detail(format!(
                    "end it before it spoils a disk that another one has: lcr-guest stop {name}"
                )),
        )),
        (_, moves) => {
            if let Err(error) = regain(plugin, guest) {
                return Err(left(
                    State::Stopped,
                    Refusal::new(error)
                        .detail(format!("guest {name} stands still (SIGSTOP), without its locks"))
                        .detail(format!(
                            "when they can be had, do that again; or end it: lcr-guest stop {name}"
                        )),
                ));
            }
            let Some(process) = moves else { return Ok(()) };
            family::signal(record, Signal::CONT);
            process.signal(Signal::CONT).map_err(|error| {
                Refusal::new(format!("process {} cannot be sent SIGCONT: {error}", process.pid))
            })
        }
    }
}

/// A guest that stands still, and has a supervisor.
fn resume(guests: &Guests, record: &Record) -> crate::Result {
    let name = &record.name;
    let (answer, _) = Client::connect(guests, name)?.call("Resume", &json!({}))?;
    match answer["moved"].as_str() {
        Some(to) => note(format!("guest {name} has moved to {to}")),
        None => note(format!(
            "guest {name} has its locks again, and goes on; its supervisor is process {}",
            record.supervisor.pid
        )),
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes this process the supervisor of a guest that has none. Answers where the guest
/// was in its life, too.
fn adopt(post: &Post, name: &str) -> Result<(Record, State), Refusal> {
    let Post { guests, own, .. } = post;
    let locked = guests.lock()?;
    let record = guests.known(name)?;
    let process = match guests.life(&record) {
        Life::Unsupervised(process) => process,
        Life::Supervised => {
            let refusal =
                Refusal::new(format!("guest {name} has a supervisor: process {}", record.supervisor.pid));
            return Err(refusal.detail("only one that has lost it can be taken up"));
        }
        Life::Ended => {
            guests.remove(name, &locked);
            return Err(Refusal::new(format!("guest {name} has ended, and its supervisor before it"))
                .detail("nothing is locked for it; start it anew: lcr-guest run"));
        }
    };
    if !process.is_alive() {
        let left = family::shown(&family::of(&record));
        return Err(Refusal::new(format!(
            "guest {name}'s own process has ended, and has left others: {left}"
        ))
        .detail(format!(
            "they have what they have inherited of its locks: lcr-guest stop {name} ends them"
        )));
    }
    if record.state == State::Arriving {
        return Err(Refusal::new(format!("guest {name} was on its way here, and did not arrive"))
            .detail(format!("its process {} has no locks: end it: lcr-guest stop {name}", process.pid)));
    }
    let was = record.state;
    // It is running when it is served.
    let state = if was == State::Running { State::Starting } else { was };
    let record = Record { process: Some(process), supervisor: *own, state, ..record };
    guests.write(&record, &locked)?;
    Ok((record, was))
}

/// How long the other side may be silent before something is said of it.
const SILENT: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

/// Waits for the end of the other side, or a little: then this is false. A signal ends it, and
/// so does another side that is stopped.
fn await_decision(
    post: &Post,
    record: &Record,
    other: &OwnedFd,
    destination: Process,
) -> Result<bool, Refusal> {
    let mut waits =
        [PollFd::new(other, PollFlags::IN), PollFd::new(post.signals.descriptor(), PollFlags::IN)];
    let is_silent = poll(&mut waits, Some(&SILENT)).is_ok_and(|ready| ready == 0);
    let (name, pid) = (&record.name, destination.pid);
    let ends = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];
    while let Some(came) = post.signals.next() {
        if ends.contains(&came.signal) {
            return Err(Refusal::new(format!(
                "guest {name} was left as it is, on its way: the supervisor there, process {pid}, has not decided"
            )));
        }
    }
    if is_silent && destination.is_alive() && destination.is_stopped() {
        return Err(Refusal::new(format!(
            "guest {name} is on its way, and the supervisor there, process {pid}, is stopped"
        ))
        .detail(format!("let it go on: kill -CONT {pid}"))
        .detail(format!("or end it, and the guest stays here: kill -KILL {pid}; lcr-guest attach {name}")));
    }
    Ok(!is_silent)
}

/// The supervisor has ended in the middle of a migration: what the other side has written
/// down decides. It stays here, if this answers no refusal.
fn settle(post: &Post, record: &Record) -> Result<(), Refusal> {
    let Some((to, process)) = record.to.clone().zip(record.process) else { return Ok(()) };
    let mut is_said = false;
    loop {
        match arrival(&to, record) {
            Arrival::Undecided(other, destination) => {
                if await_decision(post, record, &other, destination)? || is_said {
                    continue;
                }
                is_said = true;
                note(format!(
                    "guest {} is on its way to {}: waits for the supervisor there, process {}",
                    record.name,
                    to.display(),
                    destination.pid
                ));
            }
            Arrival::Not => return Ok(()),
            Arrival::Unknown(refusal) => {
                let name = &record.name;
                return Err(refusal
                    .detail(format!("guest {name} was left as it is: it must not go on in two places"))
                    .detail(format!(
                        "when it can be known, do that again; or end it here: lcr-guest stop {name}"
                    )));
            }
            Arrival::Arrived => {
                let other = Guests::of(&to)?.record(&record.name)?;
                if other.is_some_and(|other| other.process != Some(process)) {
                    let _ = process.signal(Signal::KILL);
                }
                post.guests.forget(&record.name, post.own);
                let name = &record.name;
                return Err(Refusal::new(format!("guest {name} has moved to {}", to.display())));
            }
        }
    }
}
