//! A look into a library that says nothing of itself.
//!
//! What a C library registers is known when its ELF constructors have run, and those can
//! do anything. So they run in a child process: this very program, started anew
//! ([`look`]). The child has a deadline, limits, no input, a process group that is killed
//! at the end, and dies with its parent ([`answer`]). What a crash, an abort, an exit or a
//! hang leaves of it is an [`Outcome`]; the caller is never hurt.
//!
//! To run a library's constructors is to let its author be this user. So the child loads
//! only what a program of this user would load: owner and mode are checked, and what was
//! checked is what is loaded ([`Policy`]).
//!
//! A program with the C calls does this when it references something that only such a look
//! can find. Its child never gets to `main`: `at_start`, the first ELF constructor, sees
//! what it is for. Only a program that would do so is started anew: one whose own
//! `at_start` has run before `main`. Where liblcr was loaded later (by a plug-in, say), or
//! the program has more rights than its caller, nothing is asked, and the library offers
//! nothing. The command `lcr` has a hidden command for it.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process_group, pidfd_open, setrlimit};
use serde_json::{Value, json};

use super::{CLibrary, Candidate, Policy};
use crate::factory::component;
use crate::metadata::Interface;

/// What to do about a library from before components registered themselves.
pub const OLDER: &str = "exports `lcr_comp_get`, which nothing calls any more: call \
                         `lcr_component_register(&comp)` from a function with \
                         `__attribute__((constructor))` instead";
/// Of a library that says it would register something.
pub(crate) const NOTHING: &str = "it registers no component when it is loaded";

/// What a library's constructors may take, in wall-clock time.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Tells a child which library to look into.
const VARIABLE: &str = "LCR_PROBE_CHILD";
/// A report, or what is said beside it, is not longer.
const LONGEST: usize = 1 << 20;

/// What a library registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// The interfaces of each component that registered itself.
    pub components: Vec<Vec<Interface>>,
    /// Why other components were passed over.
    pub passed_over: Vec<String>,
}

/// What came of a look.
#[derive(Debug)]
pub enum Outcome {
    /// What registered itself.
    Registered(Registered),
    /// The child did not load it; why, with the file's name.
    Refused(String),
    /// The library's constructors did not end within [`DEADLINE`].
    Late,
    /// The child ended before it had reported.
    Ended(ExitStatus),
}

/// What came of a look, and what the child wrote to standard error, if that is a pipe.
#[derive(Debug)]
pub struct Looked {
    /// What was found.
    pub outcome: Outcome,
    /// At most 1 MiB of what was written.
    pub said: Vec<u8>,
}

/// Has a child process look into a library. `child` starts a program that [`answer`]s;
/// its standard input, standard output and process group are taken care of here.
///
/// # Errors
///
/// When it cannot be started, or not be waited for.
pub fn look(child: &mut Command) -> io::Result<Looked> {
    let mut child = child.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn()?;
    let watched = watch(&mut child);
    // The library may have started processes of its own. The child is not waited for
    // yet, so the number of its group is still its own.
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait()?;
    let Watched { report, said, is_late } = watched?;
    let outcome = match read(&report) {
        _ if is_late => Outcome::Late,
        Some(Ok(registered)) => Outcome::Registered(registered),
        Some(Err(reason)) => Outcome::Refused(reason),
        None => Outcome::Ended(status),
    };
    Ok(Looked { outcome, said })
}

/// What a child writes until it ends, or its time is over.
struct Watched {
    report: Vec<u8>,
    said: Vec<u8>,
    is_late: bool,
}

/// A process that the child leaves behind may hold the pipes: their end is not waited for.
fn watch(child: &mut Child) -> io::Result<Watched> {
    let deadline = Instant::now() + DEADLINE;
    let mut report = Stream::new(child.stdout.take().map(OwnedFd::from))?;
    let mut said = Stream::new(child.stderr.take().map(OwnedFd::from))?;
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
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
        if is_over || left.is_zero() {
            return Ok(Watched { report: report.bytes, said: said.bytes, is_late: !is_over });
        }
    }
}

/// A pipe that is read as far as it goes.
struct Stream {
    source: Option<File>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(pipe: Option<OwnedFd>) -> io::Result<Stream> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Stream { source: pipe.map(File::from), bytes: Vec::new() })
    }

    /// Takes what is there. After the end, or too much of it, nothing is taken any more.
    fn drain(&mut self) {
        let Some(source) = &mut self.source else { return };
        let mut buffer = [0; 4096];
        while self.bytes.len() <= LONGEST {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.source = None;
    }
}

/// How a child ended, for a sentence.
#[must_use]
pub fn ending(status: ExitStatus) -> String {
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

/// The child's part: does `look`, reports what it answers (what registered itself, or why
/// it was not loaded), and ends the process.
///
/// The report goes to what standard output is when this begins. `look` has a standard
/// output that is nowhere, so that a constructor which greets the world does not garble it.
pub fn answer(look: impl FnOnce() -> Result<Registered, String>) -> ! {
    let write = || -> io::Result<()> {
        // Should the parent die, nobody waits for this process any more.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut report = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 100)?);
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        report.write_all(document(&look()).to_string().as_bytes())
    };
    let written = write();
    // SAFETY: it ends the process, and does nothing else: neither `exit` handlers nor
    // destructors of the library run.
    unsafe { libc::_exit(written.is_err().into()) }
}

/// Takes from this process, for good, what a library's constructors do not need: to dump
/// core, to write files, and more processor time than [`DEADLINE`].
///
/// # Errors
///
/// The system's.
pub fn limit() -> io::Result<()> {
    let most = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::Core, most(0))?;
    setrlimit(Resource::Cpu, most(DEADLINE.as_secs() + 1))?;
    setrlimit(Resource::Fsize, most(0))?;
    Ok(())
}

type Report = Result<Registered, String>;

fn document(report: &Report) -> Value {
    let interface = |interface: &Interface| {
        let Interface { name, version, replaces, requires, .. } = interface;
        json!({ "name": name, "version": version, "replaces": replaces, "requires": requires })
    };
    match report {
        Ok(Registered { components, passed_over }) => {
            let components = components.iter().map(|c| c.iter().map(interface).collect::<Value>());
            json!({ "components": components.collect::<Value>(), "passed_over": passed_over })
        }
        Err(reason) => json!({ "refused": reason }),
    }
}

/// None for anything but a whole report: the child ended before it.
fn read(bytes: &[u8]) -> Option<Report> {
    let report: Value = serde_json::from_slice(bytes).ok()?;
    if let Some(reason) = report["refused"].as_str() {
        return Some(Err(reason.to_owned()));
    }
    let number = |value: &Value| value.as_i64().and_then(|number| i32::try_from(number).ok());
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let interface = |value: &Value| {
        Some(Interface {
            name: text(&value["name"])?,
            version: number(&value["version"])?,
            replaces: value["replaces"].as_array()?.iter().map(number).collect::<Option<_>>()?,
            requires: value["requires"].as_array()?.iter().map(text).collect::<Option<_>>()?,
            // As the notes of a raw table say.
            per_reference: false,
            state: false,
            contract: None,
        })
    };
    let components = report["components"].as_array()?.iter();
    let components = components.map(|c| c.as_array()?.iter().map(interface).collect());
    let passed_over = report["passed_over"].as_array()?.iter().map(text);
    Some(Ok(Registered {
        components: components.collect::<Option<_>>()?,
        passed_over: passed_over.collect::<Option<_>>()?,
    }))
}

/// Would this program, started anew, look into a library?
static ABLE: AtomicBool = AtomicBool::new(false);

/// What a library registers when it is loaded.
pub(crate) fn ask(path: &Path) -> Result<Registered, String> {
    if !ABLE.load(Ordering::Acquire) {
        return Err(
            "its data describe no component, and this program cannot look into it: name the component in \
                    initialised data"
                .to_owned(),
        );
    }
    let looked = look(Command::new("/proc/self/exe").env(VARIABLE, path).stderr(Stdio::null()));
    match looked.map_err(|error| format!("cannot be probed: {error}"))?.outcome {
        Outcome::Registered(registered) => Ok(registered),
        Outcome::Refused(reason) => Err(reason),
        Outcome::Late => {
            Err(format!("in a child process its constructors did not end within {} s", DEADLINE.as_secs()))
        }
        Outcome::Ended(status) => Err(format!("when it was loaded by a child process, {}", ending(status))),
    }
}

/// What a program with the C calls does first: if it is a child, look into the library,
/// and end.
pub(crate) fn at_start() {
    if super::is_secure() || !linker::is_starting() {
        return;
    }
    match env::var_os(VARIABLE) {
        Some(path) => answer(|| registered(&path)),
        None => ABLE.store(true, Ordering::Release),
    }
}

fn registered(path: &OsStr) -> Report {
    let candidate =
        Candidate::open(Path::new(path), &Policy::default()).map_err(|error| error.to_string())?;
    limit().map_err(|error| format!("no limits can be set: {error}"))?;
    let object = candidate.map().map_err(|error| error.to_string())?;
    let library = CLibrary::new(object, None);
    let components = library.registrations().iter().map(|registration| component(registration).interfaces);
    Ok(Registered { components: components.collect(), passed_over: library.refused().to_vec() })
}

#[cfg(not(target_feature = "crt-static"))]
mod linker {
    use std::ffi::c_void;

    use super::super::map::linker::any_frame;

    /// Where the object begins that holds an address.
    fn base(address: usize) -> usize {
        // SAFETY: all-zero is a value of this C structure, which the call fills in.
        let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
        // SAFETY: any address will do.
        match unsafe { libc::dladdr(address as *const c_void, &raw mut info) } {
            0 => 0,
            _ => info.dli_fbase.addr(),
        }
    }

    /// Is the program just being started, so that nothing of it has run? The program's
    /// own constructors run then; one of a shared object does if it was called by the
    /// dynamic linker, and that by nobody: else somebody has called dlopen.
    pub(super) fn is_starting() -> bool {
        // SAFETY: both answer numbers.
        let (entry, linker) = unsafe { (libc::getauxval(libc::AT_ENTRY), libc::getauxval(libc::AT_BASE)) };
        let own = base(is_starting as *const () as usize);
        if own == 0 || linker == 0 {
            return false;
        }
        if own == base(entry as usize) {
            return true;
        }
        !any_frame(|address| address != 0 && ![own, linker as usize].contains(&base(address)))
    }
}

/// A static program loads nothing.
#[cfg(target_feature = "crt-static")]
mod linker {
    pub(super) fn is_starting() -> bool {
        false
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
        let of = |components| Registered { components, passed_over: vec!["one without a name".to_owned()] };
        for report in [Ok(of(vec![vec![interface], vec![]])), Ok(Registered::default()), Err("no".to_owned())]
        {
            let text = document(&report).to_string();
            assert_eq!(read(text.as_bytes()), Some(report));
            assert_eq!(read(&text.as_bytes()[..text.len() - 1]), None);
        }
    }
}
