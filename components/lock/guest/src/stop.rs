//! `lcr-guest stop`: ends a guest, whoever supervises it.

use std::process::ExitCode;
use std::time::Duration;

use rustix::process::Signal;

use crate::arguments::Stop;
use crate::directory::{Guests, Life};
use crate::process;
use crate::refusal::{Refusal, note};

pub(crate) fn run(Stop { name, kill_after }: &Stop) -> crate::Result {
    let name = &name.0;
    let guests = Guests::here()?;
    let record = guests.known(name)?;
    let failed =
        |error: std::io::Error| Refusal::new(format!("guest {name} cannot be sent a signal: {error}"));
    let Some(guest) = guests.process(&record) else {
        if guests.life(&record) == Life::Supervised {
            return Err(Refusal::new(format!("guest {name} has no process yet"))
                .detail(format!("its supervisor, process {}, is about to start it", record.supervisor.pid)));
        }
        guests.remove(name, &guests.lock()?);
        return Err(Refusal::new(format!("guest {name} has ended already")));
    };
    let supervisor = record.supervisor.open();
    if let Some(process) = guest.open() {
        process::send(&process, Signal::TERM).map_err(failed)?;
        if !process::wait(&process, Some(Duration::from_secs((*kill_after).into()))) {
            note(format!("guest {name} has not ended in {kill_after} s: it is killed"));
            process::send(&process, Signal::KILL).map_err(failed)?;
            process::wait(&process, None);
        }
    }
    // Its supervisor sees to the rest; without one, nobody does.
    match supervisor {
        Some(supervisor) => {
            process::wait(&supervisor, Some(Duration::from_secs(10)));
        }
        None => {
            let locked = guests.lock()?;
            if guests.record(name)?.is_some_and(|now| now.process == record.process) {
                guests.remove(name, &locked);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
