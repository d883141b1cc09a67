//! What is known of a guest, for whoever comes later: another supervisor, `list`.
//!
//! JSON, with the keys of `lcr-guest list --json` and some of our own. A reader passes
//! over keys that it does not know.

use std::path::{Path, PathBuf};

use lcr_lock::{Guest, Lease, Mode, OnFailure, Request, Resource, Uuid};
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
    pub(crate) leases: Vec<Lease>,
    pub(crate) on_failure: OnFailure,
    pub(crate) state: State,
    /// What the driver attaches with.
    pub(crate) lock_state: String,
    /// Where it moves to.
    pub(crate) to: Option<PathBuf>,
}

/// Whether two paths lead to one file, or one device. One that is not there any more is
/// known by its name.
fn is_same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => {
            let both = |is: fn(&std::fs::FileType) -> bool| is(&one.file_type()) && is(&other.file_type());
            (one.dev(), one.ino()) == (other.dev(), other.ino())
                || both(std::fs::FileType::is_block_device) && one.rdev() == other.rdev()
        }
        (Err(_), Err(_)) => {
            let place =
                |path: &Path| Some((path.parent()?.canonicalize().ok()?, path.file_name()?.to_owned()));
            place(one).is_some_and(|one| place(other) == Some(one))
        }
        _ => false,
    }
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

    /// What it has: the leases come before the disks.
    pub(crate) fn resources(&self) -> impl Iterator<Item = Resource> {
        let leases = self.leases.iter().cloned().map(Resource::Lease);
        leases.chain(self.disks.iter().map(Disk::resource))
    }

    /// What it has that is meant by this: the same, or else the same file under another
    /// name.
    pub(crate) fn known(&self, meant: &Resource) -> Option<Resource> {
        let find = |fits: &dyn Fn(&Resource) -> bool| self.resources().find(fits);
        find(&|of_it| of_it.is_same(meant)).or_else(|| {
            find(&|of_it| {
                let named_alike = match (of_it, meant) {
                    (Resource::Lease(of_it), Resource::Lease(meant)) => {
                        let path = meant.path.clone();
                        Resource::Lease(Lease { path, ..of_it.clone() })
                            .is_same(&Resource::Lease(meant.clone()))
                    }
                    (Resource::Disk(_), Resource::Disk(_)) => true,
                    _ => false,
                };
                named_alike && is_same_file(of_it.path(), meant.path())
            })
        })
    }

    /// It has this, too.
    pub(crate) fn put(&mut self, resource: Resource) {
        match resource {
            Resource::Disk(disk) => {
                self.disks.push(Disk { path: disk.path.to_string_lossy().into_owned(), mode: disk.mode });
            }
            Resource::Lease(lease) => self.leases.push(lease),
        }
    }

    /// It has this no more.
    pub(crate) fn remove(&mut self, resource: &Resource) {
        self.disks.retain(|disk| !disk.resource().is_same(resource));
        self.leases.retain(|lease| !Resource::Lease(lease.clone()).is_same(resource));
    }

    /// Sets a parameter of its driver.
    pub(crate) fn set(&mut self, parameter: Parameter) {
        self.parameters.retain(|other| other.0 != parameter.0);
        self.parameters.push(parameter);
    }

    /// What its driver is asked for.
    pub(crate) fn request(&self, register_only: bool) -> Request {
        Request { register_only, on_failure: self.on_failure, ..Request::default() }
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
            leases,
            on_failure,
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
            "leases": leases.iter().map(lease_to_json).collect::<Vec<_>>(),
            "on_failure": on_failure.word(),
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
            // Who wrote it may have known neither of these.
            leases: value["leases"]
                .as_array()
                .into_iter()
                .flatten()
                .map(lease_of_json)
                .collect::<Option<_>>()?,
            on_failure: text("on_failure").map_or(Some(OnFailure::Default), OnFailure::of_word)?,
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

pub(crate) fn lease_to_json(lease: &Lease) -> Value {
    let Lease { name, lockspace, path, offset, mode } = lease;
    json!({
        "name": name, "lockspace": lockspace, "path": path.to_string_lossy(), "offset": offset,
        "mode": mode.word(),
    })
}

pub(crate) fn lease_of_json(value: &Value) -> Option<Lease> {
    let text = |key: &str| Some(value[key].as_str()?.to_owned());
    Some(Lease {
        name: text("name")?,
        lockspace: text("lockspace")?,
        path: text("path")?.into(),
        offset: value["offset"].as_u64()?,
        mode: Mode::of_word(value["mode"].as_str()?)?,
    })
}

/// What a resource is.
pub(crate) fn what_is(resource: &Resource) -> &'static str {
    match resource {
        Resource::Disk(_) => "disk",
        Resource::Lease(_) => "lease",
    }
}

/// What it is called: a disk by its path.
pub(crate) fn called(resource: &Resource) -> String {
    match resource {
        Resource::Disk(disk) => disk.path.to_string_lossy().into_owned(),
        Resource::Lease(lease) => lease.name.clone(),
    }
}

/// What is to be plugged or unplugged: a disk, or a lease.
pub(crate) fn resource_to_json(resource: &Resource) -> Value {
    match resource {
        Resource::Disk(disk) => {
            json!({"disk": {"path": disk.path.to_string_lossy(), "mode": disk.mode.word()}})
        }
        Resource::Lease(lease) => json!({"lease": lease_to_json(lease)}),
    }
}

pub(crate) fn resource_of_json(value: &Value) -> Option<Resource> {
    let disk = || Some(disk_of_json(&value["disk"])?.resource());
    disk().or_else(|| lease_of_json(&value["lease"]).map(Resource::Lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_under_two_names_is_one() {
        let place = lcr_tests::Scratch::new();
        let path = |name: &str| place.path().join(name);
        for directory in ["a", "b"] {
            std::fs::create_dir(path(directory)).unwrap();
        }
        std::fs::write(path("a/disk"), b"disk").unwrap();
        std::fs::write(path("b/disk"), b"disk").unwrap();
        std::os::unix::fs::symlink(path("a"), path("link")).unwrap();
        let same = |one: &str, other: &str| is_same_file(&path(one), &path(other));
        assert!(same("a/disk", "link/disk") && same("a/disk", "b/../a/disk") && !same("a/disk", "b/disk"));
        assert!(same("a/gone", "link/gone") && !same("a/gone", "b/gone") && !same("a/gone", "a/disk"));
    }

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
            leases: vec![Lease {
                name: "l".into(),
                lockspace: "s".into(),
                path: "/l".into(),
                offset: 512,
                mode: Mode::ReadOnly,
            }],
            on_failure: OnFailure::Pause,
            state: State::Leaving,
            lock_state: "state".into(),
            to: Some("/b".into()),
        };
        assert_eq!(Record::of_json(&record.to_json()), Some(record.clone()));
        let mut older = record.to_json();
        for newer in ["leases", "on_failure"] {
            older.as_object_mut().unwrap().remove(newer);
        }
        let known = Record { leases: Vec::new(), on_failure: OnFailure::Default, ..record.clone() };
        assert_eq!(Record::of_json(&older), Some(known));
        for resource in record.resources() {
            assert_eq!(resource_of_json(&resource_to_json(&resource)), Some(resource));
        }
        let starting = Record { process: None, to: None, state: State::Starting, ..record };
        assert_eq!(Record::of_json(&starting.to_json()), Some(starting));
        assert_eq!(Record::of_json(&json!({})), None);
    }
}
