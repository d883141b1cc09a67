//! What a supervisor answers: Varlink interface `io.lcr.Guest`, on `<name>.sock`.
//!
//! Each connection has a thread; what they ask for is done one after the other. A
//! migration is a conversation on one connection, and its end decides what becomes of
//! the guest: see [`migrate`](crate::migrate).

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lcr_control::peer;
use lcr_lock::life::{Plugin, Running};
use lcr_lock::{Driver as _, Grant, Kind, Request, Target};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::family;
use crate::migrate::{Arrival, arrival};
use crate::process;
use crate::record::{Record, State, called, resource_of_json, what_is};
use crate::refusal::{Refusal, note};
use crate::supervise::{Hold, Inner, Supervisor};
use crate::wire::{self, INTERFACE};

/// The interface in Varlink's language.
const DESCRIPTION: &str = include_str!("io.lcr.Guest.varlink");
/// How long a client may be silent, and a guest take to stand still.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer: parameters, and what goes with them.
type Answer = Result<(Value, Grant), Refusal>;

/// An answer that says no more than that it is done.
fn done() -> Answer {
    Ok((json!({}), Grant::default()))
}

impl Supervisor {
    /// Serves one client, until it hangs up.
    pub(crate) fn serve(&self, stream: &UnixStream) {
        if !peer::uid(stream).is_ok_and(peer::may_ask) {
            let refusal = Refusal::new("only the user that runs this guest may ask, and root");
            let _ = wire::send(stream, wire::refusal_to_json(&refusal), &[]);
            return;
        }
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let mut migrating = false;
        loop {
            let _ = stream.set_read_timeout((!migrating).then_some(PATIENCE));
            let Ok(Some((message, _))) = wire::receive(stream) else { break };
            let method = message["method"].as_str().unwrap_or_default();
            // Nobody else has the guest before the answer is on its way: then it may end.
            let mut inner = self.inner();
            if !migrating && wire::has_hung_up(stream) {
                // It has given up, and said that nothing was done.
                break;
            }
            let answer = self.answer(&mut inner, method, &message["parameters"], migrating);
            let (answer, descriptors) = match answer {
                Ok((parameters, grant)) => (json!({"parameters": parameters}), grant.descriptors),
                Err(refusal) => (wire::refusal_to_json(&refusal), Vec::new()),
            };
            migrating = matches!(&inner.hold, Hold::Departing(_) | Hold::Departed(_))
                && (migrating || answer.get("error").is_none() && method.ends_with(".Prepare"));
            let sent = wire::send(stream, answer, &descriptors);
            if inner.moved_to.is_some() {
                // A counter that is full says it as well.
                let _ = rustix::io::write(&self.moved, &1_u64.to_ne_bytes());
                return;
            }
            drop(inner);
            if sent.is_err() {
                break;
            }
        }
        if migrating {
            self.broken_off();
        }
    }

    fn answer(&self, inner: &mut Inner, method: &str, parameters: &Value, migrating: bool) -> Answer {
        if let Some(method) = method.strip_prefix("org.varlink.service.") {
            return about(method, parameters);
        }
        let unknown = || Refusal::new(format!("there is no method {method}"));
        let method =
            method.strip_prefix(INTERFACE).and_then(|rest| rest.strip_prefix('.')).ok_or_else(unknown)?;
        match method {
            "Status" => {
                inner.record.driver_version = self.plugin.about().version;
                let lost = inner.unprotected
                    || matches!(&inner.hold, Hold::Running(guest) if has_lost(guest).is_some());
                let known = inner.record.state;
                let state = if lost && known == State::Running { State::Lost } else { known };
                let record = Record { state, ..inner.record.clone() };
                Ok((json!({"guest": record.to_json()}), Grant::default()))
            }
            "Plug" => self.plug(inner, parameters),
            "Unplug" => self.unplug(inner, parameters),
            "Prepare" => self.prepare(inner, parameters),
            "Resume" => self.resume(inner),
            "Complete" | "Finish" | "Cancel" if !migrating => {
                Err(Refusal::new(format!("this connection migrates nothing: {method} comes after Prepare")))
            }
            "Complete" => self.complete(inner),
            "Finish" => self.finish(inner),
            "Cancel" => self.cancel(inner),
            _ => Err(unknown()),
        }
    }

    /// Writes down what the driver attaches with, and what else has changed.
    fn write_down(&self, inner: &mut Inner) -> Result<(), Refusal> {
        if let Hold::Running(guest) = &inner.hold {
            inner.record.lock_state = guest.state().unwrap_or_else(|_| inner.record.lock_state.clone());
        }
        self.write(&inner.record)
    }

    fn plug(&self, inner: &mut Inner, parameters: &Value) -> Answer {
        let resource = resource_of_json(parameters).ok_or_else(nothing_named)?;
        let name = inner.record.name.clone();
        let guest = running(inner)?;
        guest.plug(&resource).map_err(|error| {
            let what = what_is(&resource);
            Refusal::new(error)
                .detail(format!("guest {name} must not get the {what}; it runs on with what it has"))
        })?;
        inner.record.put(resource);
        self.keep(inner);
        if let Err(refusal) = self.write_down(inner) {
            note(&refusal.reason);
        }
        done()
    }

    fn unplug(&self, inner: &mut Inner, parameters: &Value) -> Answer {
        let meant = resource_of_json(parameters).ok_or_else(nothing_named)?;
        let name = inner.record.name.clone();
        let guest = running(inner)?;
        let known = inner.record.known(&meant).ok_or_else(|| {
            let all: Vec<String> = inner.record.resources().map(|resource| called(&resource)).collect();
            Refusal::new(format!("guest {name} has no {} {}", what_is(&meant), called(&meant))).detail(
                format!("it has: {}", if all.is_empty() { "none".to_owned() } else { all.join(", ") }),
            )
        })?;
        if let Err(warning) = guest.unplug(&known) {
            note(&warning);
            return Ok((json!({"warning": warning.to_string()}), Grant::default()));
        }
        inner.record.remove(&known);
        self.keep(inner);
        if let Err(refusal) = self.write_down(inner) {
            note(&refusal.reason);
        }
        done()
    }

    // Migration: the source.

    fn prepare(&self, inner: &mut Inner, parameters: &Value) -> Answer {
        let to = parameters["to"].as_str().map(PathBuf::from);
        let to = to.ok_or_else(|| Refusal::new("no directory is named"))?;
        let same_process = parameters["same_process"].as_bool().unwrap_or(false);
        let name = &inner.record.name;
        if self.has_ended() {
            let left = family::shown(&family::of(&inner.record));
            return Err(Refusal::new(format!(
                "guest {name}'s own process has ended, and only that can move"
            ))
            .detail(format!(
                "it has left others, which keep its locks: {left}; lcr-guest stop {name} ends them"
            )));
        }
        if inner.record.state == State::Stopped {
            return Err(stands_still(name));
        }
        let guest = match std::mem::replace(&mut inner.hold, Hold::None) {
            Hold::Running(guest) => guest,
            other => {
                inner.hold = other;
                return Err(moving(&inner.record.name));
            }
        };
        let target = Target { uri: to.display().to_string(), with_descriptors: true };
        let grant = match guest.prepare_migrate(&target) {
            Ok((leaving, grant)) => {
                inner.hold = Hold::Departing(leaving);
                grant
            }
            Err(failed) => {
                inner.hold = Hold::Running(failed.guest);
                return Err(Refusal::new(failed.error));
            }
        };
        inner.record.state = State::Leaving;
        inner.record.to = Some(to);
        inner.same_process = same_process;
        if let Err(refusal) = self.write(&inner.record) {
            self.cancel(inner)?;
            return Err(refusal);
        }
        Ok((json!({"state": grant.state}), grant))
    }

    fn complete(&self, inner: &mut Inner) -> Answer {
        if !matches!(inner.hold, Hold::Departing(_)) {
            return Err(Refusal::new("the guest has left already"));
        }
        if inner.same_process && self.has_ended() {
            return Err(Refusal::new(format!("guest {}'s own process has ended", inner.record.name)));
        }
        if !inner.same_process {
            if let Err(refusal) = self.stand_still(inner) {
                self.go_on();
                return Err(refusal);
            }
            // They would write on, here, and not be known there.
            let family = family::of(&inner.record);
            if !family.is_empty() {
                self.go_on();
                let (name, all) = (&inner.record.name, family::shown(&family));
                return Err(Refusal::new(format!("guest {name} has other processes than its own: {all}")).detail(
                    "they would write on here: end them first, or migrate without COMMAND: then all go on as they are",
                ));
            }
        }
        // It is: just seen.
        let Hold::Departing(leaving) = std::mem::replace(&mut inner.hold, Hold::None) else { return done() };
        match leaving.complete() {
            Ok(left) => {
                inner.hold = Hold::Departed(left);
                done()
            }
            Err(failed) => {
                // It stands still until it is known what it has: that is seen to when the
                // other side cancels, or hangs up.
                inner.hold = Hold::Departing(failed.guest);
                Err(Refusal::new(failed.error))
            }
        }
    }

    fn finish(&self, inner: &mut Inner) -> Answer {
        match std::mem::replace(&mut inner.hold, Hold::None) {
            Hold::Departed(left) => left.forget(),
            other => {
                inner.hold = other;
                return Err(Refusal::new("the guest has not left: Complete comes first"));
            }
        }
        self.gone(inner);
        done()
    }

    /// The guest is the other side's.
    fn gone(&self, inner: &mut Inner) {
        inner.moved_to = inner.record.to.take();
        if !inner.same_process
            && let Err(error) = process::send(&self.process, Signal::KILL)
        {
            note(format!("the guest's process here cannot be ended, and must be: {error}"));
        }
        self.forget(&inner.record.name);
    }

    fn cancel(&self, inner: &mut Inner) -> Answer {
        let cancelled = match std::mem::replace(&mut inner.hold, Hold::None) {
            Hold::Departing(leaving) => leaving.cancel().map_err(|f| (Hold::Departing(f.guest), f.error)),
            Hold::Departed(left) => left.cancel().map_err(|f| (Hold::Departed(f.guest), f.error)),
            other => {
                inner.hold = other;
                return Err(Refusal::new("the guest does not move"));
            }
        };
        let regained = match cancelled {
            Ok(guest) => {
                // What the driver has not noticed, or not had back.
                let regained = regain(&self.plugin, &guest);
                inner.hold = Hold::Running(guest);
                regained
            }
            Err((hold, error)) => {
                inner.hold = hold;
                Err(error)
            }
        };
        match regained {
            Ok(()) => {
                self.goes_on(inner);
                done()
            }
            Err(error) => Err(self.stays_still(inner, Refusal::new(error))),
        }
    }

    /// The guest has its locks, and has not moved.
    fn goes_on(&self, inner: &mut Inner) {
        if inner.record.state == State::Stopped {
            self.go_on();
            family::signal(&inner.record, Signal::CONT);
        } else if !inner.same_process {
            self.go_on();
        }
        inner.record.state = State::Running;
        inner.record.to = None;
        self.keep(inner);
        if let Err(refusal) = self.write_down(inner) {
            note(&refusal.reason);
        }
    }

    /// The guest may not go on: without its locks it stands still, until they are there
    /// again or it is ended.
    fn stays_still(&self, inner: &mut Inner, refusal: Refusal) -> Refusal {
        let name = inner.record.name.clone();
        let stopped = if self.has_ended() { Ok(()) } else { self.stand_still(inner) };
        family::signal(&inner.record, Signal::STOP);
        inner.record.state = State::Stopped;
        if let Err(refusal) = self.write(&inner.record) {
            note(&refusal.reason);
        }
        let refusal = match stopped {
            Ok(()) => refusal.detail(format!("guest {name} stands still (SIGSTOP), without its locks")),
            // What was asked of it takes effect when the kernel lets it.
            Err(runs) => refusal.detail(format!("guest {name} may run, without its locks: {}", runs.reason)),
        };
        let refusal = refusal.detail(format!(
            "when they can be had: lcr-guest attach {name} takes them, and has it go on; or end it: lcr-guest stop {name}"
        ));
        refusal.print();
        refusal
    }

    /// A guest that stands still since a migration failed: once more, and from the start.
    fn resume(&self, inner: &mut Inner) -> Answer {
        let name = inner.record.name.clone();
        if inner.record.state != State::Stopped {
            return Err(Refusal::new(format!("guest {name} does not stand still")));
        }
        if let Hold::Running(guest) = &inner.hold {
            return match regain(&self.plugin, guest) {
                Ok(()) => {
                    self.goes_on(inner);
                    done()
                }
                Err(error) => Err(self.stays_still(inner, Refusal::new(error))),
            };
        }
        let arrived = inner.record.to.clone().map(|to| (arrival(&to, &inner.record), to));
        match arrived {
            Some((Arrival::Arrived, to)) => {
                self.finish(inner)?;
                Ok((json!({"moved": to.display().to_string()}), Grant::default()))
            }
            Some((Arrival::Undecided(..), to)) => Err(Refusal::new(format!(
                "it is not decided whether guest {name} arrives in {}",
                to.display()
            ))),
            Some((Arrival::Unknown(refusal), _)) => Err(refusal),
            Some((Arrival::Not, _)) | None => self.cancel(inner),
        }
    }

    /// The other side is gone in the middle of it. What it has written down decides.
    fn broken_off(&self) {
        loop {
            let mut inner = self.inner();
            let Some(to) = inner.record.to.clone() else { return };
            if inner.record.state != State::Leaving {
                // It was cancelled, and that has failed.
                return;
            }
            match arrival(&to, &inner.record) {
                Arrival::Arrived if matches!(inner.hold, Hold::Departed(_)) => {
                    let _ = self.finish(&mut inner);
                    let _ = rustix::io::write(&self.moved, &1_u64.to_ne_bytes());
                    return;
                }
                Arrival::Arrived | Arrival::Not => {
                    note(format!("the migration of guest {} was broken off", inner.record.name));
                    // Said already, where it fails.
                    let _ = self.cancel(&mut inner);
                    return;
                }
                Arrival::Undecided(other, _) => {
                    drop(inner);
                    process::wait(&other, None);
                }
                Arrival::Unknown(refusal) => {
                    // It is the same process there, or may be another: then this one must not
                    // go on.
                    if inner.same_process {
                        let _ = self.cancel(&mut inner);
                    } else {
                        self.stays_still(&mut inner, refusal);
                    }
                    return;
                }
            }
        }
    }

    /// Stops the guest, and sees it stopped: from then on it does not write.
    fn stand_still(&self, inner: &Inner) -> Result<(), Refusal> {
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::new(format!("guest {} does not stand still: {error}", inner.record.name))
        };
        process::send(&self.process, Signal::STOP).map_err(|error| failed(&error))?;
        let start = Instant::now();
        while !inner.record.process.is_none_or(process::Process::is_stopped) {
            if start.elapsed() > PATIENCE {
                return Err(failed(&"a thread of it waits for the kernel"));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn go_on(&self) {
        if let Err(error) = process::send(&self.process, Signal::CONT) {
            note(format!("the guest cannot be sent SIGCONT: {error}"));
        }
    }
}

/// What a guest has lost, if its driver says that it has.
pub(crate) fn has_lost(guest: &Running) -> Option<lcr_lock::Error> {
    guest.state().err().filter(|error| error.kind == Kind::Lost)
}

/// Takes again what a guest has lost, which stands still.
pub(crate) fn regain(plugin: &Plugin, guest: &Running) -> Result<(), lcr_lock::Error> {
    if has_lost(guest).is_none() {
        return Ok(());
    }
    plugin.driver().acquire(guest.owner(), &Request::default()).map(drop)
}

/// It is not to be moved.
fn stands_still(name: &str) -> Refusal {
    Refusal::new(format!("guest {name} stands still, without its locks: a migration has failed"))
        .detail(format!("take them again: lcr-guest attach {name}; or end it: lcr-guest stop {name}"))
}

fn nothing_named() -> Refusal {
    Refusal::new("neither a disk nor a lease is named")
}

/// Nothing else is done for a guest that moves.
fn moving(name: &str) -> Refusal {
    Refusal::new(format!("guest {name} is moving")).detail("ask again when it has arrived, or has not")
}

/// The guest, if it runs.
fn running(inner: &Inner) -> Result<&Running, Refusal> {
    match &inner.hold {
        _ if inner.record.state == State::Stopped => Err(stands_still(&inner.record.name)),
        Hold::Running(guest) => Ok(guest),
        _ => Err(moving(&inner.record.name)),
    }
}

/// What every Varlink service tells of itself.
fn about(method: &str, parameters: &Value) -> Answer {
    const SERVICE: &str = "org.varlink.service";
    let said = match method {
        "GetInfo" => json!({
            "vendor": "lcr", "product": "lcr-guest", "version": env!("CARGO_PKG_VERSION"),
            "url": "", "interfaces": [SERVICE, INTERFACE],
        }),
        "GetInterfaceDescription" if parameters["interface"] == INTERFACE => {
            json!({"description": DESCRIPTION})
        }
        _ => return Err(Refusal::new(format!("there is no {SERVICE}.{method} for {parameters}"))),
    };
    Ok((said, Grant::default()))
}
