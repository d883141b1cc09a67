//! `lcr-guest stop`: ends a guest, whoever supervises it.
//!
//! First its own process, by SIGTERM and after a while by SIGKILL; then those that it has
//! left behind ([`family`]), in the same way. Its locks are held meanwhile: by its
//! supervisor, or else from here. It is done when nothing of it is left, and an error that
//! says what is where that takes too long.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::arguments::Stop;
use crate::attach;
use crate::directory::{Guests, Life};
use crate::family;
use crate::process::{self, Process};
use crate::record::{Record, State};
use crate::refusal::{Refusal, note};

/// How long a process that was killed may take to end, and a supervisor to notice.
const ENDS: Duration = Duration::from_secs(10);
/// How long a supervisor may be stopped.
const STOPPED: Duration = Duration::from_secs(3);

pub(crate) fn run(Stop { name, kill_after, of }: &Stop) -> crate::Result {
    let name = &name.0;
    crate::users::become_owner(of, name)?;
    let patience = Duration::from_secs((*kill_after).into());
    let guests = Guests::here()?;
    let known = guests.known(name)?;
    let Some(guest) = guests.process(&known) else {
        if guests.life(&known) == Life::Supervised {
            return Err(Refusal::new(format!("guest {name} has no process yet"))
                .detail(format!("its supervisor, process {}, is about to start it", known.supervisor.pid)));
        }
        guests.remove(name, &guests.lock()?);
        return Err(Refusal::new(format!("guest {name} has ended already")));
    };
    let record = Record { process: Some(guest), ..known.clone() };
    let supervisor = record.supervisor.open();
    let kept: Vec<OwnedFd> = if supervisor.is_none() { attach::descriptors(&record) } else { Vec::new() };
    // Its own are known as long as it lives.
    let family = family::of(&record);
    if let Some(process) = guest.open() {
        end(&record, guest, &process, patience)?;
    }
    let left: Vec<Process> = family.into_iter().chain(family::of(&record)).collect();
    let mut left: Vec<Process> =
        left.into_iter().filter(|process| family::open(*process).is_some()).collect();
    left.sort_unstable_by_key(|process| process.pid);
    left.dedup();
    if !left.is_empty() {
        note(format!("guest {name} has left processes behind, which are ended: {}", family::shown(&left)));
    }
    let left = family::end(&record, &left, patience);
    if !left.is_empty() {
        return Err(Refusal::new(format!(
            "guest {name} has ended, but for processes that do not end though they were killed: {}",
            family::shown(&left)
        ))
        .detail("they are another user's, or wait for the kernel; what they have open stays locked"));
    }
    drop(kept);
    // Its supervisor sees to the rest; without one, nobody does.
    match supervisor {
        Some(supervisor) => match noticed(&supervisor, record.supervisor) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(after) => Err(not_noticed(name, record.supervisor, after)),
        },
        None => {
            let locked = guests.lock()?;
            if guests.record(name)?.is_some_and(|now| now.process == known.process) {
                guests.remove(name, &locked);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Ends the guest's own process.
fn end(record: &Record, guest: Process, process: &OwnedFd, patience: Duration) -> Result<(), Refusal> {
    let name = &record.name;
    let failed =
        |error: std::io::Error| Refusal::new(format!("guest {name} cannot be sent a signal: {error}"));
    // One that must not go on is not to see a signal first.
    if record.state != State::Stopped {
        process::send(process, Signal::TERM).map_err(failed)?;
        if process::wait(process, Some(patience)) {
            return Ok(());
        }
        note(format!("guest {name} has not ended in {} s: it is killed", patience.as_secs()));
    }
    process::send(process, Signal::KILL).map_err(failed)?;
    if process::wait(process, Some(ENDS)) {
        return Ok(());
    }
    let (shown, seconds) = (guest.shown(), ENDS.as_secs());
    Err(Refusal::new(format!(
        "guest {name}, process {shown}, has not ended in {seconds} s though it was killed"
    ))
    .detail("it waits for the kernel, as for storage that does not answer; until then its disks stay locked"))
}

/// Waits until a supervisor has noticed, and has ended; one that is stopped will not. Or
/// answers how long it was waited for.
fn noticed(opened: &OwnedFd, supervisor: Process) -> Result<(), Duration> {
    let start = Instant::now();
    while !process::wait(opened, Some(Duration::from_millis(200))) {
        let enough = if supervisor.is_stopped() { STOPPED } else { ENDS };
        if start.elapsed() >= enough {
            return Err(start.elapsed());
        }
    }
    Ok(())
}

/// The guest has ended, and its supervisor has not.
fn not_noticed(name: &str, supervisor: Process, after: Duration) -> Refusal {
    let (pid, seconds) = (supervisor.pid, after.as_secs());
    let refusal = Refusal::new(format!(
        "guest {name} has ended, but its supervisor, process {pid}, has not in {seconds} s, and holds its locks"
    ));
    let what = if supervisor.is_stopped() { "it is stopped" } else { "it has much to do" };
    refusal.detail(format!(
        "{what}: let it go on: kill -CONT {pid}; or end it, its guest is gone: kill -KILL {pid}"
    ))
}
