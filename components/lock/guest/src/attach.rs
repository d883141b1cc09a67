//! `lcr-guest attach`: takes up a guest that has lost its supervisor.

use lcr_lock::life::Policy;
use lcr_lock::{Driver as _, Grant};
use rustix::process::Signal;

use crate::arguments::Attach;
use crate::directory::{Guests, Life};
use crate::migrate::{Arrival, arrival};
use crate::record::{Record, State};
use crate::refusal::Refusal;
use crate::run::runs_on;
use crate::supervise::{Origin, Post, Supervisor};

pub(crate) fn run(Attach { name }: &Attach) -> crate::Result {
    let post = Post::new(Guests::here()?)?;
    let (mut record, was) = adopt(&post, &name.0)?;
    if was == State::Leaving {
        settle(&post, &record)?;
    }
    let plugin = post.driver(&mut record)?;
    let guest = plugin.attach(&record.guest(), Grant::of_state(record.lock_state.as_str()));
    let guest = guest.map_err(Refusal::new)?.child(Policy::default());
    let guest = guest.map_err(|error| {
        Refusal::new(error).detail("it was left as it is: a process that cannot be identified is not killed")
    })?;
    if was == State::Starting && plugin.about().features.before_process {
        // Its supervisor was killed before it had said so.
        plugin.driver().register(guest.owner(), guest.pid()).map_err(Refusal::new)?;
    }
    let open = post.running(&mut record, &guest).map_err(|refusal| runs_on(refusal, &name.0))?;
    Supervisor::run(post, plugin, record, open, guest, Origin::Adopted)
}

/// Makes this process the supervisor of a guest that has none. Answers where the guest
/// was in its life, too.
fn adopt(post: &Post, name: &str) -> Result<(Record, State), Refusal> {
    let Post { guests, own, .. } = post;
    let locked = guests.lock()?;
    let record = guests.known(name)?;
    let process = match guests.life(&record) {
        Life::Unsupervised(process) => process,
        Life::Supervised => {
            let refusal =
                Refusal::new(format!("guest {name} has a supervisor: process {}", record.supervisor.pid));
            return Err(refusal.detail("only one that has lost it can be taken up"));
        }
        Life::Ended => {
            guests.remove(name, &locked);
            return Err(Refusal::new(format!("guest {name} has ended, and its supervisor before it"))
                .detail("nothing is locked for it; start it anew: lcr-guest run"));
        }
    };
    if record.state == State::Arriving {
        return Err(Refusal::new(format!("guest {name} was on its way here, and did not arrive"))
            .detail(format!("its process {} has no locks: end it: lcr-guest stop {name}", process.pid)));
    }
    let was = record.state;
    // It is running when it is served.
    let state = if was == State::Running { State::Starting } else { was };
    let record = Record { process: Some(process), supervisor: *own, state, ..record };
    guests.write(&record, &locked)?;
    Ok((record, was))
}

/// The supervisor has ended in the middle of a migration: what the other side has written
/// down decides.
fn settle(post: &Post, record: &Record) -> Result<(), Refusal> {
    let Some((to, process)) = record.to.clone().zip(record.process) else { return Ok(()) };
    loop {
        match arrival(&to, record) {
            Arrival::Undecided(other) => {
                crate::process::wait(&other, None);
            }
            Arrival::Not => {
                return process.signal(Signal::CONT).map_err(|error| {
                    Refusal::new(format!("process {} cannot be sent SIGCONT: {error}", process.pid))
                });
            }
            Arrival::Arrived => {
                let other = Guests::of(&to)?.record(&record.name)?;
                if other.is_some_and(|other| other.process != Some(process)) {
                    let _ = process.signal(Signal::KILL);
                }
                post.guests.forget(&record.name, post.own);
                let name = &record.name;
                return Err(Refusal::new(format!("guest {name} has moved to {}", to.display())));
            }
        }
    }
}
