//! The commands that a supervisor starts: what they find when they run.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lcr_lock::life::NOT_STARTED;
use lcr_lock::{Kind, Operation, Program};

use crate::family;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::signals::Signals;

/// A script's interpreter may be a script: so often, as the kernel has it.
const DEEPEST: usize = 5;

/// Refuses a command that cannot be started, before anything is locked for it.
pub(crate) fn check(command: &[OsString]) -> Result<(), Refusal> {
    let Some(program) = command.first() else { return Ok(()) };
    let shown = Path::new(program).display();
    let candidates: Vec<PathBuf> = if program.as_encoded_bytes().contains(&b'/') {
        vec![program.into()]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
        std::env::split_paths(&path).map(|directory| directory.join(program)).collect()
    };
    let there: Vec<_> = candidates.iter().filter(|file| file.metadata().is_ok()).collect();
    if let Some(file) = there.iter().find(|file| is_executable(file)) {
        return check_interpreter(file, DEEPEST);
    }
    Err(match there.first() {
        None => not_started(format!("there is no command {shown}"), 127),
        Some(file) => not_started(format!("{} cannot be executed", file.display()), 126),
    })
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// A script is executed by the program behind its `#!`: where that is not there, the
/// kernel says no more than that something is not.
fn check_interpreter(file: &Path, deepest: usize) -> Result<(), Refusal> {
    let Some(interpreter) = interpreter(file).filter(|_| deepest > 0) else { return Ok(()) };
    let (file, shown) = (file.display(), interpreter.display());
    if !interpreter.exists() {
        let reason = format!("{file} is a script for the interpreter {shown}, and there is no {shown}");
        return Err(not_started(reason, 127));
    }
    if !is_executable(&interpreter) {
        let reason = format!("{file} is a script for the interpreter {shown}, which cannot be executed");
        return Err(not_started(reason, 126));
    }
    check_interpreter(&interpreter, deepest - 1)
}

/// What stands behind a file's `#!`, up to the first blank.
fn interpreter(file: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    File::open(file).ok()?.take(4096).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.split(|byte| b" \t".contains(byte)).find(|word| !word.is_empty())?;
    Some(OsStr::from_bytes(word).into())
}

fn not_started(reason: String, code: u8) -> Refusal {
    Refusal::new(reason).detail("the guest was not started, and nothing is locked").code(code)
}

/// The exit code for a command that the kernel would not execute: 127 if something is not
/// there (the interpreter that an ELF file names), else 126.
pub(crate) fn code_of(error: &lcr_lock::Error) -> Option<u8> {
    let of_command = error.operation == Operation::Register && error.reason.starts_with(NOT_STARTED);
    of_command.then_some(if error.kind == Kind::NotFound { 127 } else { 126 })
}

/// A command, after that of the driver's supervisor if it needs one.
pub(crate) fn make(command: &[OsString], supervisor: Option<Program>) -> Command {
    let own: Vec<OsString> = supervisor
        .into_iter()
        .flat_map(|program| {
            let arguments = program.arguments.into_iter().map(OsString::from);
            std::iter::once(program.path.into_os_string()).chain(arguments)
        })
        .collect();
    let mut all = own.iter().chain(command).map(OsString::as_os_str);
    let mut made = Command::new(all.next().unwrap_or(OsStr::new("")));
    made.args(all);
    made
}

/// Tells a command about the guest.
pub(crate) fn tell(command: &mut Command, record: &Record) {
    command.env("LCR_GUEST_NAME", &record.name).env("LCR_GUEST_UUID", record.uuid.to_string());
    command.env(family::VARIABLE, &record.mark);
}

/// Has the command's process say who it is before it runs: a supervisor that is killed
/// just then has not come to write it down. And gives it its signals back.
pub(crate) fn announced(command: &mut Command, born: &File, signals: &Signals) {
    signals.restored_in(command);
    let number = born.as_raw_fd();
    let announce = move || {
        let mut stat = [0_u8; 512];
        // SAFETY: system calls alone, on a constant path and on memory of this process;
        // the file is open in the child as it was in its parent, which keeps it open
        // until the command runs.
        unsafe {
            let own = libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            let length = libc::read(own, stat.as_mut_ptr().cast(), stat.len());
            libc::close(own);
            if length <= 0 || libc::pwrite(number, stat.as_ptr().cast(), length.cast_unsigned(), 0) != length
            {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes four system calls, and allocates nothing.
    unsafe { command.pre_exec(announce) };
}
