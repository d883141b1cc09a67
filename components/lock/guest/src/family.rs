//! A guest's processes: its own, and those that it has started.
//!
//! What a guest leaves behind may have its disks open, whoever is its parent by then. So
//! a supervisor makes itself the one that orphans below it fall to (the kernel's *child
//! subreaper*), and a process is the guest's if
//!
//! 1. it descends from the guest's own process; or
//! 2. from an orphan that has fallen to the supervisor; or
//! 3. it has the guest's *mark* in its environment, which all inherit that are started by
//!    it: so those are found that became orphans while there was no supervisor.
//!
//! One that has become an orphan then, and has cleared its environment, is not found.
//! Nothing here holds a process: what is found may start others before it is ended, so who
//! ends them looks again until there is none.

use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lcr_lock::Uuid;
use lcr_lock::process::Stat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::process::{self, Process};
use crate::record::Record;
use crate::refusal::Refusal;

/// Where the mark is.
pub(crate) const VARIABLE: &str = "LCR_GUEST_RUN";
/// The mark of what moves a guest: that is not the guest's.
pub(crate) const OF_MOVER: &str = "move";
/// How long a process that was killed may take to end.
const KILLED: Duration = Duration::from_secs(10);

/// A process of `/proc`.
#[derive(Clone, Copy)]
struct Seen {
    process: Process,
    parent: u32,
    alive: bool,
}

fn all() -> Vec<Seen> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(seen).collect()
}

fn seen(pid: u32) -> Option<Seen> {
    let Stat { start, parent, is_alive } = Stat::of(pid)?;
    Some(Seen { process: Process { pid, start }, parent, alive: is_alive })
}

/// What a process has been given as its mark; empty if none, or if that is not to be seen.
fn mark_of(pid: u32) -> String {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let words = environment.split(|byte| *byte == 0);
    let mut values =
        words.filter_map(|word| str::from_utf8(word).ok()?.strip_prefix(VARIABLE)?.strip_prefix('='));
    values.next_back().unwrap_or_default().to_owned()
}

/// Whether a supervisor of this guest has no child but the guest's own process, and what it
/// has forked for itself. Where it has started the guest, and so all fall to it, there is
/// nothing else of the guest then; and that is known without looking at every process.
pub(crate) fn has_no_children(record: &Record) -> bool {
    let program = fs::read_link("/proc/self/exe").ok();
    let none = || -> Option<bool> {
        for task in fs::read_dir("/proc/self/task").ok()? {
            // A kernel may be built without it.
            let children = fs::read_to_string(task.ok()?.path().join("children")).ok()?;
            for child in children.split_ascii_whitespace() {
                let child = seen(child.parse().ok()?)?;
                // A shell may have become this program, and have had others before.
                let before = record.process.is_some_and(|guest| !is_later(child.process, guest));
                let own = || is_own(child.process.pid, &program, record);
                let known = before || Some(child.process) == record.process || own();
                if child.alive && !known {
                    return Some(false);
                }
            }
        }
        Some(true)
    };
    // Twice: one may have fallen to it while that was read.
    none().unwrap_or(false) && none().unwrap_or(false)
}

/// Whether a supervisor's child is what it has forked for itself: those that keep locks,
/// whose words are its own, and those that look into libraries. A guest may start a
/// supervisor, too, of another guest.
fn is_own(pid: u32, program: &Option<PathBuf>, record: &Record) -> bool {
    let words = |pid: u32| fs::read(format!("/proc/{pid}/cmdline")).ok();
    let is_its =
        |said: &Vec<u8>| Some(said) == words(record.supervisor.pid).as_ref() || said == b"/proc/self/exe\0";
    program.is_some()
        && fs::read_link(format!("/proc/{pid}/exe")).ok() == *program
        && mark_of(pid) != record.mark
        && words(pid).is_some_and(|said| is_its(&said))
}

/// Whether a process was started after the guest's own: within one tick of the kernel's, by their
/// numbers, which go up.
fn is_later(process: Process, guest: Process) -> bool {
    (process.start, process.pid) > (guest.start, guest.pid)
}

/// The processes of a guest that live, but for its own.
pub(crate) fn of(record: &Record) -> Vec<Process> {
    // Twice, where there seems to be none: one may have started another, and ended, while
    // the list was read.
    let first = look(record);
    if first.is_empty() { look(record) } else { first }
}

fn look(record: &Record) -> Vec<Process> {
    let all = all();
    let supervisor = record.supervisor;
    let supervised = all.iter().any(|seen| seen.process == supervisor && seen.alive);
    let own_program = fs::read_link(format!("/proc/{}/exe", supervisor.pid)).ok();
    let guest = record.process;
    let mut found: HashSet<u32> = HashSet::new();
    for seen in &all {
        let Process { pid, .. } = seen.process;
        if pid == std::process::id() || seen.process == supervisor || Some(seen.process) == guest {
            continue;
        }
        // None was started before the guest's own.
        let later = guest.is_none_or(|guest| is_later(seen.process, guest));
        let marked = || later && !record.mark.is_empty() && mark_of(pid) == record.mark;
        let orphan = supervised
            && later
            && seen.parent == supervisor.pid
            && !is_own(pid, &own_program, record)
            && mark_of(pid) != OF_MOVER;
        if orphan || marked() {
            found.insert(pid);
        }
    }
    let of_guest = |pid: u32| {
        guest.is_some_and(|guest| guest.pid == pid && all.iter().any(|seen| seen.process == guest))
    };
    loop {
        let before = found.len();
        for seen in &all {
            let Process { pid, .. } = seen.process;
            let below = found.contains(&seen.parent) || of_guest(seen.parent);
            if below && pid != std::process::id() && seen.process != supervisor && Some(seen.process) != guest
            {
                found.insert(pid);
            }
        }
        if found.len() == before {
            break;
        }
    }
    all.iter()
        .filter(|seen| seen.alive && found.contains(&seen.process.pid))
        .map(|seen| seen.process)
        .collect()
}

/// Sends a signal to the guest's processes but its own, and to those that they start
/// meanwhile.
pub(crate) fn signal(record: &Record, signal: Signal) {
    let mut told: HashSet<Process> = HashSet::new();
    loop {
        let new: Vec<Process> = of(record).into_iter().filter(|process| told.insert(*process)).collect();
        if new.is_empty() {
            return;
        }
        for opened in new.into_iter().filter_map(open) {
            // One that may not be told is another user's.
            let _ = process::send(&opened, signal);
        }
    }
}

/// Processes for people: `12 (sleep), 13 (cat)`.
pub(crate) fn shown(processes: &[Process]) -> String {
    processes.iter().map(|process| process.shown()).collect::<Vec<_>>().join(", ")
}

/// A descriptor of this very process; also of one that only its first thread has left.
pub(crate) fn open(process: Process) -> Option<OwnedFd> {
    let pid = Pid::from_raw(process.pid.cast_signed())?;
    let opened = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    seen(process.pid).is_some_and(|seen| seen.process == process && seen.alive).then_some(opened)
}

/// A new mark.
pub(crate) fn mark() -> Result<String, Refusal> {
    let uuid = Uuid::random().map_err(|error| Refusal::new(format!("no mark can be made: {error}")))?;
    Ok(uuid.to_string())
}

/// Ends the guest's processes but its own: by SIGTERM, and after `patience` by SIGKILL.
/// Those in `also` were seen to be the guest's before. Answers those that are left.
pub(crate) fn end(record: &Record, also: &[Process], patience: Duration) -> Vec<Process> {
    let start = Instant::now();
    let mut told: HashSet<(u32, bool)> = HashSet::new();
    loop {
        let mut left = of(record);
        left.extend(also.iter().filter(|process| !left.contains(process)).copied().collect::<Vec<_>>());
        let opened: Vec<(Process, OwnedFd)> =
            left.iter().filter_map(|process| Some((*process, open(*process)?))).collect();
        if opened.is_empty() {
            return Vec::new();
        }
        let killing = start.elapsed() >= patience;
        if killing && start.elapsed() >= patience + KILLED {
            return opened.into_iter().map(|(process, _)| process).collect();
        }
        for (process, opened) in &opened {
            if told.insert((process.pid, killing)) {
                // One that may not be told stays, and is said to.
                let _ = process::send(opened, if killing { Signal::KILL } else { Signal::TERM });
            }
        }
        let until = if killing { patience + KILLED } else { patience };
        let mut waits: Vec<PollFd<'_>> =
            opened.iter().map(|(_, opened)| PollFd::new(opened, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(until.saturating_sub(start.elapsed())).ok();
        // An interruption, and each end, is looked at anew.
        let _ = poll(&mut waits, timeout.as_ref());
    }
}

/// The children of this process that have ended, and that nobody waits for but it: orphans
/// that have fallen to it.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    over: Vec<Process>,
    due: Option<Instant>,
}

/// How long a child that has ended is left for somebody who waits for it: threads do, for
/// what they have started.
const LEFT: Duration = Duration::from_secs(1);

impl Reaper {
    /// A child has ended.
    pub(crate) fn told(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + LEFT);
    }

    /// When it has something to do.
    pub(crate) fn due(&self) -> Option<Duration> {
        Some(self.due?.saturating_duration_since(Instant::now()))
    }

    /// Takes away those that had ended the last time, too, but for `guest`.
    pub(crate) fn reap(&mut self, guest: Option<Process>) {
        if self.due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        let own = std::process::id();
        let over = all().into_iter().filter(|seen| seen.parent == own && !seen.alive);
        let over: Vec<Process> =
            over.map(|seen| seen.process).filter(|process| Some(*process) != guest).collect();
        let (again, new): (Vec<Process>, Vec<Process>) =
            over.into_iter().partition(|process| self.over.contains(process));
        for Process { pid, .. } in again {
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                use rustix::process::{WaitId, WaitIdOptions, waitid};
                // Somebody has waited for it after all.
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
        }
        self.due = (!new.is_empty()).then(|| Instant::now() + LEFT);
        self.over = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_with_its_parent() {
        let own = seen(std::process::id()).unwrap();
        assert!(own.alive && own.process == Process::own().unwrap());
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert!(all().iter().any(|seen| seen.process == own.process));
        assert_eq!(own.process.shown().split_once(' ').unwrap().0, std::process::id().to_string());
    }
}
