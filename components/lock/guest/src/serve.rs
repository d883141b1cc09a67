//! What a supervisor answers: Varlink interface `io.lcr.Guest`, on `<name>.sock`.
//!
//! Each connection has a thread; what they ask for is done one after the other. A
//! migration is a conversation on one connection, and its end decides what becomes of
//! the guest: see [`migrate`](crate::migrate).

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lcr_control::peer;
use lcr_lock::{Grant, Target};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::migrate::{Arrival, arrival};
use crate::process;
use crate::record::{State, called, resource_of_json, what_is};
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
                Ok((json!({"guest": inner.record.to_json()}), Grant::default()))
            }
            "Plug" => self.plug(inner, parameters),
            "Unplug" => self.unplug(inner, parameters),
            "Prepare" => self.prepare(inner, parameters),
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
        let Hold::Running(guest) = &inner.hold else { return Err(moving(&name)) };
        guest.plug(&resource).map_err(|error| {
            let what = what_is(&resource);
            Refusal::new(error)
                .detail(format!("guest {name} must not get the {what}; it runs on with what it has"))
        })?;
        inner.record.put(resource);
        if let Err(refusal) = self.write_down(inner) {
            note(&refusal.reason);
        }
        done()
    }

    fn unplug(&self, inner: &mut Inner, parameters: &Value) -> Answer {
        let meant = resource_of_json(parameters).ok_or_else(nothing_named)?;
        let name = inner.record.name.clone();
        let Hold::Running(guest) = &inner.hold else { return Err(moving(&name)) };
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
        if !inner.same_process {
            self.stand_still(inner)?;
        }
        // It is: just seen.
        let Hold::Departing(leaving) = std::mem::replace(&mut inner.hold, Hold::None) else { return done() };
        match leaving.complete() {
            Ok(left) => {
                inner.hold = Hold::Departed(left);
                done()
            }
            Err(failed) => {
                inner.hold = Hold::Departing(failed.guest);
                self.go_on();
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
        match cancelled {
            Ok(guest) => {
                inner.hold = Hold::Running(guest);
                if !inner.same_process {
                    self.go_on();
                }
                inner.record.state = State::Running;
                inner.record.to = None;
                if let Err(refusal) = self.write_down(inner) {
                    note(&refusal.reason);
                }
                done()
            }
            Err((hold, error)) => {
                inner.hold = hold;
                let name = &inner.record.name;
                let refusal = Refusal::new(error).detail(format!(
                    "guest {name} stands still, without its locks: end it: lcr-guest stop {name}"
                ));
                note(&refusal.reason);
                Err(refusal)
            }
        }
    }

    /// The other side is gone in the middle of it. What it has written down decides.
    fn broken_off(&self) {
        loop {
            let mut inner = self.inner();
            let Some(to) = inner.record.to.clone() else { return };
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
                Arrival::Undecided(other) => {
                    drop(inner);
                    process::wait(&other, None);
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
                self.go_on();
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

fn nothing_named() -> Refusal {
    Refusal::new("neither a disk nor a lease is named")
}

/// Nothing else is done for a guest that moves.
fn moving(name: &str) -> Refusal {
    Refusal::new(format!("guest {name} is moving")).detail("ask again when it has arrived, or has not")
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
