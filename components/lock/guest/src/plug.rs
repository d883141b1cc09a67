//! `lcr-guest plug` and `unplug`: asked of the guest's supervisor.

use std::process::ExitCode;

use lcr_lock::Resource;

use crate::arguments::{Disk, Needs, Plug};
use crate::directory::{Guests, Life};
use crate::record::{called, resource_to_json};
use crate::refusal::{Refusal, note};
use crate::wire::Client;

pub(crate) fn plug(arguments: Plug) -> crate::Result {
    ask(&arguments, "Plug")
}

pub(crate) fn unplug(arguments: Plug) -> crate::Result {
    ask(&arguments, "Unplug")
}

/// Asks for all, leases first: those before the first that is refused are plugged.
fn ask(Plug { name, needs: Needs { disks, leases }, of }: &Plug, method: &str) -> crate::Result {
    crate::users::become_owner(of, &name.0)?;
    let guests = Guests::here()?;
    let client = connect(&guests, &name.0)?;
    let leases = leases.iter().cloned().map(Resource::Lease);
    let all: Vec<Resource> = leases.chain(disks.iter().map(Disk::resource)).collect();
    for (at, resource) in all.iter().enumerate() {
        let (answer, _) = client.call(method, &resource_to_json(resource)).map_err(|refusal| {
            all[..at].iter().fold(refusal, |refusal, resource| {
                refusal.detail(format!("done before that: {} {}", method.to_lowercase(), called(resource)))
            })
        })?;
        if let Some(warning) = answer["warning"].as_str() {
            note(warning);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Connects to the supervisor of a guest, which must have one.
pub(crate) fn connect(guests: &Guests, name: &str) -> Result<Client, Refusal> {
    let record = guests.known(name)?;
    match guests.life(&record) {
        Life::Supervised => Client::connect(guests, name),
        Life::Unsupervised(process) => {
            Err(Refusal::new(format!("guest {name} runs without a supervisor (pid {})", process.pid))
                .detail(format!("take it up first: lcr-guest attach {name}")))
        }
        Life::Ended => Err(Refusal::new(format!("guest {name} has ended"))),
    }
}
