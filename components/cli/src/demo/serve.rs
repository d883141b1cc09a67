//! `lcr demo --serve`: a program under light load that can be asked.

use std::num::NonZeroU32;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use counter_api::Counter;
use greeter_api::Greeter;
use lcr_core::Handle;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::output::{Output, path};
use crate::refusal::Refusal;

/// How long a caller waits between two calls.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) fn run(threads: Option<NonZeroU32>, output: &mut Output) -> crate::Result {
    let threads = threads.map_or(2, NonZeroU32::get);
    // Before there is a socket to be left behind.
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| Refusal::new(format!("cannot wait for an interrupt: {error}")))?;
    let counter: Handle<dyn Counter> = lcr_core::reference("counter", 1).map_err(Refusal::new)?;
    let greeter: Handle<dyn Greeter> = lcr_core::reference("greeter", 2).map_err(Refusal::new)?;
    let control = lcr_control::start().map_err(Refusal::new)?;
    let (failed, failures) = channel();
    let mut stops = Vec::new();
    for caller in 0..threads {
        let (counter, greeter, failed) = (counter.clone(), greeter.clone(), failed.clone());
        let (stop, stopped) = channel::<()>();
        stops.push(stop);
        let call = move || {
            let (mut number, mut generation) = (0, 0);
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(PAUSE) {
                let ticket = counter.next(caller);
                if ticket.number != number + 1 || ticket.generation < generation || !ticket.is_whole() {
                    let said = format!("caller {caller} got {ticket:?} after number {number}");
                    // At once, for who watches; and again at the end.
                    eprintln!("lcr: {said}");
                    let _ = failed.send(said);
                }
                (number, generation) = (ticket.number, ticket.generation);
                greeter.greet("Ada");
            }
        };
        let spawned = thread::Builder::new().name(format!("caller-{caller}")).spawn(call);
        spawned.map_err(|error| Refusal::new(format!("cannot start a thread: {error}")))?;
    }
    drop(failed);
    output.print(format!("pid {}\nsocket {}\n", std::process::id(), path(control.socket())));
    signals.forever().next();
    drop(stops);
    // A caller that ends has told what it saw.
    let seen: Vec<String> = failures.iter().take(8).collect();
    drop(control);
    match seen.is_empty() {
        true => Ok(()),
        false => {
            let refusal = Refusal::new("answers were lost or torn, and none must be");
            Err(seen.into_iter().fold(refusal, Refusal::detail))
        }
    }
}
