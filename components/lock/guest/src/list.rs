//! `lcr-guest list`: the guests of this run directory.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::arguments::List;
use crate::attach;
use crate::directory::{Guests, Life};
use crate::record::{Record, State};
use crate::refusal::{Refusal, plain};
use crate::users;
use crate::wire::Client;

/// How long a supervisor may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// A column is not made wider than this for a text that is: formatting a width of more
/// than 65535 panics.
const WIDEST: usize = 200;

pub(crate) fn run(List { json, of, all_users }: &List) -> crate::Result {
    let (shown, failed) = match of.user {
        None if !all_users => own()?,
        user => users::guests(user)?,
    };
    let text = if *json { format!("{:#}\n", Value::from(shown)) } else { table(&shown) };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Refusal::new(format!("cannot write to standard output: {error}")))
        }
        _ => failed.map_or(Ok(ExitCode::SUCCESS), Err),
    }
}

/// The guests of this run directory, and what cannot be read of them.
fn own() -> crate::Result<(Vec<Value>, Option<Refusal>)> {
    // What is only looked at is not made: one that is not there has none.
    let there = lcr_control::place::directory().join("guests").symlink_metadata();
    let guests = match there {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        // What else is wrong with it, it says.
        _ => Some(Guests::here()?),
    };
    let mut shown = Vec::new();
    let mut failed = None;
    for name in guests.as_ref().map(Guests::names).unwrap_or_default() {
        let Some(guests) = &guests else { break };
        match guests.record(&name) {
            Ok(Some(record)) => shown.push(look(guests, record)),
            // It has ended just now.
            Ok(None) => {}
            Err(refusal) => failed = Some(refusal),
        }
    }
    Ok((shown, failed))
}

/// A guest as it is shown.
fn look(guests: &Guests, record: Record) -> Value {
    let name = record.name.clone();
    let (record, supervisor, state) = match guests.life(&record) {
        Life::Supervised => {
            // Its supervisor knows best.
            let said = Client::connect(guests, &name).and_then(|client| {
                client.patience(PATIENCE);
                client.call("Status", &json!({}))
            });
            let said = said.ok().and_then(|(answer, _)| Record::of_json(&answer["guest"]));
            let record = said.unwrap_or(record);
            let state = record.state.word();
            (record, true, state)
        }
        Life::Unsupervised(process) => {
            let process = Some(process);
            let state = match record.state {
                State::Arriving | State::Stopped | State::Lost => record.state.word(),
                _ if attach::has_lost(&record) => State::Lost.word(),
                _ => "unsupervised",
            };
            (Record { process, ..record }, false, state)
        }
        Life::Ended => {
            // Shown once.
            if let Ok(locked) = guests.lock()
                && matches!(guests.record(&name), Ok(Some(now)) if guests.life(&now) == Life::Ended)
            {
                guests.remove(&name, &locked);
            }
            (record, false, "ended")
        }
    };
    let mut value = record.to_json();
    value["state"] = state.into();
    if !supervisor {
        value["supervisor_pid"] = Value::Null;
    }
    if let Some(all) = value.as_object_mut() {
        for own in ["mark", "start", "supervisor_start", "lock_state", "parameters", "to"] {
            all.remove(own);
        }
    }
    value
}

fn table(guests: &[Value]) -> String {
    // Where others' guests are asked for, it says whose each is.
    let whose = guests.iter().any(|guest| guest["user"].is_u64());
    let head = ["NAME", "STATE", "PID", "SUPERVISOR", "DRIVER", "DISKS"].map(str::to_owned);
    let user = |user: &str| whose.then(|| user.to_owned());
    let mut rows: Vec<Vec<String>> = vec![user("USER").into_iter().chain(head).collect()];
    for guest in guests {
        let number = |key: &str| guest[key].as_u64().map_or("-".to_owned(), |number| number.to_string());
        let text = |key: &str| plain(guest[key].as_str().unwrap_or_default());
        let disks = guest["disks"].as_array().into_iter().flatten().map(|disk| {
            let path = plain(disk["path"].as_str().unwrap_or_default());
            match disk["mode"].as_str() {
                Some("exclusive") | None => path,
                Some(mode) => format!("{path},{mode}"),
            }
        });
        let leases = guest["leases"].as_array().into_iter().flatten().map(|lease| {
            let name = plain(lease["name"].as_str().unwrap_or_default());
            match lease["mode"].as_str() {
                Some("exclusive") | None => format!("lease:{name}"),
                Some(mode) => format!("lease:{name},{mode}"),
            }
        });
        let disks: Vec<String> = leases.chain(disks).collect();
        let row = [
            text("name"),
            text("state"),
            number("pid"),
            number("supervisor_pid"),
            format!("{} {}", text("driver"), guest["driver_version"]),
            disks.join(" "),
        ];
        rows.push(user(&number("user")).into_iter().chain(row).collect());
    }
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max();
        widest.unwrap_or(0).min(WIDEST)
    };
    // What comes last needs no room behind it.
    let widths: Vec<usize> = (0..rows[0].len() - 1).map(width).chain([0]).collect();
    rows.iter().fold(String::new(), |mut text, row| {
        let line = row.iter().zip(&widths).fold(String::new(), |mut line, (cell, width)| {
            // A text takes whatever is written to it.
            let _ = write!(line, "{cell:width$}  ");
            line
        });
        text.extend([line.trim_end(), "\n"]);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_they_hold() {
        let guest = json!({
            "name": "web", "state": "running", "pid": 12, "supervisor_pid": null, "driver": "lock.file",
            "driver_version": 1, "disks": [{"path": "/a", "mode": "exclusive"}, {"path": "/b", "mode": "shared"}],
            "leases": [{"name": "l", "mode": "exclusive"}],
        });
        assert_eq!(
            table(&[guest]),
            "NAME  STATE    PID  SUPERVISOR  DRIVER       DISKS\n\
             web   running  12   -           lock.file 1  lease:l /a /b,shared\n"
        );
    }

    #[test]
    fn guests_of_several_users_say_whose_they_are() {
        let guest = |user: u32| {
            json!({
                "name": "web", "state": "running", "pid": 12, "supervisor_pid": 11, "driver": "lock.file",
                "driver_version": 1, "disks": [], "user": user,
            })
        };
        assert_eq!(
            table(&[guest(0), guest(1000)]),
            "USER  NAME  STATE    PID  SUPERVISOR  DRIVER       DISKS\n\
             0     web   running  12   11          lock.file 1\n\
             1000  web   running  12   11          lock.file 1\n"
        );
    }

    /// As many disks as nobody has, and a driver as nobody calls it.
    #[test]
    fn a_text_of_any_length_is_shown_whole() {
        let path = format!("/{}", "x".repeat(1000));
        let disk = json!({"path": path, "mode": "exclusive"});
        let driver = format!("lock.{}", "y".repeat(70_000));
        let guest = json!({
            "name": "web", "state": "running", "pid": 12, "supervisor_pid": 11, "driver": driver,
            "driver_version": 1, "disks": vec![disk; 100],
        });
        let table = table(&[guest]);
        let row = table.lines().nth(1).unwrap();
        let disks = vec![path.as_str(); 100].join(" ");
        assert_eq!(row, format!("web   running  12   11          {driver} 1  {disks}"));
        let head = table.lines().next().unwrap();
        assert_eq!(head, format!("NAME  STATE    PID  SUPERVISOR  {:200}  DISKS", "DRIVER"));
    }
}
