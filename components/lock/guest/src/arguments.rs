//! What is asked for.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{ArgGroup, Args, Parser, Subcommand};
use lcr_lock::{Lease, Mode, OnFailure, Resource, Uuid};

/// Runs any command as a guest under a lock: no two write one disk.
#[derive(Debug, Parser)]
#[command(name = "lcr-guest", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct LcrGuest {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Run),
    List(List),
    Attach(Attach),
    Plug(Plug),
    Unplug(Plug),
    Migrate(Migrate),
    Stop(Stop),
    #[command(name = crate::within::COMMAND, hide = true)]
    Within(Within),
}

/// Starts a command as a guest, once it has its disks' locks, and supervises it.
///
/// Exits with the guest's status, or 128 and the signal that ended it; with 125 when it
/// was refused, 127 when the command is not there, 126 when it cannot be executed.
///
/// Signals that a process sends to the supervisor (SIGHUP, SIGINT, SIGQUIT, SIGTERM,
/// SIGUSR1, SIGUSR2) are passed on to the guest. Those that the terminal sends (Ctrl-C)
/// reach the guest by themselves. The supervisor ends with its guest.
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The lock driver: file, nop, sanlock, or an interface's full name. Those that are
    /// not compiled in are looked for in LCR_PATH.
    #[arg(long, default_value = "file", value_name = "D")]
    pub(crate) driver: String,
    /// A parameter for the driver, as directory=/srv/leases for `file`. One that is
    /// called directory is a path, from here if it is relative.
    #[arg(long = "parameter", value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<Parameter>,
    /// What the guest is called: in refusals, in lists, in commands.
    #[arg(long)]
    pub(crate) name: Name,
    /// What it is on every host; a random one if none is given.
    #[arg(long, value_name = "U")]
    pub(crate) uuid: Option<Uuid>,
    #[command(flatten)]
    pub(crate) needs: Needs,
    /// What is done to the guest when a lock is lost: poweroff, restart, pause or ignore.
    /// A driver that cannot do it refuses it; without this, it does what it does.
    #[arg(long, value_name = "ACTION", default_value = "default", value_parser = on_failure)]
    #[arg(hide_default_value = true)]
    pub(crate) on_failure: OnFailure,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// What a guest needs.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Needs {
    /// A disk that is for this guest alone, or shared with those that agree, or only read.
    #[arg(long = "disk", value_name = "PATH[,shared|,readonly]")]
    pub(crate) disks: Vec<Disk>,
    /// A lease that was set up beforehand: NAME in LOCKSPACE (where the driver has such),
    /// kept BYTES into the file or device PATH. A comma in a value is written twice.
    #[arg(
        long = "lease", value_parser = lease,
        value_name = "NAME,path=PATH[,offset=BYTES][,lockspace=LOCKSPACE][,shared|,readonly]"
    )]
    pub(crate) leases: Vec<Lease>,
}

/// Shows the guests of this run directory. One that has ended unsupervised is shown
/// once, as ended.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// For programs.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) of: OfUser,
    /// Those of all users, for root.
    #[arg(long, conflicts_with = "user")]
    pub(crate) all_users: bool,
}

/// Whose guest it is.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct OfUser {
    /// Another user's guest, for root: done as that user.
    #[arg(long, value_name = "USER", value_parser = crate::users::number)]
    pub(crate) user: Option<u32>,
}

/// Supervises a guest that has lost its supervisor: it runs on, and is locked.
///
/// One that has lost its locks is not taken up: end it. One that stands still, since a
/// migration failed and its locks were gone, has them taken again, and goes on; if it has
/// its supervisor still, that does it, and this exits 0.
///
/// Exits 0 when the guest has ended: how, only its parent is told. Ctrl-C ends this
/// supervisor and not the guest.
#[derive(Args, Debug)]
pub(crate) struct Attach {
    /// The guest.
    pub(crate) name: Name,
}

/// Takes (unplug: gives up) disks and leases of a guest that runs.
///
/// Plug before the guest gets the disk: refused, it must not. Unplug when the guest has
/// given it up: where the lock cannot be, that is a warning, and it ends with the guest.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").args(["disks", "leases"]).required(true).multiple(true)))]
pub(crate) struct Plug {
    /// The guest.
    pub(crate) name: Name,
    #[command(flatten)]
    pub(crate) needs: Needs,
    #[command(flatten)]
    pub(crate) of: OfUser,
}

/// Hands a guest over to another run directory, with its locks, and supervises it there.
///
/// Without COMMAND the process goes on as it is. With COMMAND, that is the guest over
/// there: the process here stands still (SIGSTOP) while the locks pass over, and is
/// killed when they have. With --move, COMMAND is started before that, and must wait for
/// what PROGRAM moves, as `qemu -incoming` does.
///
/// Whatever fails before the locks have passed over, the guest goes on where it was, and
/// this exits 125. Should its locks be gone by then, it stands still, and this says so.
/// With COMMAND, a guest that has other processes than its own does not move.
#[derive(Args, Debug)]
pub(crate) struct Migrate {
    /// The guest.
    pub(crate) name: Name,
    /// The other run directory: its LCR_RUNTIME_DIR.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// A parameter for the driver there, in the place of the one that it has here: for
    /// `sanlock`, the other host's host_id.
    #[arg(long = "parameter", value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<Parameter>,
    /// Moves what is in the guest, run by `sh -c`: with success, the guest stands still
    /// here and is whole there; with any other status, the migration is cancelled.
    /// LCR_GUEST_NAME, LCR_GUEST_UUID, LCR_GUEST_PID, LCR_GUEST_INCOMING_PID and
    /// LCR_GUEST_TO tell it about whom.
    #[arg(long = "move", value_name = "PROGRAM")]
    pub(crate) mover: Option<OsString>,
    /// The guest's command over there, and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Ends a guest, supervised or not: SIGTERM, and after a while SIGKILL; then, in the same
/// way, what it has left behind. Its locks are held until nothing of it is left.
#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// The guest.
    pub(crate) name: Name,
    /// How long it may take to end by itself.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub(crate) kill_after: u32,
    #[command(flatten)]
    pub(crate) of: OfUser,
}

#[derive(Args, Debug)]
pub(crate) struct Within {
    /// The descriptor of the supervisor's socket.
    pub(crate) channel: i32,
    pub(crate) description: String,
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

/// How long a name may be. Its supervisor's socket is bound as
/// `/proc/self/fd/N/.NAME.sock`, and a socket's path has at most 107 bytes: a number of six
/// digits has its place.
const LONGEST: usize = 80;

/// What a guest is called: also files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.+@:".contains(c);
        let length = text.len();
        if text.is_empty() || length > LONGEST || text.starts_with(['.', '-']) || !text.chars().all(fits) {
            let long = if length > LONGEST { format!("; this has {length} bytes") } else { String::new() };
            return Err(format!(
                "a guest's name is up to {LONGEST} letters, digits and `-_.+@:`, and begins with neither `.` \
                 nor `-`{long}"
            ));
        }
        Ok(Name(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The parameter that is a path with every driver that has it: made absolute, for `attach`
/// and the guest's own process may stand in another directory.
const DIRECTORY: &str = "directory";

/// A parameter for a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter(pub(crate) String, pub(crate) String);

impl FromStr for Parameter {
    type Err = String;

    fn from_str(text: &str) -> Result<Parameter, String> {
        match text.split_once('=') {
            Some((DIRECTORY, value)) => {
                let absolute = std::path::absolute(value).map_err(|error| format!("{DIRECTORY}: {error}"))?;
                let value = absolute.to_str().ok_or("the current directory is not UTF-8")?;
                Ok(Parameter(DIRECTORY.to_owned(), value.to_owned()))
            }
            Some((key, value)) if !key.is_empty() => Ok(Parameter(key.to_owned(), value.to_owned())),
            _ => Err("a parameter is written KEY=VALUE".into()),
        }
    }
}

/// A disk, by its absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// It stands in records for programs, so it is text.
    pub(crate) path: String,
    pub(crate) mode: Mode,
}

impl Disk {
    pub(crate) fn resource(&self) -> Resource {
        Resource::disk(&self.path, self.mode)
    }
}

impl FromStr for Disk {
    type Err = String;

    fn from_str(text: &str) -> Result<Disk, String> {
        let split = text.rsplit_once(',');
        let (path, mode) = match split.map(|(path, word)| (path, Mode::of_word(word), word)) {
            Some((path, Some(mode), _)) => (path, mode),
            // A path may have a comma.
            Some((_, None, word)) if !Path::new(text).exists() => {
                return Err(format!(
                    "there is no mode `{word}`, and no file {text}: write PATH for this guest alone, \
                     PATH,shared or PATH,readonly"
                ));
            }
            _ => (text, Mode::Exclusive),
        };
        if path.is_empty() {
            return Err("no disk is named: write its PATH".into());
        }
        let absolute = std::path::absolute(path).map_err(|error| format!("{path}: {error}"))?;
        let path = absolute.to_str().ok_or("the current directory is not UTF-8")?.to_owned();
        Ok(Disk { path, mode })
    }
}

fn on_failure(word: &str) -> Result<OnFailure, String> {
    OnFailure::of_word(word).ok_or_else(|| "the actions are poweroff, restart, pause and ignore".to_owned())
}

/// `NAME,path=PATH[,offset=BYTES][,lockspace=LOCKSPACE][,shared|,readonly]`.
fn lease(text: &str) -> Result<Lease, String> {
    // Two commas are one of a value; a NUL is in no argument.
    let text = text.replace(",,", "\0");
    let mut words = text.split(',').map(|word| word.replace('\0', ","));
    let name = words.next().filter(|name| !name.is_empty() && !name.contains('='));
    let name = name.ok_or("a lease begins with its name: NAME,path=PATH")?;
    let mut lease =
        Lease { name, lockspace: String::new(), path: PathBuf::new(), offset: 0, mode: Mode::Exclusive };
    for word in words {
        match word.split_once('=') {
            Some(("path", "")) => return Err("no path stands behind `path=`".into()),
            Some(("path", path)) => {
                lease.path = std::path::absolute(path).map_err(|error| format!("{path}: {error}"))?;
            }
            Some(("lockspace", lockspace)) => lockspace.clone_into(&mut lease.lockspace),
            Some(("offset", offset)) => {
                lease.offset =
                    offset.parse().map_err(|_| format!("the offset `{offset}` is no number of bytes"))?;
            }
            None if Mode::of_word(&word).is_some() => lease.mode = Mode::of_word(&word).unwrap_or_default(),
            _ => {
                return Err(format!(
                    "`{word}` says nothing of a lease: there are path=PATH, offset=BYTES, lockspace=LOCKSPACE, shared, \
                     readonly and exclusive"
                ));
            }
        }
    }
    match lease.path.to_str() {
        Some("") => Err(format!("the lease {} has no place: add path=PATH", lease.name)),
        // It stands in records for programs, so it is text.
        None => Err("the current directory is not UTF-8".to_owned()),
        Some(_) => Ok(lease),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_a_path_and_a_mode() {
        let disk = |text: &str| text.parse::<Disk>().map(|disk| (disk.path, disk.mode));
        assert_eq!(disk("/a"), Ok(("/a".into(), Mode::Exclusive)));
        assert_eq!(disk("/a,shared"), Ok(("/a".into(), Mode::Shared)));
        assert_eq!(disk("/a,b,readonly"), Ok(("/a,b".into(), Mode::ReadOnly)));
        assert!(disk("/no/such,rw").unwrap_err().starts_with("there is no mode `rw`"));
        let here = std::env::current_dir().unwrap().join("a");
        assert_eq!(disk("a").unwrap().0, here.to_str().unwrap());
        assert!(disk("").is_err());
    }

    #[test]
    fn a_lease_has_a_name_and_a_place() {
        let whole = Lease {
            name: "web".into(),
            lockspace: "LS".into(),
            path: "/srv/a,b".into(),
            offset: 1 << 20,
            mode: Mode::Shared,
        };
        assert_eq!(lease("web,path=/srv/a,,b,offset=1048576,lockspace=LS,shared"), Ok(whole.clone()));
        let plain = Lease { lockspace: String::new(), path: "/srv/a".into(), offset: 0, ..whole };
        assert_eq!(lease("web,path=/srv/a,exclusive"), Ok(Lease { mode: Mode::Exclusive, ..plain.clone() }));
        assert_eq!(lease("a,,b,path=/srv/a,shared"), Ok(Lease { name: "a,b".into(), ..plain.clone() }));
        assert_eq!(lease("web,shared,path=/srv/a,,"), Ok(Lease { path: "/srv/a,".into(), ..plain }));
        let here = std::env::current_dir().unwrap().join("a");
        assert_eq!(lease("web,path=a").unwrap().path, here);
        for (wrong, said) in [
            ("", "a lease begins with its name"),
            ("path=/srv/a", "a lease begins with its name"),
            ("web", "the lease web has no place: add path=PATH"),
            ("web,path=/a,rw", "`rw` says nothing of a lease: there are path=PATH"),
            ("web,path=/a,offset=-1", "the offset `-1` is no number of bytes"),
        ] {
            let error = lease(wrong).unwrap_err();
            assert!(error.starts_with(said), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_name_is_no_path() {
        for wrong in ["", ".", "..", "a/b", "-x", "a b", "a\n", &"x".repeat(81)] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong:?}");
        }
        assert!("web-1.example:a@b_c+d".parse::<Name>().is_ok());
        assert!("x".repeat(80).parse::<Name>().is_ok());
        let said = "x".repeat(81).parse::<Name>().unwrap_err();
        assert!(
            said.starts_with("a guest's name is up to 80 letters") && said.ends_with("; this has 81 bytes")
        );
    }

    #[test]
    fn a_parameter_has_a_key() {
        assert_eq!("a=b=c".parse(), Ok(Parameter("a".into(), "b=c".into())));
        let here = std::env::current_dir().unwrap().join("b=c").to_str().unwrap().to_owned();
        assert_eq!("directory=b=c".parse(), Ok(Parameter("directory".into(), here)));
        assert_eq!("directory=/b".parse(), Ok(Parameter("directory".into(), "/b".into())));
        assert_eq!("directories=b".parse(), Ok(Parameter("directories".into(), "b".into())));
        assert!("directory=".parse::<Parameter>().unwrap_err().starts_with("directory: "));
        assert!("=b".parse::<Parameter>().is_err() && "a".parse::<Parameter>().is_err());
    }

    #[test]
    fn the_arguments_are_sound() {
        use clap::CommandFactory as _;
        LcrGuest::command().debug_assert();
    }
}
