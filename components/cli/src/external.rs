//! Commands that are programs of their own: `lcr guest …` is `lcr-guest …`.
//!
//! A command that is none of ours is looked for as `lcr-<command>`: beside this program,
//! which is where the one that belongs to it is, then in `PATH`.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::error::ErrorKind;

/// Becomes the program that the arguments name, or ends with what is wrong with them.
pub(crate) fn or_exit(error: &clap::Error) -> ! {
    let mut arguments = std::env::args_os().skip(1);
    let wanted = arguments.next().filter(|_| error.kind() == ErrorKind::InvalidSubcommand);
    let Some(program) = wanted.as_deref().and_then(find) else { error.exit() };
    let failed = Command::new(&program).args(arguments).exec();
    crate::Refusal::new(format!("{} cannot be executed: {failed}", program.display())).print();
    std::process::exit(1);
}

fn find(command: &OsStr) -> Option<PathBuf> {
    if Path::new(command).components().count() != 1 || command.as_encoded_bytes().contains(&b'/') {
        return None;
    }
    let mut name = OsString::from("lcr-");
    name.push(command);
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = beside.into_iter().chain(std::env::split_paths(&path));
    directories.map(|directory| directory.join(&name)).find(|file| {
        file.metadata().is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0)
    })
}
