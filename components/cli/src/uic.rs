//! `lcr uic`: the original's client.

use std::io::ErrorKind;

use crate::output::Output;
use crate::refusal::Refusal;

/// Sends the original's message, such as `livereplace NAME versionN`, on the
/// abstract socket `lcr.socket`. Nobody answers: `lcr history` says what became of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The message, as one argument: `livereplace NAME versionN`.
    #[arg(value_parser = message)]
    message: String,
}

/// Nobody answers to what is no message: so it is said here.
fn message(text: &str) -> Result<String, &'static str> {
    let is_message = lcr_control::client::is_legacy_message(text);
    is_message
        .then(|| text.to_owned())
        .ok_or("wanted `livereplace NAME versionN`, such as 'livereplace ckpt version2'")
}

pub(crate) fn run(arguments: &Arguments, _: &mut Output) -> crate::Result {
    let Arguments { message } = arguments;
    lcr_control::client::legacy_message(message).map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Refusal::new("no program listens on the abstract socket lcr.socket")
            .detail("a program does that switches it on: lcr_control::Builder::new().legacy(true)"),
        _ => Refusal::new(format!("the message was not sent: {error}")),
    })
}
