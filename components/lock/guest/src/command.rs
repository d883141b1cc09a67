//! The commands that a supervisor starts: what they find when they run.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lcr_lock::Program;

use crate::family;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::signals::Signals;

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
    let there: Vec<_> = candidates.iter().filter_map(|file| Some((file, file.metadata().ok()?))).collect();
    let executable =
        |metadata: &std::fs::Metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
    if there.iter().any(|(_, metadata)| executable(metadata)) {
        return Ok(());
    }
    match there.first() {
        None => Err(Refusal::new(format!("there is no command {shown}"))
            .detail("the guest was not started, and nothing is locked")
            .code(127)),
        Some((file, _)) => Err(Refusal::new(format!("{} cannot be executed", file.display()))
            .detail("the guest was not started, and nothing is locked")
            .code(126)),
    }
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
