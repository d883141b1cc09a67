//! `lcr-guest run`: locks, starts, supervises.

use std::os::fd::OwnedFd;

use lcr_lock::life::Plugin;
use lcr_lock::{Grant, Uuid};

use crate::arguments::{Needs, Run};
use crate::command;
use crate::directory::Guests;
use crate::drivers;
use crate::family;
use crate::record::{Record, State};
use crate::refusal::Refusal;
use crate::supervise::{Origin, Post, Supervisor};
use crate::within;

pub(crate) fn run(arguments: Run) -> crate::Result {
    let Run { driver, parameters, name, uuid, needs: Needs { disks, leases }, on_failure, command } =
        arguments;
    command::check(&command)?;
    let uuid = match uuid {
        Some(uuid) => uuid,
        None => Uuid::random().map_err(|error| Refusal::new(format!("no uuid can be made: {error}")))?,
    };
    let post = Post::new(Guests::here()?)?;
    let mut record = Record {
        name: name.0,
        uuid,
        mark: family::mark()?,
        process: None,
        supervisor: post.own,
        driver: drivers::interface(&driver),
        driver_version: 0,
        parameters,
        disks,
        leases,
        on_failure,
        state: State::Starting,
        lock_state: String::new(),
        to: None,
    };
    let plugin = post.driver(&mut record)?;
    post.guests.claim(&record)?;
    let (name, own) = (record.name.clone(), post.own);
    let started = start(&post, &plugin, &mut record, &command);
    match started {
        Ok((guest, origin, kept)) => {
            let open = post.running(&mut record, &guest).map_err(|refusal| runs_on(refusal, &name))?;
            Supervisor::run(post, plugin, record, open, guest, kept, origin)
        }
        Err(refusal) => {
            post.guests.forget(&name, own);
            Err(refusal)
        }
    }
}

/// A refusal that comes too late: the guest was started.
pub(crate) fn runs_on(refusal: Refusal, name: &str) -> Refusal {
    refusal.detail(format!("it runs on, and is locked: lcr-guest attach {name}"))
}

/// Takes the locks, and starts the guest with them. Answers what holds them, too.
fn start(
    post: &Post,
    plugin: &Plugin,
    record: &mut Record,
    arguments: &[std::ffi::OsString],
) -> Result<(lcr_lock::life::Running, Origin, Vec<OwnedFd>), Refusal> {
    let features = plugin.about().features;
    if !features.before_process {
        let waiting = within::start(post, record, arguments, false)?;
        return waiting.acquired(post, plugin, record);
    }
    let refused = |error: lcr_lock::Error| refusal(&post.guests, &error);
    let mut guest = plugin.new_guest(&record.guest()).map_err(refused)?;
    for resource in record.resources() {
        guest.add(&resource).map_err(refused)?;
    }
    let guest = guest.acquire(&record.request(false)).map_err(refused)?;
    let supervisor = guest.supervisor().map_err(refused)?;
    record.lock_state.clone_from(&guest.grant().state);
    post.write(record)?;
    let mut command = command::make(arguments, supervisor);
    command::tell(&mut command, record);
    let born = post.guests.born(&record.name)?;
    command::announced(&mut command, &born, &post.signals);
    // Before it starts: it may end at once, and leave others behind.
    let kept = copies(guest.grant())?;
    let (guest, child) =
        guest.start(command).map_err(|error| Refusal { code: command::code_of(&error), ..refused(error) })?;
    record.process = post.guests.process(record);
    Ok((guest, Origin::Started(child), kept))
}

/// Duplicates of what a grant's locks are held by.
pub(crate) fn copies(grant: &Grant) -> Result<Vec<OwnedFd>, Refusal> {
    let copies = grant.descriptors.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>();
    copies.map_err(|error| {
        Refusal::new(format!("a lock's descriptor cannot be duplicated: {error}"))
            .detail("raise the limit of open files: a lock is a descriptor")
    })
}

/// A driver's refusal; with what can be done about it in this directory, where the
/// holder is a guest of it.
pub(crate) fn refusal(guests: &Guests, error: &lcr_lock::Error) -> Refusal {
    let refusal = Refusal::new(error);
    let Some(holder) = &error.holder else { return refusal };
    let Some(name) = &holder.name else { return refusal };
    match guests.record(name) {
        // That of the refused one has no process: two directories may have the same names.
        Ok(Some(record)) if Some(record.uuid) == holder.uuid && record.process.is_some() => refusal.detail(
            format!("it is a guest of this host: lcr-guest list shows it, lcr-guest stop {name} ends it"),
        ),
        _ => refusal.detail("it is no guest of this run directory: lcr-guest list shows those that are"),
    }
}
