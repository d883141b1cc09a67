//! The driver: what it does for each owner.
//!
//! Invariants:
//!
//! * The daemon knows what a process has, and is asked each time; nothing is remembered
//!   here that could be wrong after a daemon's, a manager's or a guest's restart.
//! * A lease belongs to a process that registered itself. All leases are taken and given
//!   up by that process' number, never over its registration: so it makes no difference
//!   who asks, and a restricted guest is served as any other.
//! * What an operation has taken before it fails is given up again.
//! * The registration is never closed here: that would give up what this process has.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lcr_core::{BoxError, Context, State};
use lcr_lock::book::{Book, Entry};
use lcr_lock::parameters;
use lcr_lock::record::Record;
use lcr_lock::{
    About, Error, Features, Grant, Guest, Holder, Kind, Mode, OnFailure, Opening, Operation, Owned, Owner,
    Request, Resource, Stage, Target,
};

use crate::client::{self, Client, Lease, Lockspace};
use crate::place::{self, Failure};
use crate::{NAME, code, note, process};

/// The head of its records.
const HEAD: &str = "lock.sanlock/1";
/// What it takes, as its documentation lists it.
const PARAMETERS: &[&str] =
    &["directory", "host_id", "lockspace", "io_timeout", "disks", "handler", "client"];
/// The lockspace of disks' leases, as libvirt's plugin names it.
const LOCKSPACE: &str = "__LIBVIRT__DISKS__";
/// How often a lease is asked for that is in somebody's hands for a moment only, and how
/// long is waited in between.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);
/// How long hosts that take a shared lease at once may need: the daemon itself waits for
/// up to a second between its votes.
const SHARING: Duration = Duration::from_secs(4);

/// What the driver is told at its first reference.
#[derive(Debug, Default)]
struct Settings {
    directory: Option<PathBuf>,
    lockspace: String,
    host_id: Option<u64>,
    io_timeout: u32,
    ignore_disks: bool,
    handler: Option<PathBuf>,
    client: OsString,
}

/// The driver.
#[derive(Debug)]
pub(crate) struct Leases {
    book: Book<Own>,
    client: Client,
    settings: Settings,
    registration: Mutex<Option<Registration>>,
}

/// What it knows of an owner beyond the book.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// When its process was started.
    start: Option<u64>,
    /// The inode of its connection to the daemon. Whoever has that has the leases: also
    /// what the process leaves behind.
    socket: Option<u64>,
}

/// Who has a lease.
struct Found {
    holder: Holder,
    /// The guest's process has ended, and the holder is what it has left behind.
    ended: Option<u32>,
}

type Its = Entry<Own>;

/// This process, registered. A forked child is another one.
#[derive(Debug)]
struct Registration {
    pid: u32,
    socket: OwnedFd,
    /// A successor has a copy of the socket.
    handed_over: bool,
}

impl Registration {
    fn inode(&self) -> Option<u64> {
        Some(rustix::fs::fstat(&self.socket).ok()?.st_ino)
    }
}

impl Settings {
    fn of(cx: &Context) -> Result<Settings, BoxError> {
        parameters::only(cx, PARAMETERS)?;
        let text = |name| cx.get(name).map(|_| cx.text(name)).transpose();
        // A number, or its digits: parameters that come from a file are texts.
        let number = |name| -> Result<Option<u64>, BoxError> {
            if cx.get(name).is_none() {
                return Ok(None);
            }
            if let Ok(number) = cx.int(name) {
                return Ok(Some(number.try_into()?));
            }
            let text = cx.text(name)?;
            Ok(Some(text.parse().map_err(|_| format!("the parameter `{name}` is no number: `{text}`"))?))
        };
        let disks = text("disks")?.unwrap_or("lease");
        if !["lease", "ignore"].contains(&disks) {
            return Err(format!("the parameter `disks` is `{disks}`: it can be `lease` or `ignore`").into());
        }
        let host_id = number("host_id")?;
        if host_id.is_some_and(|id| !(1..=2000).contains(&id)) {
            return Err("the parameter `host_id` is from 1 to 2000, and another one on each host".into());
        }
        let lockspace = text("lockspace")?.unwrap_or(LOCKSPACE);
        if lockspace.is_empty() || lockspace.len() > 48 || lockspace.contains([':', ' ', '\\', '/', '\0']) {
            return Err(format!(
                "the parameter `lockspace` is `{lockspace}`: it can have 1 to 48 bytes, and no colon, blank, slash or \
                 backslash"
            )
            .into());
        }
        Ok(Settings {
            directory: text("directory")?.map(PathBuf::from),
            lockspace: lockspace.to_owned(),
            host_id,
            io_timeout: number("io_timeout")?.unwrap_or(0).try_into()?,
            ignore_disks: disks == "ignore",
            handler: text("handler")?.map(PathBuf::from),
            client: text("client")?.unwrap_or(client::USUAL).into(),
        })
    }

    fn record(&self) -> Record {
        let Settings { directory, lockspace, host_id, io_timeout, ignore_disks, handler, client } = self;
        let mut record = Record::new(HEAD);
        record.put_text("lockspace", lockspace).put_text("io_timeout", io_timeout);
        record.put_text("ignore_disks", ignore_disks).put("client", &[client.as_bytes()]);
        if let Some(host_id) = host_id {
            record.put_text("host_id", host_id);
        }
        for (key, path) in [("directory", directory), ("handler", handler)] {
            if let Some(path) = path {
                record.put(key, &[path.as_os_str().as_bytes()]);
            }
        }
        record
    }

    fn of_record(record: &Record) -> Option<Settings> {
        let path = |key: &str| {
            let word = record.words().iter().find(|word| word.key() == key)?;
            Some(PathBuf::from(OsStr::from_bytes(word.parts().first()?)))
        };
        Some(Settings {
            directory: path("directory"),
            lockspace: record.text("lockspace")?.to_owned(),
            host_id: record.value("host_id"),
            io_timeout: record.value("io_timeout")?,
            ignore_disks: record.value("ignore_disks")?,
            handler: path("handler"),
            client: path("client")?.into(),
        })
    }
}

/// The guest, and what it has.
fn record(entry: &Its, held: &[(Resource, Lease)]) -> Record {
    let mut record = Record::new(HEAD);
    record.put_guest(&entry.guest);
    if let Some(start) = entry.own.start {
        record.put_text("start", start);
    }
    if let Some(socket) = entry.own.socket {
        record.put_text("socket", socket);
    }
    if let Some(host) = process::host() {
        record.put_text("host", host);
    }
    for (resource, lease) in held {
        let Lease { lockspace, name, path, offset, shared: _ } = lease;
        let offset = offset.to_string();
        record.put_resource(
            resource,
            &[lockspace.as_bytes(), name.as_bytes(), path.as_os_str().as_bytes(), offset.as_bytes()],
        );
    }
    record
}

/// The process that an owner's locks are tied to, if it lives.
fn living(entry: &Its) -> Option<u32> {
    let pid = entry.guest.pid?;
    let start = process::start_of(pid)?;
    entry.own.start.is_none_or(|of_it| of_it == start).then_some(pid)
}

impl Leases {
    pub(crate) fn construct(cx: &Context) -> Result<Leases, BoxError> {
        let leases = Leases::new(Settings::of(cx)?)?;
        leases.join()?;
        Ok(leases)
    }

    fn new(settings: Settings) -> Result<Leases, BoxError> {
        let client = Client::open(&settings.client)?;
        Ok(Leases { book: Book::new(NAME), client, settings, registration: Mutex::new(None) })
    }

    /// Makes the lockspace of disks' leases if it is not there, and joins it.
    fn join(&self) -> Result<(), BoxError> {
        let Settings { directory, lockspace, host_id, io_timeout, .. } = &self.settings;
        let Some(directory) = directory else { return Ok(()) };
        if !directory.is_dir() {
            let directory = directory.display();
            return Err(format!(
                "the directory of leases, {directory}, is not there: create it, on storage that all hosts share"
            )
            .into());
        }
        let operation = Operation::Load;
        let of = |host_id| Lockspace { name: lockspace.clone(), host_id, path: directory.join(lockspace) };
        let joined = || -> Result<Option<u64>, Error> {
            let all = self.client.lockspaces().map_err(|number| {
                self.failed(operation, "the daemon does not tell its lockspaces", number)
            })?;
            Ok(all.into_iter().find(|other| other.name == *lockspace).map(|found| found.host_id))
        };
        let Some(host_id) = *host_id else {
            return match joined()? {
                Some(_) => Ok(()),
                None => Err(format!(
                    "this host has not joined the lockspace {lockspace}: give the parameter `host_id`, another one on each \
                     host, or join it before (`sanlock client add_lockspace`)"
                )
                .into()),
            };
        };
        let of = of(host_id);
        place::make_lockspace(&self.client, &of, *io_timeout)
            .map_err(|failure| failure.error(&self.client, operation))?;
        match self.client.add_lockspace(&of, *io_timeout) {
            Ok(()) => Ok(()),
            Err(code::EINPROGRESS) => self
                .client
                .await_lockspace(&of)
                .map_err(|number| self.failed(operation, "the lockspace was not joined", number).into()),
            Err(code::EEXIST) => match joined()? {
                Some(other) if other != host_id => Err(format!(
                    "this host has joined the lockspace {lockspace} as host {other}, not {host_id}: correct the parameter \
                     `host_id`"
                )
                .into()),
                _ => Ok(()),
            },
            Err(number) => {
                let what = format!("the lockspace {lockspace} cannot be joined as host {host_id}");
                Err(self.failed(operation, &what, number).into())
            }
        }
    }

    fn with<R>(
        &self,
        owner: Owner,
        operation: Operation,
        act: impl FnOnce(&mut Its) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.book.with(owner, operation, act)
    }

    /// The daemon's answer as an error; one that is silent is said to be.
    fn failed(&self, operation: Operation, what: &str, number: i32) -> Error {
        if self.client.is_unreachable(number) {
            return place::unreachable(operation, number);
        }
        code::error(operation, what, number)
    }

    fn lease_of(&self, operation: Operation, resource: &Resource) -> Result<Option<Lease>, Error> {
        let Settings { directory, lockspace, ignore_disks, .. } = &self.settings;
        place::lease_of(operation, resource, directory.as_deref(), lockspace, *ignore_disks)
    }

    /// This host's number in a lease's lockspace.
    fn host_id(&self, lockspace: &str) -> u64 {
        if lockspace == self.settings.lockspace
            && let Some(host_id) = self.settings.host_id
        {
            return host_id;
        }
        let all = self.client.lockspaces().unwrap_or_default();
        all.into_iter().find(|other| other.name == lockspace).map_or(0, |found| found.host_id)
    }

    // What it is.

    pub(crate) fn about(&self) -> About {
        let features =
            Features { resources: true, hot_plug: true, migrate: true, before_process: false, state: true };
        let summary = match &self.settings.directory {
            Some(directory) if !self.settings.ignore_disks => {
                let directory = directory.display();
                format!(
                    "leases of the sanlock daemon, for disks in {directory}, for as long as the guest's process lives"
                )
            }
            _ => {
                "leases of the sanlock daemon, where they are named, for as long as the guest's process lives"
                    .into()
            }
        };
        About { interface: NAME.to_owned(), version: 1, summary, features }
    }

    // Description.

    pub(crate) fn open(&self, guest: &Guest, opening: Opening) -> Result<Owner, Error> {
        let own = |pid: Option<u32>| Own { start: pid.and_then(process::start_of), socket: None };
        match opening {
            Opening::New => self.book.open(guest, Stage::Described, own(guest.pid)),
            Opening::Migrate => self.book.open(guest, Stage::Arriving, own(guest.pid)),
            Opening::Attach(grant) => self.attach(guest, &grant),
        }
    }

    /// Takes a running guest up: its process from its state or else from a note, and what
    /// it has from the daemon.
    fn attach(&self, guest: &Guest, grant: &Grant) -> Result<Owner, Error> {
        let of_it = |record: &Record| {
            let pid: Option<u32> = record.value("pid");
            record.head() == HEAD
                && record.value("uuid") == Some(guest.uuid)
                && (guest.pid.is_none() || pid.is_none() || pid == guest.pid)
        };
        let lives = |record: &Record| {
            record.value("pid").is_some_and(|pid| process::start_of(pid) == record.value("start"))
        };
        let directory = self.settings.directory.as_deref();
        let stated = grant.state.parse::<Record>().ok().filter(&of_it);
        let record = match stated {
            Some(record) if lives(&record) => Some(record),
            stated => directory
                .and_then(|directory| note::find(directory, of_it))
                .map(|note| note.record)
                .or(stated),
        };
        let pid = guest.pid.or_else(|| record.as_ref()?.value("pid"));
        let guest = Guest { pid, ..guest.clone() };
        let start = match &record {
            Some(record) => record.value("start"),
            None => pid.and_then(process::start_of),
        };
        let socket = record.as_ref().and_then(|record| record.value("socket"));
        let owner = self.book.open(&guest, Stage::Acquired, Own { start, socket })?;
        let attached = self.with(owner, Operation::Open, |entry| {
            let Some(pid) = living(entry) else { return Ok(()) };
            // What stands in the state and the notes says which disk a lease is.
            let notes = directory.map(|directory| note::of_process(directory, pid)).unwrap_or_default();
            let known: Vec<(Resource, Lease)> =
                notes.iter().map(|note| &note.record).chain(&record).flat_map(note::leases).collect();
            let held = self.held(entry, Operation::Open)?;
            for lease in &held {
                let resource = match known.iter().find(|(_, other)| other.is_same(lease)) {
                    Some((resource, _)) => resource.clone(),
                    None => Resource::Lease(lcr_lock::Lease {
                        name: lease.name.clone(),
                        lockspace: lease.lockspace.clone(),
                        path: lease.path.clone(),
                        offset: lease.offset,
                        mode: if lease.shared { Mode::Shared } else { Mode::Exclusive },
                    }),
                };
                entry.resources.push(resource);
            }
            // What it had and has no more is missed, not forgotten.
            for (resource, _) in record.iter().flat_map(Record::resources) {
                if !entry.resources.iter().any(|other| other.is_same(&resource)) {
                    entry.resources.push(resource);
                }
            }
            Ok(())
        });
        if let Err(error) = attached {
            self.book.close(owner);
            return Err(error);
        }
        Ok(owner)
    }

    pub(crate) fn add(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
        self.lease_of(Operation::Add, resource)?;
        self.book.add(owner, resource)
    }

    pub(crate) fn close(&self, owner: Owner) {
        drop(self.book.close(owner));
    }

    pub(crate) fn owners(&self) -> Vec<Owned> {
        self.book.owners()
    }

    pub(crate) fn child(&self, owner: Owner) -> Result<u32, Error> {
        let operation = Operation::Child;
        self.with(owner, operation, |entry| {
            let name = &entry.guest.name;
            let Some(pid) = entry.guest.pid else {
                let reason = format!("it is not known which process guest {name} is");
                return Err(Error::new(Kind::NotFound, NAME, operation, reason)
                    .with_hint("name it when the guest is opened, or attach with its state"));
            };
            living(entry).ok_or_else(|| {
                let reason = format!("process {pid} of guest {name} has ended");
                Error::new(Kind::NotFound, NAME, operation, reason).with_hint("its leases ended with it")
            })
        })
    }

    // Leases.

    /// What the guest's process has: nothing if it has ended, or the daemon does not know
    /// it.
    fn held(&self, entry: &Its, operation: Operation) -> Result<Vec<Lease>, Error> {
        let Some(pid) = living(entry) else { return Ok(Vec::new()) };
        match self.asked(pid) {
            Err(code::ESRCH) => Ok(Vec::new()),
            held => held.map_err(|number| self.not_looked_up(operation, pid, number)),
        }
    }

    fn not_looked_up(&self, operation: Operation, pid: u32, number: i32) -> Error {
        self.failed(operation, &format!("process {pid} cannot be looked up"), number)
    }

    /// What a process has.
    fn asked(&self, pid: u32) -> Result<Vec<Lease>, i32> {
        patiently(|| self.client.inquire(pid), is_busy)
    }

    /// The guest's process, known to the daemon: this one is registered if it is not.
    fn registered(&self, entry: &mut Its, operation: Operation, request: &Request) -> Result<u32, Error> {
        let own = std::process::id();
        let name = &entry.guest.name;
        let Some(pid) = entry.guest.pid else {
            let reason = format!("it is not known which process guest {name} is");
            return Err(Error::out_of_order(NAME, operation, reason).with_hint(
                "sanlock ties leases to a process that asks for itself: open the guest in the process that becomes it, with \
                 that process' number, and execute its command there",
            ));
        };
        if living(entry).is_none() {
            let reason = format!("process {pid} of guest {name} has ended");
            return Err(Error::new(Kind::NotFound, NAME, operation, reason).with_hint("start it anew"));
        }
        let known = match self.asked(pid) {
            Ok(_) => true,
            Err(code::ESRCH) => false,
            Err(number) => return Err(self.not_looked_up(operation, pid, number)),
        };
        if pid != own {
            if known {
                return Ok(pid);
            }
            let what = format!("process {pid} of guest {name} is not registered");
            return Err(code::error(operation, &what, code::ESRCH));
        }
        let mut registration = self.registration.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = registration.as_ref().is_some_and(|ours| ours.pid == own);
        match (known, ours) {
            (true, true) => {
                entry.own.socket = registration.as_ref().and_then(Registration::inode);
                return Ok(pid);
            }
            (true, false) => {
                let reason =
                    format!("this process, {own}, was registered with sanlock by something else in it");
                return Err(Error::out_of_order(NAME, operation, reason)
                    .with_hint("use one driver in a guest's process, or have its manager acquire"));
            }
            // Never, or with a daemon that has died since.
            (false, _) => {}
        }
        let killpath = self.killpath(operation, request)?;
        let socket = self
            .client
            .register()
            .map_err(|number| self.failed(operation, "this process cannot be registered", number))?;
        let refused = |what: &str, number| self.failed(operation, what, number);
        if let Some((with_pid, path, arguments)) = killpath {
            self.client
                .killpath(socket.as_fd(), with_pid, &path, &arguments)
                .transpose()
                .map_err(|number| refused("the program for lost leases was not accepted", number))?
                .ok_or_else(|| {
                    Error::new(
                        Kind::Unsupported,
                        NAME,
                        operation,
                        "the client library has no sanlock_killpath, and so no program for lost leases",
                    )
                    .with_hint("install a newer one, or leave the failure action at its default")
                })?;
        }
        if request.restrict {
            self.client
                .restrict(socket.as_fd())
                .map_err(|number| refused("this process cannot be restricted", number))?;
        }
        // What was there is a parent's, and open there, or of a daemon that has died.
        let registered = registration.insert(Registration { pid: own, socket, handed_over: false });
        entry.own.socket = registered.inode();
        Ok(pid)
    }

    /// What the daemon is told to run when this guest's leases are lost.
    fn killpath(
        &self,
        operation: Operation,
        request: &Request,
    ) -> Result<Option<(bool, std::ffi::CString, std::ffi::CString)>, Error> {
        let line = |path: &Path, arguments: &[String]| {
            client::command_line(path, arguments).map_err(|reason| {
                Error::new(Kind::Invalid, NAME, operation, reason)
                    .with_hint("put what is long into a script, and name that")
            })
        };
        if let Some(handler) = &request.handler {
            let (path, arguments) = line(&handler.path, &handler.arguments)?;
            return Ok(Some((false, path, arguments)));
        }
        match (&self.settings.handler, request.on_failure) {
            (_, OnFailure::Default) => Ok(None),
            (Some(handler), action) => {
                let (path, arguments) = line(handler, &[action.word().to_owned()])?;
                Ok(Some((true, path, arguments)))
            }
            // What the daemon does by itself.
            (None, OnFailure::PowerOff) => Ok(None),
            (None, action) => Err(Error::new(
                Kind::Unsupported,
                NAME,
                operation,
                format!("sanlock kills a process whose leases are lost; for `{action}` it needs a program that does it"),
            )
            .with_hint("name one, as lcr-lock-failure: the driver's parameter `handler`, or the request's")),
        }
    }

    /// Takes one.
    fn take(
        &self,
        entry: &Its,
        operation: Operation,
        pid: u32,
        resource: &Resource,
        lease: &Lease,
    ) -> Result<(), Error> {
        let ours =
            self.settings.directory.as_ref().is_some_and(|directory| lease.path.parent() == Some(directory));
        if ours && matches!(resource, Resource::Disk(_)) {
            place::make_lease(&self.client, lease)
                .map_err(|failure: Failure| failure.error(&self.client, operation).on(resource))?;
        }
        let since = Instant::now();
        let taken = loop {
            match patiently(|| self.client.acquire(pid, lease, &entry.guest.name), code::passes) {
                // Who takes a shared lease has it alone for a moment.
                Err(code::ACQUIRE_IDLIVE)
                    if lease.shared && since.elapsed() < SHARING && !self.is_noted_exclusive(lease) =>
                {
                    pause(0);
                }
                answer => break answer,
            }
        };
        taken.map_err(|number| {
            let what = match number {
                -28 => format!("the lockspace {} is not there", lease.lockspace),
                _ => format!("the lease {}:{} was refused", lease.lockspace, lease.name),
            };
            let error = self.failed(operation, &what, number).on(resource);
            if error.kind != Kind::Held {
                return error;
            }
            let found = self.holders_of(operation, lease).unwrap_or_default().into_iter().next();
            let (holder, ended) = found.map_or((None, None), |found| (Some(found.holder), found.ended));
            let held = Error::held(NAME, operation, resource, holder);
            let held = Error { code: error.code, hint: error.hint, ..held };
            match ended {
                Some(ended) => held.left_behind_by(ended),
                None => held,
            }
        })
    }

    /// Whether a guest has written down that it has a lease alone.
    fn is_noted_exclusive(&self, lease: &Lease) -> bool {
        let notes = self.settings.directory.as_deref().map(|directory| note::on(directory, lease));
        notes.unwrap_or_default().iter().any(|note| note.is_exclusive(lease))
    }

    /// Takes what is wanted and not held, or nothing.
    fn take_all(
        &self,
        entry: &Its,
        operation: Operation,
        pid: u32,
        wanted: &[Resource],
    ) -> Result<(), Error> {
        let held = self.held(entry, operation)?;
        let mut taken: Vec<(&Resource, Lease)> = Vec::new();
        for resource in wanted {
            let Some(lease) = self.lease_of(operation, resource)? else { continue };
            if let Some((other, _)) = taken.iter().find(|(_, other)| other.is_same(&lease)) {
                let reason = format!("it is the same as {other}");
                self.give_back(pid, &taken);
                return Err(Error::new(Kind::Invalid, NAME, operation, reason).on(resource));
            }
            match held.iter().find(|held| held.is_same(&lease)) {
                Some(held) if held.shared == lease.shared => continue,
                Some(_) => {
                    self.give_back(pid, &taken);
                    let reason = format!("process {pid} has it in another mode");
                    return Err(Error::new(Kind::Invalid, NAME, operation, reason)
                        .on(resource)
                        .with_hint("release it before"));
                }
                None => {}
            }
            if let Err(error) = self.take(entry, operation, pid, resource, &lease) {
                self.give_back(pid, &taken);
                return Err(error);
            }
            taken.push((resource, lease));
        }
        Ok(())
    }

    fn give_back(&self, pid: u32, taken: &[(&Resource, Lease)]) {
        for (_, lease) in taken.iter().rev() {
            // What cannot be given back ends with the process, which does not become a guest.
            let _ = patiently(|| self.client.release(pid, lease), is_busy);
        }
    }

    /// Gives up what is held of these.
    fn give_up(&self, entry: &Its, operation: Operation, resources: &[Resource]) -> Result<(), Error> {
        let Some(pid) = living(entry) else { return Ok(()) };
        if resources.is_empty() {
            return Ok(());
        }
        let held = self.held(entry, operation)?;
        for resource in resources {
            // Of a disk that is not there any more nothing can be held but what was noted.
            let Ok(Some(lease)) = self.lease_of(operation, resource) else { continue };
            let Some(lease) = held.iter().find(|held| held.is_same(&lease)) else { continue };
            patiently(|| self.client.release(pid, lease), is_busy).map_err(|number| {
                let what = format!("the lease {}:{} was not given up", lease.lockspace, lease.name);
                self.failed(operation, &what, number).on(resource)
            })?;
            if let Some(directory) = &self.settings.directory {
                note::remove(directory, lease, self.host_id(&lease.lockspace), pid);
            }
        }
        Ok(())
    }

    /// What an owner has of what it wants, as the daemon says.
    fn having(&self, entry: &Its, operation: Operation) -> Result<Vec<(Resource, Lease)>, Error> {
        if entry.resources.is_empty() {
            return Ok(Vec::new());
        }
        let held = self.held(entry, operation)?;
        let mut having = Vec::new();
        for resource in &entry.resources {
            let Ok(Some(lease)) = self.lease_of(operation, resource) else { continue };
            if let Some(held) = held.iter().find(|held| held.is_same(&lease)) {
                having.push((resource.clone(), held.clone()));
            }
        }
        Ok(having)
    }

    /// Writes down what is held, beside the leases; answers the state.
    fn write_down(&self, entry: &Its, operation: Operation) -> Result<String, Error> {
        let having = self.having(entry, operation)?;
        let record = record(entry, &having);
        if let (Some(directory), Some(pid)) = (&self.settings.directory, living(entry)) {
            for (_, lease) in &having {
                note::write(directory, lease, self.host_id(&lease.lockspace), pid, &record);
            }
        }
        Ok(record.to_string())
    }

    fn grant(&self, entry: &Its, operation: Operation) -> Result<Grant, Error> {
        let state = self.write_down(entry, operation)?;
        let registration = self.registration.lock().unwrap_or_else(PoisonError::into_inner);
        let own = registration.as_ref().filter(|ours| Some(ours.pid) == entry.guest.pid);
        let descriptors = match own {
            Some(ours) => vec![ours.socket.try_clone().map_err(|error| {
                Error::of_system(NAME, operation, "the registration cannot be duplicated", &error)
            })?],
            None => Vec::new(),
        };
        Ok(Grant { state, descriptors })
    }

    pub(crate) fn acquire(&self, owner: Owner, request: &Request) -> Result<Grant, Error> {
        let operation = Operation::Acquire;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Described, Stage::Acquired, Stage::Released])?;
            if entry.resources.is_empty() && entry.guest.pid != Some(std::process::id()) {
                // Nothing is wanted, and nobody has to be registered for that.
                entry.stage = if request.register_only { entry.stage } else { Stage::Acquired };
                return Ok(Grant::of_state(record(entry, &[]).to_string()));
            }
            let pid = self.registered(entry, operation, request)?;
            if !request.register_only {
                self.take_all(entry, operation, pid, &entry.resources)?;
                entry.stage = Stage::Acquired;
            }
            self.grant(entry, operation)
        })
    }

    pub(crate) fn register(&self, owner: Owner, pid: u32) -> Result<String, Error> {
        let operation = Operation::Register;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Described, Stage::Acquired, Stage::Arriving])?;
            let name = &entry.guest.name;
            let Some(start) = process::start_of(pid) else {
                let reason = format!("there is no process {pid}, or it has ended");
                return Err(Error::new(Kind::NotFound, NAME, operation, reason).with_hint("start it anew"));
            };
            let tied = entry.guest.pid.filter(|other| *other != pid && entry.stage == Stage::Acquired);
            if let Some(other) = tied {
                let reason = format!("the leases of guest {name} are tied to process {other}, and {pid} is another");
                return Err(Error::out_of_order(NAME, operation, reason).with_hint(
                    "sanlock ties leases to the process that asks: acquire in the process that becomes the guest, and \
                     execute its command there",
                ));
            }
            self.asked(pid).map_err(|number| {
                self.failed(operation, &format!("process {pid} of guest {name} is not registered"), number)
            })?;
            entry.guest.pid = Some(pid);
            entry.own.start = Some(start);
            self.write_down(entry, operation)
        })
    }

    pub(crate) fn release(&self, owner: Owner) -> Result<Option<String>, Error> {
        let operation = Operation::Release;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Described, Stage::Acquired, Stage::Released])?;
            let state = record(entry, &self.having(entry, operation)?).to_string();
            self.give_up(entry, operation, &entry.resources)?;
            entry.stage = Stage::Released;
            Ok(Some(state))
        })
    }

    pub(crate) fn inquire(&self, owner: Owner) -> Result<Option<String>, Error> {
        let operation = Operation::Inquire;
        self.with(owner, operation, |entry| {
            let having = self.having(entry, operation)?;
            if matches!(entry.stage, Stage::Acquired | Stage::Leaving)
                && let Some(pid) = living(entry)
            {
                let wanted = |resource: &&Resource| !matches!(self.lease_of(operation, resource), Ok(None));
                let has = |resource: &&Resource| having.iter().any(|(held, _)| held.is_same(resource));
                if let Some(lost) = entry.resources.iter().filter(wanted).find(|resource| !has(resource)) {
                    let reason = format!("process {pid} of guest {} has no lease for it any more", entry.guest.name);
                    return Err(Error::new(Kind::Lost, NAME, operation, reason).on(lost).with_hint(
                        "the daemon was restarted, or the lockspace was lost: stop the guest, another host may have its \
                         disk; look into sanlock's log",
                    ));
                }
            }
            Ok(Some(record(entry, &having).to_string()))
        })
    }

    /// Who has a lease: hosts, as its storage says, and the guests that have left a note
    /// which the daemon bears out.
    fn holders_of(&self, operation: Operation, lease: &Lease) -> Result<Vec<Found>, Error> {
        if !lease.path.exists() {
            return Ok(Vec::new());
        }
        let hosts = match self.client.owners(lease) {
            None => return Err(Error::unsupported(NAME, operation)),
            Some(Ok(hosts)) => hosts,
            Some(Err(number)) => {
                let what = format!("the lease {}:{} cannot be read", lease.lockspace, lease.name);
                return Err(self.failed(operation, &what, number));
            }
        };
        let own = self.host_id(&lease.lockspace);
        let directory = self.settings.directory.as_deref();
        let notes = directory.map(|directory| note::on(directory, lease)).unwrap_or_default();
        let mut holders = Vec::new();
        for host in hosts {
            let before = holders.len();
            for note in notes.iter().filter(|note| note.host_id == host) {
                let here = host == own;
                let has =
                    || self.asked(note.pid).is_ok_and(|held| held.iter().any(|held| held.is_same(lease)));
                if here && (!note::is_of_this_host(note) || !has()) {
                    continue;
                }
                let ended = (here && !note::is_of_living(note)).then_some(note.pid);
                let pid = match ended {
                    Some(_) => note.record.value("socket").and_then(process::of_socket),
                    None => Some(note.pid),
                };
                let guest = note.record.guest();
                let name = note.record.text("host").unwrap_or("?");
                let holder = Holder {
                    name: guest.as_ref().map(|guest| guest.name.clone()),
                    uuid: guest.map(|guest| guest.uuid),
                    pid,
                    program: pid.filter(|_| here).and_then(process::program_of),
                    host: (!here).then(|| format!("{name}, number {host} of its lockspace")),
                };
                holders.push(Found { holder, ended });
            }
            if holders.len() == before {
                let host = (host != own).then(|| format!("number {host} of its lockspace"));
                holders.push(Found { holder: Holder { host, ..Holder::default() }, ended: None });
            }
        }
        Ok(holders)
    }

    pub(crate) fn holders(&self, resource: &Resource) -> Result<Vec<Holder>, Error> {
        let operation = Operation::Holders;
        match self.lease_of(operation, resource)? {
            None => Ok(Vec::new()),
            Some(lease) => {
                let found = self.holders_of(operation, &lease).map_err(|error| error.on(resource))?;
                Ok(found.into_iter().map(|found| found.holder).collect())
            }
        }
    }

    pub(crate) fn plug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
        let operation = Operation::Plug;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Acquired])?;
            if let Some(lease) = self.lease_of(operation, resource)? {
                let same = |other: &&Resource| {
                    matches!(self.lease_of(operation, other), Ok(Some(other)) if other.is_same(&lease))
                };
                if let Some(other) = entry.resources.iter().filter(|other| !other.is_same(resource)).find(same) {
                    let reason = format!("it is the same as {other}, which the guest has already");
                    return Err(Error::new(Kind::Invalid, NAME, operation, reason)
                        .on(resource)
                        .with_hint("name it once"));
                }
            }
            entry.put(NAME, operation, resource)?;
            let taken = self
                .registered(entry, operation, &Request::default())
                .and_then(|pid| self.take_all(entry, operation, pid, std::slice::from_ref(resource)));
            if let Err(error) = taken {
                entry.resources.pop();
                return Err(error);
            }
            self.write_down(entry, operation).map(drop)
        })
    }

    pub(crate) fn unplug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
        let operation = Operation::Unplug;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Acquired])?;
            self.give_up(entry, operation, std::slice::from_ref(resource))?;
            entry.resources.retain(|other| !other.is_same(resource));
            self.write_down(entry, operation).map(drop)
        })
    }

    // Migration.

    pub(crate) fn prepare_migrate(&self, owner: Owner, _: &Target) -> Result<Grant, Error> {
        let operation = Operation::PrepareMigrate;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Acquired])?;
            let state = record(entry, &self.having(entry, operation)?).to_string();
            entry.stage = Stage::Leaving;
            Ok(Grant::of_state(state))
        })
    }

    pub(crate) fn complete_out(&self, owner: Owner) -> Result<(), Error> {
        let operation = Operation::CompleteMigrate;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Leaving])?;
            self.give_up(entry, operation, &entry.resources)?;
            entry.stage = Stage::Left;
            Ok(())
        })
    }

    pub(crate) fn cancel_out(&self, owner: Owner) -> Result<(), Error> {
        let operation = Operation::CancelMigrate;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Leaving, Stage::Left])?;
            let pid = self.registered(entry, operation, &Request::default())?;
            self.take_all(entry, operation, pid, &entry.resources)?;
            entry.stage = Stage::Acquired;
            self.write_down(entry, operation).map(drop)
        })
    }

    pub(crate) fn complete_in(&self, owner: Owner, _: Grant) -> Result<Grant, Error> {
        let operation = Operation::CompleteMigrate;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Arriving])?;
            let pid = self.registered(entry, operation, &Request::default())?;
            self.take_all(entry, operation, pid, &entry.resources)?;
            entry.stage = Stage::Acquired;
            self.grant(entry, operation)
        })
    }

    /// A process' leases last as long as its connection to the daemon, which only it has: who
    /// starts it may be given that with its grant.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a method of the contract")]
    pub(crate) fn descriptors(&self, _: Owner) -> Result<Vec<OwnedFd>, Error> {
        Ok(Vec::new())
    }

    pub(crate) fn cancel_in(&self, owner: Owner) -> Result<(), Error> {
        let operation = Operation::CancelMigrate;
        self.with(owner, operation, |entry| {
            entry.must_be(NAME, operation, &[Stage::Arriving])?;
            entry.stage = Stage::Released;
            Ok(())
        })
    }

    // Replacement.

    pub(crate) fn resume(&self) {
        if let Some(ours) = &mut *self.registration.lock().unwrap_or_else(PoisonError::into_inner) {
            ours.handed_over = false;
        }
    }

    pub(crate) fn save(&self, state: &mut State) -> Result<(), BoxError> {
        let section = state.section("owners", 1);
        let mut head = self.settings.record();
        head.put_text("last", self.book.last());
        let mut registration = self.registration.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ours) = &mut *registration {
            head.put_text("registered", ours.pid);
            section.attach(&ours.socket)?;
            ours.handed_over = true;
        }
        section.write(format!("{head}\n").as_bytes());
        for line in self.book.each(|owner, entry| {
            let mut record = entry.record(HEAD, owner);
            if let Some(start) = entry.own.start {
                record.put_text("start", start);
            }
            if let Some(socket) = entry.own.socket {
                record.put_text("socket", socket);
            }
            format!("{record}\n")
        }) {
            section.write(line.as_bytes());
        }
        Ok(())
    }

    pub(crate) fn restore(state: &State) -> Result<Leases, BoxError> {
        let section = state.read("owners", 1..=1)?;
        let mut lines = str::from_utf8(section.bytes())?.lines();
        let head: Record = lines.next().ok_or("the section `owners` is empty")?.parse()?;
        let settings =
            Settings::of_record(&head).ok_or("the section `owners` does not say the parameters")?;
        // The lockspace was joined; a daemon that does not answer just now is no reason
        // to stay with an old driver.
        let leases = Leases::new(settings)?;
        leases.book.go_on_from(head.value("last").ok_or("the section `owners` does not say what was last")?);
        if let Some(pid) = head.value("registered") {
            let socket = section.take(0)?;
            let registration = Registration { pid, socket, handed_over: false };
            *leases.registration.lock().unwrap_or_else(PoisonError::into_inner) = Some(registration);
        }
        for line in lines {
            let record: Record = line.parse()?;
            let own = Own { start: record.value("start"), socket: record.value("socket") };
            let (owner, entry) =
                Entry::of_record(&record, own).ok_or_else(|| format!("an owner cannot be read: {line}"))?;
            leases.book.restore(owner, entry);
        }
        Ok(leases)
    }
}

impl Drop for Leases {
    /// What this process has, it keeps: closing the registration would give it up.
    fn drop(&mut self) {
        let registration = self.registration.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ours) = registration
            && ours.pid == std::process::id()
            && !ours.handed_over
        {
            let _ = ours.socket.into_raw_fd();
        }
    }
}

/// The daemon does one command at a time for a process, and refuses a second one.
pub(crate) fn is_busy(number: i32) -> bool {
    number == code::EBUSY
}

/// Asks again, a few times, as long as the answer is one that passes.
pub(crate) fn patiently<T>(
    mut ask: impl FnMut() -> Result<T, i32>,
    passes: impl Fn(i32) -> bool,
) -> Result<T, i32> {
    let mut left = ATTEMPTS;
    loop {
        match ask() {
            Err(number) if left > 0 && passes(number) => {
                left -= 1;
                pause(left);
            }
            answer => return answer,
        }
    }
}

/// Two that vote at once must not do so again and again: each waits in its own way.
fn pause(left: u32) {
    let apart = (std::process::id() + left * 7) % 20;
    std::thread::sleep(PAUSE + Duration::from_millis(apart.into()));
}
