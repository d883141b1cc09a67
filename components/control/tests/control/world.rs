//! A program with a control socket of its own: this process, with a factory and a
//! directory for each test.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use counter_api::Counter;
use lcr_control::Running;
use lcr_control::client::{Client, Error};
use lcr_core::{Factory, Handle};
use lcr_tests::Scratch;
use serde_json::{Value, json};

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) control: Running,
    pub(crate) factory: Factory,
    pub(crate) counter: Handle<dyn Counter>,
    pub(crate) scratch: Scratch,
}

impl World {
    /// The compiled-in counter, version 1, is live.
    pub(crate) fn new() -> World {
        let scratch = Scratch::new();
        let factory = Factory::builder().without_environment().build();
        let counter = factory.reference("counter", 1).unwrap();
        let builder = lcr_control::Builder::new().directory(scratch.path()).factory(&factory);
        let control = builder.start().unwrap();
        World { control, factory, counter, scratch }
    }

    pub(crate) fn socket(&self) -> &Path {
        self.control.socket()
    }

    pub(crate) fn client(&self) -> Client {
        let client = Client::connect(self.socket()).unwrap();
        client.timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// A connection that sends what it likes.
    pub(crate) fn raw(&self) -> Raw {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Raw(stream)
    }

    /// A fresh client is answered, and nothing was replaced.
    pub(crate) fn assert_unharmed(&self) {
        let list = self.client().call("List", json!({})).unwrap();
        let counter = interface(&list, "counter", 1);
        assert_eq!(counter["state"], "live", "{list}");
        assert!(self.counter.next(0).is_whole());
    }
}

pub(crate) struct Raw(pub(crate) UnixStream);

impl Raw {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// The next answer; `None` at the end.
    pub(crate) fn answer(&mut self) -> Option<Value> {
        let mut bytes = Vec::new();
        loop {
            let mut byte = [0];
            match self.0.read(&mut byte) {
                Ok(1) if byte[0] == 0 => return Some(serde_json::from_slice(&bytes).unwrap()),
                Ok(1) => bytes.push(byte[0]),
                Ok(_) => {
                    assert!(bytes.is_empty(), "half an answer: {}", String::from_utf8_lossy(&bytes));
                    return None;
                }
                // It was closed while something of ours was unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }
}

pub(crate) const LIST: &[u8] = b"{\"method\":\"io.lcr.Control.List\"}\0";

/// An interface in what `List` answered.
pub(crate) fn interface<'a>(list: &'a Value, name: &str, version: i32) -> &'a Value {
    let all = list["interfaces"].as_array().unwrap();
    let found = all.iter().find(|i| i["name"] == name && i["version"] == version);
    found.unwrap_or_else(|| panic!("no {name} {version} in {list}"))
}

/// The error's name and parameters.
pub(crate) fn refused(answer: Result<Value, Error>) -> (String, Value) {
    match answer {
        Err(Error::Refused { error, parameters }) => (error, parameters),
        other => panic!("not refused: {other:?}"),
    }
}
