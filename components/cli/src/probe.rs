//! A look into a library that says nothing of itself.
//!
//! A C component library has no notes: what it offers is known when its ELF
//! constructors have called `lcr_component_register`. They can do anything, so they
//! run in a child process: this very program, started anew with a hidden command
//! ([`child`]). The child gets a deadline, limits, no input, a process group of its
//! own that is killed at the end, and its own death should the parent die. A crash,
//! an abort, an exit, a hang come back as a [`Refusal`]; the caller is never hurt.
//!
//! To run a library's constructors is to let its author be this user. So only what a
//! program of this user would load is probed: owner and mode are checked, and what
//! was checked is what is loaded ([`lcr_core::library::Policy`]).
//!
//! What was seen is remembered by device, inode, size and times of the file.

pub(crate) mod child;

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lcr_core::library::Stamp;
use lcr_core::metadata::{Component, Interface};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::Value;

use crate::refusal::Refusal;

/// The hidden command.
pub(crate) const CHILD: &str = "__probe";

/// What a library's constructors may take, in wall-clock time.
const DEADLINE: Duration = Duration::from_secs(5);
/// A report or an error text is not longer.
const LONGEST: usize = 1 << 20;

type Seen = crate::Result<Vec<Component>>;

/// The components that a library registers when it is loaded.
pub(crate) fn components(path: &Path) -> Seen {
    static KNOWN: Mutex<Option<HashMap<Stamp, Seen>>> = Mutex::new(None);
    let stamp = fs::metadata(path).ok().map(|status| Stamp::from(&status));
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stamp) = stamp
        && let Some(seen) = known().as_ref().and_then(|known| known.get(&stamp))
    {
        return seen.clone();
    }
    let seen = look(path);
    if let Some(stamp) = stamp {
        known().get_or_insert_default().insert(stamp, seen.clone());
    }
    seen
}

fn look(path: &Path) -> Seen {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Refusal::new(format!("{}: cannot probe it: {what}: {error}", path.display()))
    };
    let mut child = Command::new("/proc/self/exe")
        .arg(CHILD)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| failed("cannot start a child process", &error))?;
    let ended = watch(&mut child);
    // The library may have started processes of its own. The child is not waited for
    // yet, so the number of its group is still its own.
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().map_err(|error| failed("cannot wait for the child", &error))?;
    let Watched { report, said, is_late } =
        ended.map_err(|error| failed("cannot watch the child", &error))?;
    let wrong = match Report::read(&report) {
        _ if is_late => format!("its constructors did not end within {} s", DEADLINE.as_secs()),
        Some(Report::Components(components)) => return Ok(named(components, path)),
        // The child's own words name the file already.
        Some(Report::Refused(reason)) => return Err(Refusal::new(reason)),
        None => format!("when it was loaded, {}", ending(status)),
    };
    let mut refusal = Refusal::new(format!("{}: cannot be probed: {wrong}", path.display()));
    refusal = refusal
        .detail("it happened in a child process: a program that loads this library would fare the same");
    for line in String::from_utf8_lossy(&said).lines().filter(|line| !line.trim().is_empty()).take(5) {
        refusal = refusal.detail(format!("it wrote: {line}"));
    }
    Err(refusal)
}

/// What came of the child.
struct Watched {
    report: Vec<u8>,
    said: Vec<u8>,
    is_late: bool,
}

/// Collects what the child writes until it ends, or its time is over. A process that
/// it leaves behind may hold the pipes: their end is not waited for.
fn watch(child: &mut Child) -> std::io::Result<Watched> {
    let deadline = Instant::now() + DEADLINE;
    let mut report = Stream::new(child.stdout.take().map(OwnedFd::from))?;
    let mut said = Stream::new(child.stderr.take().map(OwnedFd::from))?;
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(std::io::ErrorKind::InvalidInput)?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let mut is_late = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        is_late |= left.is_zero();
        let mut waiting = vec![PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)];
        for stream in [&report, &said] {
            waiting.extend(stream.source.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        }
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut waiting, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_over = !waiting[0].revents().is_empty();
        drop(waiting);
        report.drain();
        said.drain();
        if is_over || is_late {
            return Ok(Watched { report: report.bytes, said: said.bytes, is_late: is_late && !is_over });
        }
    }
}

/// A pipe that is read as far as it goes.
struct Stream {
    source: Option<fs::File>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(pipe: Option<OwnedFd>) -> std::io::Result<Stream> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Stream { source: pipe.map(fs::File::from), bytes: Vec::new() })
    }

    /// Takes what is there. After the end, or too much of it, nothing is taken any more.
    fn drain(&mut self) {
        let Some(source) = &mut self.source else { return };
        let mut buffer = [0; 4096];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
            if self.bytes.len() > LONGEST {
                break;
            }
        }
        self.source = None;
    }
}

/// What the child has to say, one JSON document.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    /// The interfaces of each component.
    Components(Vec<Vec<Interface>>),
    Refused(String),
}

impl Report {
    /// `None` for anything but a whole report: the child ended before it.
    fn read(bytes: &[u8]) -> Option<Report> {
        let report: Value = serde_json::from_slice(bytes).ok()?;
        if let Some(reason) = report["refused"].as_str() {
            return Some(Report::Refused(reason.to_owned()));
        }
        let components = report["components"].as_array()?.iter();
        components
            .map(|component| component.as_array()?.iter().map(interface).collect())
            .collect::<Option<_>>()
            .map(Report::Components)
    }

    fn document(&self) -> Value {
        match self {
            Report::Refused(reason) => serde_json::json!({ "refused": reason }),
            Report::Components(components) => {
                let interface = |i: &Interface| {
                    serde_json::json!({
                        "name": i.name, "version": i.version, "replaces": i.replaces, "requires": i.requires,
                    })
                };
                let components = components.iter().map(|c| c.iter().map(interface).collect::<Value>());
                serde_json::json!({ "components": components.collect::<Value>() })
            }
        }
    }
}

fn interface(value: &Value) -> Option<Interface> {
    let version = |value: &Value| value.as_i64().and_then(|number| i32::try_from(number).ok());
    Some(Interface {
        name: value["name"].as_str()?.to_owned(),
        version: version(&value["version"])?,
        replaces: value["replaces"].as_array()?.iter().map(version).collect::<Option<_>>()?,
        requires: value["requires"]
            .as_array()?
            .iter()
            .map(|v| Some(v.as_str()?.to_owned()))
            .collect::<Option<_>>()?,
        // As the notes of a raw table say.
        per_reference: false,
        state: false,
        contract: None,
    })
}

/// Components in C have no names: they get that of their library.
fn named(components: Vec<Vec<Interface>>, path: &Path) -> Vec<Component> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.strip_prefix("lib").unwrap_or(&stem);
    let several = components.len() > 1;
    let name = |position| if several { format!("{stem}-{}", position + 1) } else { stem.to_owned() };
    components
        .into_iter()
        .enumerate()
        .map(|(position, interfaces)| Component {
            name: name(position),
            package: String::new(),
            package_version: String::new(),
            rustc: String::new(),
            interfaces,
        })
        .collect()
}

/// How the child ended, for a sentence.
fn ending(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let name = match Signal::from_named_raw(signal) {
                Some(Signal::SEGV) => "SIGSEGV, an access to memory that is not there",
                Some(Signal::BUS) => "SIGBUS, an access to memory that is not there",
                Some(Signal::ABORT) => "SIGABRT, abort",
                Some(Signal::ILL) => "SIGILL, an illegal instruction",
                Some(Signal::FPE) => "SIGFPE, an arithmetic error",
                Some(Signal::XCPU) => "SIGXCPU, too much processor time",
                Some(Signal::XFSZ) => "SIGXFSZ, it wrote to a file",
                Some(Signal::KILL) => "SIGKILL",
                Some(Signal::TRAP) => "SIGTRAP",
                Some(Signal::TERM) => "SIGTERM",
                _ => return format!("it was ended by signal {signal}"),
            };
            format!("it was ended by signal {signal} ({name})")
        }
        (None, Some(code)) => format!("it ended the process with exit code {code}"),
        (None, None) => "it ended the process".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_as_it_was_sent_and_half_of_one_is_none() {
        let interface = Interface {
            name: "A_iface1".into(),
            version: -1,
            replaces: vec![0, 3],
            requires: vec!["clock".into()],
            per_reference: false,
            state: false,
            contract: None,
        };
        for report in [
            Report::Components(vec![vec![interface.clone()], vec![]]),
            Report::Components(vec![]),
            Report::Refused("no".into()),
        ] {
            let text = report.document().to_string();
            assert_eq!(Report::read(text.as_bytes()), Some(report));
            assert_eq!(Report::read(&text.as_bytes()[..text.len() - 1]), None);
        }
    }
}
