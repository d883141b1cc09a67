//! `lcr-guest plug` and `unplug`: asked of the guest's supervisor.

use std::process::ExitCode;

use serde_json::json;

use crate::arguments::Plug;
use crate::directory::{Guests, Life};
use crate::record::disk_to_json;
use crate::refusal::{Refusal, note};
use crate::wire::Client;

pub(crate) fn plug(arguments: Plug) -> crate::Result {
    ask(&arguments, "Plug")
}

pub(crate) fn unplug(arguments: Plug) -> crate::Result {
    ask(&arguments, "Unplug")
}

/// Asks for all disks: those before the first that is refused are plugged.
fn ask(Plug { name, disks }: &Plug, method: &str) -> crate::Result {
    let guests = Guests::here()?;
    let client = connect(&guests, &name.0)?;
    for (at, disk) in disks.iter().enumerate() {
        let (answer, _) = client.call(method, &json!({"disk": disk_to_json(disk)})).map_err(|refusal| {
            disks[..at].iter().fold(refusal, |refusal, disk| {
                refusal.detail(format!("done before that: {} {}", method.to_lowercase(), disk.path))
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
