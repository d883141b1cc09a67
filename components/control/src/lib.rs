//! Replacing components of a running program, asked over a socket.
//!
//! A host opts in with one call, and keeps what it gets for as long as it wants to
//! be asked:
//!
//! ```no_run
//! # fn main() -> Result<(), lcr_control::Error> {
//! let control = lcr_control::start()?;
//! println!("{}", control.socket().display()); // /run/user/1000/lcr/4711.sock
//! # drop(control); Ok(()) }
//! ```
//!
//! or by referencing the interface `lcr.control`, which this crate's component
//! offers ([`Control`]). Then `lcr status`, `lcr replace` and any other Varlink
//! client can talk to it: interface `io.lcr.Control`, in [`DESCRIPTION`].
//!
//! | module | what |
//! |---|---|
//! | [`place`] | where sockets are, whose they must be, how dead ones are found |
//! | [`client`] | the other end: connect, call, stream |
//! | [`peer`] | who asks |
//! | `server` | one thread, `lcr-control`, that never waits for any one client |
//! | `wire`, `request`, `shape` | messages, what they ask for, how answers look |
//! | `work` | a replacement: in a thread of its own, for as long as it takes |
//! | `legacy` | the original's message on the socket `lcr.socket` |
//! | `component` | the interface `lcr.control` |
//!
//! What holds:
//!
//! 1. The socket's mode is 0600, and who connects is asked for credentials: this
//!    user and root, nobody else.
//! 2. One thread serves all clients, and waits in `poll` alone. A client that is
//!    slow, silent, or hangs up costs its own answer, nothing else; a request is at
//!    most [`LIMIT`] bytes, and there are at most 64 clients: one more takes the
//!    place of the one that has asked for nothing the longest.
//! 3. A replacement runs in a thread of its own, `lcr-replace`, so that others are
//!    answered meanwhile. A client that hangs up before the switch calls it off.
//! 4. Dropping [`Running`] stops the thread and removes the socket. Sockets of
//!    processes that died are removed when the next one starts.
//!
//! The crate `varlink` is not used on this side: it gives each client a thread, reads
//! messages of any length, has no place for the check of credentials, and stops at
//! its next tick. The tests use it as a client.

pub mod client;
mod component;
mod legacy;
pub mod peer;
pub mod place;
mod request;
mod server;
mod shape;
mod start;
mod wire;
mod work;

pub use component::Control;
pub use start::{Builder, Error, Running, start};
pub use wire::LIMIT;

/// The interface's name.
pub const INTERFACE: &str = "io.lcr.Control";

/// The interface in Varlink's language, as `GetInterfaceDescription` answers it.
pub const DESCRIPTION: &str = include_str!("io.lcr.Control.varlink");

/// What a server does with bytes that came, but for serving: for the fuzzer, which
/// sees a panic here where a broken promise is.
#[doc(hidden)]
pub fn fuzzed(bytes: &[u8]) {
    const SHORT: usize = 1000;
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let read = |size: usize| {
        let mut framer = wire::Framer::new(SHORT);
        let mut messages = Vec::new();
        for piece in bytes.chunks(size.max(1)) {
            framer.push(piece);
            loop {
                let has_message = framer.has_message();
                match framer.next() {
                    Ok(None) => {
                        assert!(!has_message);
                        break;
                    }
                    Ok(Some(message)) => {
                        assert!(has_message && message.len() <= SHORT);
                        messages.push(message);
                    }
                    Err(wire::TooLarge) => {
                        assert!(has_message);
                        return messages;
                    }
                }
            }
        }
        messages
    };
    let messages = read(size.into());
    assert_eq!(messages, read(bytes.len()), "messages depend on how they came");
    for message in &messages {
        let once = request::Request::parse(message);
        assert_eq!(once, request::Request::parse(message));
    }
    if let legacy::Seen::Replace { interface, length, .. } = legacy::see(bytes) {
        assert!(length <= bytes.len() && !interface.is_empty());
    }
}
