//! The other end: asking a program.
//!
//! ```no_run
//! use lcr_control::client::Client;
//! use serde_json::json;
//!
//! # fn main() -> Result<(), lcr_control::client::Error> {
//! let mut client = Client::connect("/run/user/1000/lcr/4711.sock")?;
//! let status = client.call("List", json!({}))?;
//! println!("{}", status["program"]);
//! # Ok(()) }
//! ```

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketType, connect, send, socket};
use serde_json::{Value, json};

use crate::{INTERFACE, legacy, peer, place};

/// A longer answer is not read.
const LIMIT: usize = 64 << 20;

/// A connection to a program.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    /// What was read, and not looked at yet.
    bytes: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or somebody who cannot be believed: a program of a
    /// user that is neither this one nor root.
    pub fn connect(path: impl Into<PathBuf>) -> Result<Client, Error> {
        let path = path.into();
        let at = |source| Error::Connect { path: path.clone(), source };
        let stream = place::connect(&path).map_err(at)?;
        let uid = peer::uid(&stream).map_err(at)?;
        // Root may ask anybody.
        if !peer::may_ask(uid) && !rustix::process::geteuid().is_root() {
            return Err(Error::Stranger { path, uid });
        }
        Ok(Client { stream, path, bytes: Vec::new() })
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long to wait for an answer; `None`: as long as it takes, as at first.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn timeout(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let set = self.stream.set_read_timeout(timeout).and(self.stream.set_write_timeout(timeout));
        set.map_err(|source| self.lost(source))
    }

    /// Calls a method of `io.lcr.Control`, and answers its parameters.
    ///
    /// # Errors
    ///
    /// The program's refusal, or the connection's end.
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Error> {
        self.ask(method, parameters, false)?;
        Ok(self.answer()?.0)
    }

    /// Calls a method that answers more than once; [`answer`](Self::answer) waits
    /// for the next one.
    ///
    /// # Errors
    ///
    /// The connection's end.
    pub fn stream(&mut self, method: &str, parameters: Value) -> Result<(), Error> {
        self.ask(method, parameters, true)
    }

    fn ask(&mut self, method: &str, parameters: Value, more: bool) -> Result<(), Error> {
        let mut message = json!({"method": format!("{INTERFACE}.{method}"), "parameters": parameters});
        if more {
            message["more"] = true.into();
        }
        let bytes = format!("{message}\0");
        match self.stream.write_all(bytes.as_bytes()) {
            // It has hung up, and may have said why: that is its answer.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                Ok(())
            }
            sent => sent.map_err(|source| self.lost(source)),
        }
    }

    /// The next answer, and whether there will be more.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn answer(&mut self) -> Result<(Value, bool), Error> {
        let mut looked = 0;
        let end = loop {
            if let Some(at) = self.bytes[looked..].iter().position(|&byte| byte == 0) {
                break looked + at;
            }
            looked = self.bytes.len();
            if looked > LIMIT {
                return Err(self.strange("its answer does not end"));
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => self.bytes.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(error)),
            }
        };
        let rest = self.bytes.split_off(end + 1);
        let message = std::mem::replace(&mut self.bytes, rest);
        let mut message: Value =
            serde_json::from_slice(&message[..end]).map_err(|error| self.strange(error))?;
        let parameters = message["parameters"].take();
        match message["error"].as_str() {
            Some(error) => Err(Error::Refused { error: error.to_owned(), parameters }),
            None => Ok((parameters, message["continues"] == true)),
        }
    }

    fn lost(&self, source: io::Error) -> Error {
        Error::Lost { path: self.path.clone(), source }
    }

    fn strange(&self, reason: impl std::fmt::Display) -> Error {
        Error::Strange { path: self.path.clone(), reason: reason.to_string() }
    }
}

/// Is it a message that a program carries out, `livereplace NAME versionN`? Nobody
/// answers to any other, and none leaves a trace.
///
/// ```
/// assert!(lcr_control::client::is_legacy_message("livereplace ckpt version2"));
/// assert!(!lcr_control::client::is_legacy_message("livereplace ckpt 2"));
/// ```
#[must_use]
pub fn is_legacy_message(text: &str) -> bool {
    legacy::message(text).is_some_and(|message| matches!(legacy::see(&message), legacy::Seen::Replace { .. }))
}

/// Sends the original's message to whoever listens on the abstract socket
/// `lcr.socket`. Nobody answers; the program's history says what became of it.
///
/// # Errors
///
/// Nobody listens, or the message is too long.
pub fn legacy_message(text: &str) -> io::Result<()> {
    let message = legacy::message(text).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "longer than 4095 bytes, or with a NUL")
    })?;
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    connect(&socket, &legacy::address()?)?;
    let sent = send(&socket, &message, SendFlags::NOSIGNAL)?;
    if sent < message.len() {
        return Err(io::Error::new(io::ErrorKind::WriteZero, "only a part of it was taken"));
    }
    Ok(())
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens.
    #[error("cannot connect to {}: {source}", .path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The other end belongs to somebody who may lie.
    #[error("user {uid} listens on {}, who is neither you nor root", .path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// The user.
        uid: u32,
    },
    /// The connection ended, or the time was over.
    #[error("no answer on {}: {source}", .path.display())]
    Lost {
        /// The socket.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// The answer is not Varlink's.
    #[error("no sound answer on {}: {reason}", .path.display())]
    Strange {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The program refused.
    #[error("{}", refusal(.error, .parameters))]
    Refused {
        /// The error's name.
        error: String,
        /// Its parameters.
        parameters: Value,
    },
}

/// A refusal as a sentence.
fn refusal(error: &str, parameters: &Value) -> String {
    let text = |name: &str| match &parameters[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match error.strip_prefix("io.lcr.Control.").unwrap_or(error) {
        "Failed" => {
            format!("`{}` was not replaced ({}): {}", text("interface"), text("step"), text("error"))
        }
        "PermissionDenied" => {
            format!(
                "the program runs as user {}: that user and root may ask, and you are {}",
                text("owner"),
                text("uid")
            )
        }
        "Busy" => format!("the program has too many {} (at most {})", text("what"), text("limit")),
        "Malformed" => format!("the program did not understand: {}", text("reason")),
        "Defect" => format!("a defect of lcr: {}", text("reason")),
        "TooLarge" => format!("the request is longer than {} bytes", text("limit")),
        "org.varlink.service.InvalidParameter" => {
            let parameter = text("parameter");
            format!("the program does not take this value of `{parameter}`: look at what was given for it")
        }
        "org.varlink.service.MethodNotFound" => {
            format!("the program's lcr has no `{}`: it is of another version", text("method"))
        }
        _ => format!("the program refused: {error} {parameters}"),
    }
}
