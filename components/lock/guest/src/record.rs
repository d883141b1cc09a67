//! What is known of a guest, for whoever comes later: another supervisor, `list`.
//!
//! JSON, with the keys of `lcr-guest list --json` and some of our own. A reader passes
//! over keys that it does not know.

use std::path::PathBuf;

use lcr_lock::{Guest, Mode, Uuid};
use serde_json::{Value, json};

use crate::arguments::{Disk, Parameter};
use crate::process::Process;

/// A guest's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) uuid: Uuid,
    /// What the guest's processes have in their environment: see [`family`](crate::family).
    pub(crate) mark: String,
    /// None before it starts.
    pub(crate) process: Option<Process>,
    /// Who has written this, and may have ended.
    pub(crate) supervisor: Process,
    /// The driver's interface.
    pub(crate) driver: String,
    pub(crate) driver_version: i32,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) disks: Vec<Disk>,
    pub(crate) state: State,
    /// What the driver attaches with.
    pub(crate) lock_state: String,
    /// Where it moves to.
    pub(crate) to: Option<PathBuf>,
}

/// Where a guest is in its life, as its supervisor wrote it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Running,
    /// It moves to another run directory.
    Leaving,
    /// It moves here, and is not here before it is running.
    Arriving,
    /// It stands still, without its locks: it did not move, and they could not be had back.
    Stopped,
    /// It has lost its locks.
    Lost,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Leaving => "leaving",
            State::Arriving => "arriving",
            State::Stopped => "stopped",
            State::Lost => "lost",
        }
    }

    fn of_word(word: &str) -> Option<State> {
        use State::{Arriving, Leaving, Lost, Running, Starting, Stopped};
        let all = [Starting, Running, Leaving, Arriving, Stopped, Lost];
        all.into_iter().find(|state| state.word() == word)
    }
}

impl Record {
    /// The guest, as drivers know it.
    pub(crate) fn guest(&self) -> Guest {
        let guest = Guest::new(&self.name, self.uuid);
        match self.process {
            Some(process) => guest.with_pid(process.pid),
            None => guest,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let Record {
            name,
            uuid,
            mark,
            process,
            supervisor,
            driver,
            driver_version,
            parameters,
            disks,
            state,
            lock_state,
            to,
        } = self;
        let parameters: serde_json::Map<String, Value> =
            parameters.iter().map(|Parameter(key, value)| (key.clone(), value.as_str().into())).collect();
        json!({
            "name": name,
            "uuid": uuid.to_string(),
            "mark": mark,
            "pid": process.map(|process| process.pid),
            "start": process.map(|process| process.start),
            "supervisor_pid": supervisor.pid,
            "supervisor_start": supervisor.start,
            "driver": driver,
            "driver_version": driver_version,
            "parameters": parameters,
            "disks": disks.iter().map(disk_to_json).collect::<Vec<_>>(),
            "state": state.word(),
            "lock_state": lock_state,
            "to": to.as_ref().map(|to| to.to_string_lossy()),
        })
    }

    /// None if it is not one.
    pub(crate) fn of_json(value: &Value) -> Option<Record> {
        let text = |key: &str| value[key].as_str();
        let process = |pid: &str, start: &str| {
            let pid = u32::try_from(value[pid].as_u64()?).ok()?;
            Some(Process { pid, start: value[start].as_u64()? })
        };
        let parameters = value["parameters"].as_object()?.iter();
        Some(Record {
            name: text("name")?.to_owned(),
            uuid: text("uuid")?.parse().ok()?,
            // Who wrote it may not have known it.
            mark: text("mark").unwrap_or_default().to_owned(),
            process: process("pid", "start"),
            supervisor: process("supervisor_pid", "supervisor_start")?,
            driver: text("driver")?.to_owned(),
            driver_version: i32::try_from(value["driver_version"].as_i64()?).ok()?,
            parameters: parameters
                .map(|(key, value)| Some(Parameter(key.clone(), value.as_str()?.to_owned())))
                .collect::<Option<_>>()?,
            disks: value["disks"].as_array()?.iter().map(disk_of_json).collect::<Option<_>>()?,
            state: State::of_word(text("state")?)?,
            lock_state: text("lock_state")?.to_owned(),
            to: text("to").map(PathBuf::from),
        })
    }
}

pub(crate) fn disk_to_json(disk: &Disk) -> Value {
    json!({"path": disk.path, "mode": disk.mode.word()})
}

pub(crate) fn disk_of_json(value: &Value) -> Option<Disk> {
    let mode = Mode::of_word(value["mode"].as_str()?)?;
    Some(Disk { path: value["path"].as_str()?.to_owned(), mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_is_written() {
        let record = Record {
            name: "web".into(),
            uuid: Uuid([7; 16]),
            mark: "mark".into(),
            process: Some(Process { pid: 1, start: 2 }),
            supervisor: Process { pid: 3, start: 4 },
            driver: "lock.file".into(),
            driver_version: 1,
            parameters: vec![Parameter("directory".into(), "/srv".into())],
            disks: vec![Disk { path: "/a".into(), mode: Mode::Shared }],
            state: State::Leaving,
            lock_state: "state".into(),
            to: Some("/b".into()),
        };
        assert_eq!(Record::of_json(&record.to_json()), Some(record.clone()));
        let starting = Record { process: None, to: None, state: State::Starting, ..record };
        assert_eq!(Record::of_json(&starting.to_json()), Some(starting));
        assert_eq!(Record::of_json(&json!({})), None);
    }
}
