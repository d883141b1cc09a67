//! A closer look at a library that does not say what it offers.
//!
//! What such a library registers is known when its ELF constructors have run, and those
//! can do anything. So they run in a child process: this very program, started anew. It
//! never gets to its `main`: [`at_start`], the first ELF constructor of a program with
//! the C calls, sees what the child is for, loads the library, reports, and ends it. The
//! child has a deadline, limits, no input, a process group that is killed at the end,
//! and dies with its parent. What a crash, an abort, an exit or a hang leaves of it is a
//! sentence.
//!
//! Only a program that would do so is started anew: one whose own `at_start` has run
//! before `main`. Where liblcr was loaded later (by a plug-in, say), or the program has
//! more rights than its caller, nothing is asked, and the library offers nothing.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
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
pub(crate) const OLDER: &str = "exports `lcr_comp_get`, which nothing calls any more: call \
                                `lcr_component_register(&comp)` from a function with \
                                `__attribute__((constructor))` instead";

/// Tells a child which library to look into.
const VARIABLE: &str = "LCR_PROBE_CHILD";
/// What a library's constructors may take, in wall-clock time.
const DEADLINE: Duration = Duration::from_secs(5);
/// A report is not longer.
const LONGEST: usize = 1 << 20;

/// Would this program, started anew, look into a library?
static ABLE: AtomicBool = AtomicBool::new(false);

/// What a library registers when it is loaded.
pub(crate) fn ask(path: &Path) -> Result<Vec<Interface>, String> {
    if !ABLE.load(Ordering::Acquire) {
        return Err(
            "its data describe no component, and this program cannot look into it: name the component in \
                    initialised data"
                .to_owned(),
        );
    }
    look(path).unwrap_or_else(|error| Err(format!("cannot be probed: {error}")))
}

fn look(path: &Path) -> std::io::Result<Result<Vec<Interface>, String>> {
    let mut child = Command::new("/proc/self/exe")
        .env(VARIABLE, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let ended = watch(&mut child);
    // The library may have started processes of its own. The child is not waited for
    // yet, so the number of its group is still its own.
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait()?;
    Ok(match ended? {
        None => {
            Err(format!("in a child process its constructors did not end within {} s", DEADLINE.as_secs()))
        }
        Some(report) => read(&report)
            .unwrap_or_else(|| Err(format!("when it was loaded by a child process, {}", ending(status)))),
    })
}

/// What the child writes until it ends; none if its time is over before.
fn watch(child: &mut Child) -> std::io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + DEADLINE;
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(std::io::ErrorKind::InvalidInput)?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let mut report = Vec::new();
    let Some(pipe) = child.stdout.take().map(OwnedFd::from) else { return Ok(Some(report)) };
    rustix::io::ioctl_fionbio(&pipe, true)?;
    let mut pipe = Some(File::from(pipe));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut waiting = vec![PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)];
        waiting.extend(pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut waiting, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_over = !waiting[0].revents().is_empty();
        drop(waiting);
        drain(&mut pipe, &mut report);
        if is_over {
            return Ok(Some(report));
        }
        if left.is_zero() {
            return Ok(None);
        }
    }
}

/// Takes what is there. After the end, or too much of it, nothing is taken any more.
fn drain(pipe: &mut Option<File>, report: &mut Vec<u8>) {
    let Some(source) = pipe else { return };
    let mut buffer = [0; 4096];
    while report.len() <= LONGEST {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => report.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Err(_) => break,
        }
    }
    *pipe = None;
}

/// How the child ended, for a sentence.
fn ending(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("it was ended by signal {signal}"),
        (None, Some(code)) => format!("it ended the process with exit code {code}"),
        (None, None) => "it ended the process".into(),
    }
}

/// A child's report; none for anything but a whole one.
fn read(report: &[u8]) -> Option<Result<Vec<Interface>, String>> {
    let report: Value = serde_json::from_slice(report).ok()?;
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
            per_reference: false,
            state: false,
            contract: None,
        })
    };
    let interfaces: Vec<_> = report["interfaces"].as_array()?.iter().map(interface).collect::<Option<_>>()?;
    Some(if interfaces.is_empty() { Err(NOTHING.to_owned()) } else { Ok(interfaces) })
}

/// Of a library that says it would.
pub(crate) const NOTHING: &str = "it registers no component when it is loaded";

/// What a program with the C calls does first: if it is a child, look into the library,
/// and end.
pub(crate) fn at_start() {
    if super::is_secure() || !linker::is_starting() {
        return;
    }
    match env::var_os(VARIABLE) {
        Some(path) => report(&path),
        None => ABLE.store(true, Ordering::Release),
    }
}

/// The child's part.
fn report(path: &OsStr) -> ! {
    let write = || -> std::io::Result<()> {
        // Should the parent die, nobody waits for this process any more.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut report = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 100)?);
        // So that a constructor which greets the world does not garble it.
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        let document = match registered(Path::new(path)) {
            Ok(interfaces) => json!({ "interfaces": interfaces.iter().map(shown).collect::<Value>() }),
            Err(reason) => json!({ "refused": reason }),
        };
        report.write_all(document.to_string().as_bytes())
    };
    let written = write();
    // SAFETY: it ends the process, and does nothing else: neither `exit` handlers nor
    // destructors of the library run.
    unsafe { libc::_exit(written.is_err().into()) }
}

fn registered(path: &Path) -> Result<Vec<Interface>, String> {
    let candidate = Candidate::open(path, &Policy::default()).map_err(|error| error.to_string())?;
    limit().map_err(|error| format!("no limits can be set: {error}"))?;
    let object = candidate.map().map_err(|error| error.to_string())?;
    let library = CLibrary::new(object, None);
    Ok(library.registrations().iter().flat_map(|registration| component(registration).interfaces).collect())
}

/// What a library may take.
fn limit() -> std::io::Result<()> {
    let most = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::Core, most(0))?;
    setrlimit(Resource::Cpu, most(DEADLINE.as_secs() + 1))?;
    setrlimit(Resource::Fsize, most(0))?;
    Ok(())
}

fn shown(interface: &Interface) -> Value {
    let Interface { name, version, replaces, requires, .. } = interface;
    json!({ "name": name, "version": version, "replaces": replaces, "requires": requires })
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
        let text = json!({ "interfaces": [shown(&interface)] }).to_string();
        assert_eq!(read(text.as_bytes()), Some(Ok(vec![interface])));
        assert_eq!(read(&text.as_bytes()[..text.len() - 1]), None);
        assert_eq!(read(br#"{"refused":"no"}"#), Some(Err("no".into())));
        assert_eq!(read(br#"{"interfaces":[]}"#), Some(Err(NOTHING.into())));
    }
}
