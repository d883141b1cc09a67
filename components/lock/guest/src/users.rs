//! Root, who asks for other users' guests.
//!
//! Root could do anything in another user's run directory, and that user could have put
//! anything there. So nothing is done there as root: this program is executed anew, as the
//! directory's owner, and asked for the same.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::arguments::OfUser;
use crate::refusal::Refusal;

/// A run directory that has guests, and whose it is.
#[derive(Debug)]
struct Owned {
    directory: PathBuf,
    user: u32,
    group: u32,
}

impl Owned {
    /// This program, as the owner.
    fn program(&self) -> Command {
        // Also where its own path leads through directories of root's alone.
        let mut program = Command::new("/proc/self/exe");
        program.uid(self.user).gid(self.group).env("LCR_RUNTIME_DIR", &self.directory);
        program
    }
}

/// The run directories of a user, or of all.
fn directories(user: Option<u32>) -> Result<Vec<Owned>, Refusal> {
    if !rustix::process::geteuid().is_root() {
        return Err(Refusal::new("only root may ask for other users' guests"));
    }
    let owned = |directory: PathBuf| {
        // Not where a link leads.
        let metadata = directory.symlink_metadata().ok().filter(std::fs::Metadata::is_dir)?;
        directory.join("guests").symlink_metadata().ok().filter(std::fs::Metadata::is_dir)?;
        let (owner, group) = (metadata.uid(), metadata.gid());
        user.is_none_or(|user| user == owner).then_some(Owned { directory, user: owner, group })
    };
    Ok(lcr_control::place::directories().into_iter().filter_map(owned).collect())
}

/// The number of a user, who is written as that or as a name.
pub(crate) fn number(user: &str) -> Result<u32, String> {
    if let Ok(number) = user.parse() {
        return Ok(number);
    }
    let unknown = || format!("there is no user {user}");
    let name = std::ffi::CString::new(user).map_err(|_| unknown())?;
    // SAFETY: there is one thread yet, the name ends with a NUL, and the answer is read
    // before it is asked for another.
    let found = unsafe { libc::getpwnam(name.as_ptr()).as_ref() };
    found.map(|found| found.pw_uid).ok_or_else(unknown)
}

/// Goes on as the owner of a guest, if one is named. Returns if none is.
pub(crate) fn become_owner(of: &OfUser, name: &str) -> crate::Result<()> {
    let Some(user) = of.user else { return Ok(()) };
    let all = directories(Some(user))?;
    let has = |owned: &&Owned| owned.directory.join("guests").join(format!("{name}.json")).exists();
    let Some(owned) = all.iter().find(has) else {
        let searched: Vec<String> = all.iter().map(|owned| owned.directory.display().to_string()).collect();
        let searched = if searched.is_empty() { "none".to_owned() } else { searched.join(", ") };
        return Err(Refusal::new(format!("user {user} has no guest {name}"))
            .detail(format!("the run directories of that user: {searched}"))
            .detail("one that is elsewhere is named by LCR_RUNTIME_DIR"));
    };
    let error = owned.program().args(without_user()).exec();
    Err(Refusal::new(format!("lcr-guest cannot be executed as user {user}: {error}")))
}

/// The arguments of this program, but for those that name a user.
fn without_user() -> Vec<OsString> {
    let mut skip = false;
    std::env::args_os()
        .skip(1)
        .filter(|argument| {
            let names = argument == "--user";
            let keep = !skip && !names && !argument.as_encoded_bytes().starts_with(b"--user=");
            skip = names && !skip;
            keep
        })
        .collect()
}

/// The guests of a user, or of all: as `list --json` has them, with `user`, and what went
/// wrong.
pub(crate) fn guests(user: Option<u32>) -> Result<(Vec<Value>, Option<Refusal>), Refusal> {
    let (mut guests, mut failed) = (Vec::new(), None);
    for owned in directories(user)? {
        let output = owned.program().args(["list", "--json"]).output();
        let output = output.map_err(|error| {
            Refusal::new(format!("lcr-guest cannot be executed as user {}: {error}", owned.user))
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or_default().trim_start_matches("lcr-guest: ").to_owned();
            failed = Some(Refusal::new(said));
        }
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        guests.extend(listed.as_array().into_iter().flatten().cloned().map(|mut guest| {
            guest["user"] = owned.user.into();
            guest
        }));
    }
    Ok((guests, failed))
}
