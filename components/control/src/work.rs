//! A replacement takes as long as it takes: in a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use lcr_core::Factory;
use lcr_core::factory::{Failure, Replacement};
use serde_json::{Value, json};

use crate::request::{Ask, One, Refused};
use crate::server::Wake;
use crate::shape;

/// How many may be under way or wait for their turn.
pub(crate) const MOST: usize = 16;

/// What a replacement came to, for the client that asked.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) client: u64,
    pub(crate) answer: Result<Value, Refused>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Job {
    Plan(Ask),
    Replace(Ask),
    Rollback { interface: String, timeout: Option<Duration> },
}

/// Starts jobs, and says when they are done.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) factory: Factory,
    pub(crate) done: Sender<Done>,
    pub(crate) wake: Arc<Wake>,
    pub(crate) working: Arc<AtomicUsize>,
}

impl Workshop {
    /// Starts a job for `client`, unless there are too many. It is called off when
    /// `cancelled` becomes true.
    pub(crate) fn start(
        &self,
        client: u64,
        uid: u32,
        job: Job,
        cancelled: Arc<AtomicBool>,
    ) -> Result<(), Refused> {
        let busy = |what: &str| Refused::new("io.lcr.Control.Busy", json!({"limit": MOST, "what": what}));
        let place = Place::take(&self.working).ok_or_else(|| busy("replacements"))?;
        let (factory, done, wake) = (self.factory.clone(), self.done.clone(), Arc::clone(&self.wake));
        let work = move || {
            crate::start::leave_signals_to_others();
            let answer = catch_unwind(AssertUnwindSafe(|| job.run(&factory, uid, cancelled)));
            let answer = answer.unwrap_or_else(|_| {
                let reason = "the replacement panicked, which it must not: please report it";
                Err(Refused::new("io.lcr.Control.Defect", json!({"reason": reason})))
            });
            drop(place);
            let _ = done.send(Done { client, answer });
            wake.wake();
        };
        let spawned = thread::Builder::new().name("lcr-replace".to_owned()).spawn(work);
        spawned.map(drop).map_err(|error| busy(&format!("threads: {error}")))
    }
}

struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(working: &Arc<AtomicUsize>) -> Option<Place> {
        let taken = working.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < MOST).then_some(n + 1));
        taken.is_ok().then(|| Place(Arc::clone(working)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Job {
    fn run(self, factory: &Factory, uid: u32, cancelled: Arc<AtomicBool>) -> Result<Value, Refused> {
        let asked = |replacement: Replacement, timeout: Option<Duration>| {
            let replacement = replacement.requester(uid).cancelled_by(cancelled);
            timeout.into_iter().fold(replacement, Replacement::timeout)
        };
        let (wish, outcome, word) = match self {
            Job::Plan(ask) => {
                let (replacement, wish) = replacement(factory, &ask);
                (wish, asked(replacement, ask.timeout).plan(), "planned")
            }
            Job::Replace(ask) => {
                let (replacement, wish) = replacement(factory, &ask);
                (wish, asked(replacement, ask.timeout).run(), "done")
            }
            Job::Rollback { interface, timeout } => {
                (Vec::new(), asked(factory.rollback(&interface), timeout).run(), "done")
            }
        };
        match outcome {
            Ok(report) => Ok(shape::report(&report, word)),
            Err(failure) => Err(failed(factory, &failure, &wish)),
        }
    }
}

type Wish = (String, Option<i32>, Option<PathBuf>);

fn replacement(factory: &Factory, ask: &Ask) -> (Replacement, Vec<Wish>) {
    let mut wishes = Vec::new();
    let mut replacement: Option<Replacement> = None;
    for One { interface, file, version } in &ask.interfaces {
        wishes.push((interface.clone(), *version, file.clone()));
        let mut next = match replacement {
            None => factory.replace(interface),
            Some(before) => before.also(interface),
        };
        if let Some(file) = file {
            next = next.with(file);
        }
        if let Some(version) = version {
            next = next.version(*version);
        }
        replacement = Some(next);
    }
    (replacement.unwrap_or_else(|| factory.replace("")), wishes)
}

/// A failure, with what serves on.
fn failed(factory: &Factory, failure: &Failure, wishes: &[Wish]) -> Refused {
    use lcr_core::factory::Stage;
    let interfaces = factory.interfaces();
    let serving = interfaces.iter().filter(|i| i.name == failure.interface && i.state != Stage::Leaving);
    let from = serving.max_by_key(|i| (i.state != Stage::Idle, i.version)).map(|i| i.version);
    let wish = wishes.iter().find(|(interface, ..)| *interface == failure.interface);
    let (to, file): (_, Option<&Path>) = wish.map_or((None, None), |(_, to, file)| (*to, file.as_deref()));
    Refused::new("io.lcr.Control.Failed", shape::failure(failure, from, to, file))
}
