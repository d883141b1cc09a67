//! Guests that ask for themselves: the program `lock-asker`, as tests use it.
//!
//! A driver with [`before_process`](lcr_lock::Features::before_process) off is asked in
//! the process that becomes the guest. What it is asked for goes there on its command
//! line, as a [record](lcr_lock::record); its answer comes back on its standard output,
//! which ends when the guest's command is executed.

use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use lcr_lock::record::Record;
use lcr_lock::{Code, Error, Guest, Holder, Kind, OnFailure, Operation, Program, Request, Resource};

use crate::{Parameters, Process, waiting};

/// What starts them.
#[derive(Clone, Debug)]
pub struct Starter {
    /// The program `lock-asker`.
    pub program: &'static str,
    /// The driver's interface.
    pub interface: &'static str,
    /// Where it is, if it is not compiled in.
    pub library: Option<PathBuf>,
    /// What it is told at its first reference.
    pub parameters: Parameters,
    /// Variables of the process' environment.
    pub environment: Parameters,
}

/// A guest, and what is asked for it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The guest.
    pub guest: Guest,
    /// What it needs.
    pub resources: Vec<Resource>,
    /// How.
    pub request: Request,
}

impl Asked {
    /// These resources, and nothing besides.
    #[must_use]
    pub fn of(guest: &Guest, resources: &[Resource]) -> Asked {
        Asked { guest: guest.clone(), resources: resources.to_vec(), request: Request::default() }
    }

    fn record(&self) -> Record {
        let Asked { guest, resources, request } = self;
        let Request { state, register_only, restrict, on_failure, handler } = request;
        let mut record = Record::new("asked");
        record.put_guest(guest);
        for resource in resources {
            record.put_resource(resource, &[]);
        }
        record.put_text("register_only", register_only).put_text("restrict", restrict);
        record.put_text("on_failure", on_failure);
        if let Some(state) = state {
            record.put_text("state", state);
        }
        if let Some(Program { path, arguments }) = handler {
            let path = path.display().to_string();
            let parts: Vec<&[u8]> = std::iter::once(path.as_bytes())
                .chain(arguments.iter().map(|text| text.as_bytes()))
                .collect();
            record.put("handler", &parts);
        }
        record
    }

    /// Reads what was written on the command line.
    #[must_use]
    pub fn of_record(record: &Record) -> Option<Asked> {
        let handler = record.words().iter().find(|word| word.key() == "handler").map(|word| Program {
            path: word.text(0).unwrap_or_default().into(),
            arguments: (1..word.parts().len()).filter_map(|at| Some(word.text(at)?.to_owned())).collect(),
        });
        Some(Asked {
            guest: record.guest()?,
            resources: record.resources().map(|(resource, _)| resource).collect(),
            request: Request {
                state: record.text("state").map(str::to_owned),
                register_only: record.value("register_only")?,
                restrict: record.value("restrict")?,
                on_failure: OnFailure::of_word(record.text("on_failure")?)?,
                handler,
            },
        })
    }
}

/// A guest's process that has started, and its state.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub process: Process,
    /// What a manager attaches with.
    pub state: String,
}

/// A process that has locks, and gives them up before it ends.
#[derive(Debug)]
pub struct Waiting(Process);

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.0.stdin.take());
        // Killed where it panics meanwhile: by the process' own drop.
        let _ = self.0.0.wait();
    }
}

impl Starter {
    /// The same with one more variable in the process' environment.
    #[must_use]
    pub fn with_variable(mut self, name: &'static str, value: impl Into<String>) -> Starter {
        self.environment.push((name, value.into()));
        self
    }

    /// Starts a guest, which asks for itself and then executes its command.
    ///
    /// # Errors
    ///
    /// What the driver has answered; or the command could not be executed.
    pub fn start(&self, asked: &Asked, command: &Command) -> Result<Started, Error> {
        let mut process = self.run("start", asked, Some(command));
        // Ends with the execution of the command.
        let state = self.answer(&mut process, |process, text| {
            let mut output = process.0.stdout.take().unwrap_or_else(|| unreachable!("it was asked for"));
            output.read_to_string(text).map(drop)
        })?;
        Ok(Started { process, state })
    }

    /// Takes locks, in a process that waits.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn hold(&self, asked: &Asked) -> Result<Waiting, Error> {
        let mut process = self.run("hold", asked, None);
        self.first_line(&mut process)?;
        Ok(Waiting(process))
    }

    /// Starts a process that is known to the driver and has no locks.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn registered(&self, guest: &Guest) -> Result<Started, Error> {
        let request = Request { register_only: true, ..Request::default() };
        self.start(&Asked { request, ..Asked::of(guest, &[]) }, &waiting())
    }

    /// Asks, in a process of its own, what a manager that attaches is told.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn inquire(&self, guest: &Guest, state: &str) -> Result<String, Error> {
        let request = Request { state: Some(state.to_owned()), ..Request::default() };
        let mut process = self.run("inquire", &Asked { request, ..Asked::of(guest, &[]) }, None);
        self.first_line(&mut process)
    }

    fn run(&self, what: &str, asked: &Asked, command: Option<&Command>) -> Process {
        let Starter { program, interface, library, parameters, environment } = self;
        let library = library.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let mut line = Command::new(program);
        line.args([what, interface, &library, &asked.record().to_string()]);
        line.args(parameters.iter().map(|(name, value)| format!("{name}={value}")));
        if let Some(command) = command {
            line.arg("--").arg(command.get_program()).args(command.get_args());
        }
        line.envs(environment.iter().map(|(name, value)| (name, value)));
        line.stdin(Stdio::piped()).stdout(Stdio::piped());
        Process(line.spawn().unwrap_or_else(|error| panic!("{program}: {error}")))
    }

    fn first_line(&self, process: &mut Process) -> Result<String, Error> {
        self.answer(process, |process, text| {
            use std::io::BufRead as _;
            let output = process.0.stdout.take().unwrap_or_else(|| unreachable!("it was asked for"));
            std::io::BufReader::new(output).read_line(text).map(drop)
        })
    }

    fn answer(
        &self,
        process: &mut Process,
        read: impl FnOnce(&mut Process, &mut String) -> std::io::Result<()>,
    ) -> Result<String, Error> {
        let mut text = String::new();
        read(process, &mut text).expect("a pipe can be read");
        let last = text.lines().last().unwrap_or_default();
        match last.split_once(' ') {
            Some(("granted", state)) => Ok(state.to_owned()),
            Some(("refused", error)) => {
                Err(error_of(error).unwrap_or_else(|| panic!("lock-asker says {error:?}")))
            }
            _ => panic!("lock-asker says {text:?}: {:?}", process.0.wait()),
        }
    }
}

const KINDS: [Kind; 10] = [
    Kind::Held,
    Kind::Unsupported,
    Kind::NotFound,
    Kind::OutOfOrder,
    Kind::Invalid,
    Kind::Unreachable,
    Kind::Denied,
    Kind::Lost,
    Kind::Failed,
    Kind::Panicked,
];
const OPERATIONS: [Operation; 6] = [
    Operation::Acquire,
    Operation::Open,
    Operation::Add,
    Operation::Child,
    Operation::Inquire,
    Operation::Register,
];

fn named<T: fmt::Debug + Copy>(all: &[T], name: &str) -> Option<T> {
    all.iter().copied().find(|one| format!("{one:?}") == name)
}

/// An error on one line, for [`Starter`] to read.
#[must_use]
pub fn record_of(error: &Error) -> Record {
    let Error { kind, driver, operation, resource, holder, code, reason, hint } = error;
    let mut record = Record::new("error");
    record.put_text("kind", format!("{kind:?}")).put_text("operation", format!("{operation:?}"));
    record.put_text("driver", driver).put_text("reason", reason).put_text("hint", hint);
    if let Some(resource) = resource {
        record.put_text("resource", resource);
    }
    if let Some(holder) = holder {
        let Holder { name, uuid, pid, program, host } = &**holder;
        let texts = [
            name.clone(),
            uuid.map(|uuid| uuid.to_string()),
            pid.map(|pid| pid.to_string()),
            program.clone(),
            host.clone(),
        ]
        .map(Option::unwrap_or_default);
        record.put("holder", &texts.each_ref().map(|text| text.as_bytes()));
    }
    if let Some(code) = code {
        let number = code.number.to_string();
        record.put("code", &[number.as_bytes(), code.name.as_bytes(), code.meaning.as_bytes()]);
    }
    record
}

fn error_of(line: &str) -> Option<Error> {
    let record: Record = line.parse().ok()?;
    let word = |key: &str| record.words().iter().find(|word| word.key() == key);
    let text = |key: &str| record.text(key).map(str::to_owned);
    let holder = word("holder").map(|word| {
        let part = |at: usize| word.text(at).filter(|text| !text.is_empty());
        Box::new(Holder {
            name: part(0).map(str::to_owned),
            uuid: part(1).and_then(|text| text.parse().ok()),
            pid: part(2).and_then(|text| text.parse().ok()),
            program: part(3).map(str::to_owned),
            host: part(4).map(str::to_owned),
        })
    });
    let code = word("code").and_then(|word| {
        Some(Box::new(Code {
            number: word.text(0)?.parse().ok()?,
            name: word.text(1)?.to_owned(),
            meaning: word.text(2)?.to_owned(),
        }))
    });
    Some(Error {
        kind: named(&KINDS, record.text("kind")?)?,
        driver: text("driver")?,
        operation: named(&OPERATIONS, record.text("operation")?)?,
        resource: text("resource"),
        holder,
        code,
        reason: text("reason")?,
        hint: text("hint")?,
    })
}
