//! The run directory: what a host knows of its guests.
//!
//! `<LCR_RUNTIME_DIR>/guests`, mode 0700, where the runtime directory is that of the
//! control sockets ([`lcr_control::place`]). Two such directories on one machine are two
//! hosts, as far as guests are concerned. For a guest `web` it holds
//!
//! | file | what |
//! |---|---|
//! | `web.json` | its [record](crate::record), replaced as a whole |
//! | `web.sock` | its supervisor's socket |
//! | `web.born` | while it starts: what the guest's process says of itself before it runs |
//!
//! Whoever changes a record holds the directory's lock meanwhile ([`Guests::lock`]), and
//! for nothing longer than that. What is believed of a record is what its processes
//! bear out: see [`Life`].

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use lcr_control::place::Place;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat, renameat};

use crate::family;
use crate::process::Process;
use crate::record::Record;
use crate::refusal::Refusal;

/// The guests of a run directory.
#[derive(Debug)]
pub(crate) struct Guests {
    /// The runtime directory.
    runtime: PathBuf,
    place: Place,
}

/// What became of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its supervisor is there, and answers for it.
    Supervised,
    /// Its supervisor has ended, and it runs on.
    Unsupervised(Process),
    /// Both have ended.
    Ended,
}

/// The directory's lock: nobody else changes a record. Given up when dropped.
#[derive(Debug)]
pub(crate) struct Locked<'a>(&'a Guests);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Not by closing: a process that is just forked has the descriptor, too.
        let _ = flock(self.0.place.opened(), FlockOperation::Unlock);
    }
}

fn refused(runtime: &Path, reason: &str) -> Refusal {
    use std::os::unix::fs::MetadataExt as _;
    let owner = runtime.metadata().ok().map(|metadata| metadata.uid()).filter(|owner| *owner != 0);
    let refusal = Refusal::new(format!("no guests can be recorded in {}: {reason}", runtime.display()))
        .detail("set LCR_RUNTIME_DIR to a directory of your own");
    match owner {
        Some(owner) if rustix::process::geteuid().is_root() => {
            refusal.detail(format!("for that user's guests: list, stop, plug and unplug take --user {owner}"))
        }
        _ => refusal,
    }
}

impl Guests {
    /// Those of this environment's run directory, which is made if it is not there.
    pub(crate) fn here() -> Result<Guests, Refusal> {
        Guests::of(&lcr_control::place::directory())
    }

    /// Those of another one.
    pub(crate) fn of(runtime: &Path) -> Result<Guests, Refusal> {
        Place::make(runtime).map_err(|reason| refused(runtime, &reason))?;
        let guests = runtime.join("guests");
        let place = Place::make(&guests).map_err(|reason| refused(&guests, &reason))?;
        let guests = Guests { runtime: runtime.to_owned(), place };
        Ok(guests)
    }

    /// The runtime directory.
    pub(crate) fn runtime(&self) -> &Path {
        &self.runtime
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    fn failed(&self, what: &str) -> impl FnOnce(io::Error) -> Refusal {
        let text = format!("{}: {what}", self.runtime.join("guests").display());
        move |error| Refusal::new(format!("{text}: {error}"))
    }

    /// Waits for the lock.
    pub(crate) fn lock(&self) -> Result<Locked<'_>, Refusal> {
        loop {
            match flock(self.place.opened(), FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Locked(self)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.failed("cannot be locked")(error.into())),
            }
        }
    }

    /// The record of a guest.
    pub(crate) fn record(&self, name: &str) -> Result<Option<Record>, Refusal> {
        let text = match fs::read(self.place.short(&format!("{name}.json"))) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(&format!("the record of {name} cannot be read"))(error)),
        };
        let value = serde_json::from_slice(&text).unwrap_or_default();
        let record = Record::of_json(&value).ok_or_else(|| {
            let path = self.runtime.join("guests").join(format!("{name}.json"));
            Refusal::new(format!("{} is no guest's record", path.display()))
                .detail("a newer lcr-guest may have written it; if nothing of the guest runs, remove it")
        })?;
        Ok(Some(record))
    }

    /// The record of a guest that must be there.
    pub(crate) fn known(&self, name: &str) -> Result<Record, Refusal> {
        self.record(name)?.ok_or_else(|| {
            let names = self.names();
            let there = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
            Refusal::new(format!("there is no guest {name} in {}", self.runtime.display()))
                .detail(format!("guests there: {there}; another LCR_RUNTIME_DIR has others"))
        })
    }

    /// All that have a record.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place.short("")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort_unstable();
        names
    }

    /// Writes a record down.
    pub(crate) fn write(&self, record: &Record, _: &Locked<'_>) -> Result<(), Refusal> {
        let (new, name) = (format!(".{}.json", record.name), format!("{}.json", record.name));
        let written = || -> io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = openat(self.place.opened(), &new, flags, Mode::RUSR | Mode::WUSR)?;
            fs::File::from(file).write_all(format!("{}\n", record.to_json()).as_bytes())?;
            Ok(renameat(self.place.opened(), &new, self.place.opened(), &name)?)
        };
        written().map_err(|error| {
            self.place.remove(&new);
            self.failed(&format!("the record of {} cannot be written", record.name))(error)
        })
    }

    /// Forgets a guest.
    pub(crate) fn remove(&self, name: &str, _: &Locked<'_>) {
        for suffix in ["born", "sock", "json"] {
            self.place.remove(&format!("{name}.{suffix}"));
        }
    }

    /// Forgets a guest that is still this supervisor's.
    pub(crate) fn forget(&self, name: &str, supervisor: Process) {
        let Ok(locked) = self.lock() else { return };
        if matches!(self.record(name), Ok(Some(record)) if record.supervisor == supervisor) {
            self.remove(name, &locked);
        }
    }

    /// The guest's process, which a supervisor that was killed may not have come to
    /// write down.
    pub(crate) fn process(&self, record: &Record) -> Option<Process> {
        record.process.or_else(|| {
            let born = fs::read_to_string(self.place.short(&format!("{}.born", record.name))).ok()?;
            Process::of_stat(&born)
        })
    }

    /// What became of a guest.
    pub(crate) fn life(&self, record: &Record) -> Life {
        if record.supervisor.is_alive() {
            return Life::Supervised;
        }
        // It ends with the last of its processes.
        let lives = |process: &Process| {
            let record = || Record { process: Some(*process), ..record.clone() };
            process.is_alive() || !family::of(&record()).is_empty()
        };
        self.process(record).filter(lives).map_or(Life::Ended, Life::Unsupervised)
    }

    /// Takes a name for a guest of this process. Those that have ended give it up.
    pub(crate) fn claim(&self, record: &Record) -> Result<(), Refusal> {
        let locked = self.lock()?;
        for other in self.names() {
            // What cannot be read has its own name alone.
            let other = match self.record(&other) {
                Ok(Some(other)) => other,
                Err(refusal) if other == record.name => return Err(refusal),
                _ => continue,
            };
            if other.name != record.name && other.uuid != record.uuid {
                continue;
            }
            let life = self.life(&other);
            if life == Life::Ended {
                self.remove(&other.name, &locked);
                continue;
            }
            let name = &other.name;
            let pid =
                self.process(&other).map_or_else(String::new, |process| format!("pid {}, ", process.pid));
            let (whose, what) = match life {
                Life::Supervised => (
                    format!("supervised by process {}", other.supervisor.pid),
                    format!("stop it first: lcr-guest stop {name}; or choose another name"),
                ),
                _ => (
                    "without a supervisor".to_owned(),
                    format!("take it up: lcr-guest attach {name}; or end it: lcr-guest stop {name}"),
                ),
            };
            let is = if other.name == record.name {
                format!("there is a guest {name} already")
            } else {
                format!("guest {name} has the uuid {}", record.uuid)
            };
            return Err(Refusal::new(format!("{is} ({pid}{whose})")).detail(what));
        }
        self.place.remove(&format!("{}.born", record.name));
        self.write(record, &locked)
    }

    /// An empty file in which a process that starts says who it is.
    pub(crate) fn born(&self, name: &str) -> Result<fs::File, Refusal> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(self.place.opened(), format!("{name}.born"), flags, Mode::RUSR | Mode::WUSR)
            .map(fs::File::from)
            .map_err(|error| self.failed(&format!("{name}.born cannot be made"))(error.into()))
    }
}
