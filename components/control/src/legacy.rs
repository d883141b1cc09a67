//! The original's message: a native-endian `int`, the length of what follows with
//! its NUL, then `livereplace NAME versionN`, on the abstract socket `lcr.socket`.
//!
//! The original printed it. Here it is carried out; nothing is answered, for the
//! original's client does not wait for an answer. What became of it stands in the
//! history.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen as listen_on, socket_with,
};

/// A longer text is no message.
pub(crate) const LIMIT: usize = 4096;

/// The name: padded with NULs to the whole address, as the original's `sockaddr_un`.
pub(crate) fn address() -> io::Result<SocketAddrUnix> {
    let mut name = [0; 107];
    name[..10].copy_from_slice(b"lcr.socket");
    Ok(SocketAddrUnix::new_abstract_name(&name)?)
}

pub(crate) fn listen() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &address()?)?;
    listen_on(&socket, 16)?;
    Ok(socket)
}

/// What bytes come to, so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// There is more to come.
    Part,
    /// No message of ours.
    Garbage,
    /// `livereplace NAME versionN`.
    Replace {
        /// The interface.
        interface: String,
        /// The version.
        version: i32,
        /// How many bytes that were.
        length: usize,
    },
}

pub(crate) fn see(bytes: &[u8]) -> Seen {
    let Some((length, text)) = bytes.split_first_chunk::<4>() else { return Seen::Part };
    let Ok(length) = usize::try_from(i32::from_ne_bytes(*length)) else { return Seen::Garbage };
    if length == 0 || length > LIMIT {
        return Seen::Garbage;
    }
    let Some(text) = text.get(..length) else { return Seen::Part };
    match parse(text) {
        Some((interface, version)) => Seen::Replace { interface, version, length: 4 + length },
        None => Seen::Garbage,
    }
}

fn parse(text: &[u8]) -> Option<(String, i32)> {
    let (nul, text) = text.split_last()?;
    let text = std::str::from_utf8(text).ok().filter(|text| *nul == 0 && !text.contains('\0'))?;
    let mut words = text.split_ascii_whitespace();
    let (Some("livereplace"), Some(name), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    Some((name.to_owned(), version.strip_prefix("version")?.parse().ok()?))
}

/// The message's bytes.
pub(crate) fn message(text: &str) -> Option<Vec<u8>> {
    let length = i32::try_from(text.len() + 1).ok().filter(|_| text.len() < LIMIT && !text.contains('\0'))?;
    Some([&length.to_ne_bytes()[..], text.as_bytes(), &[0]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_understood_when_all_of_it_is_there() {
        let bytes = message("livereplace ckpt version2").unwrap();
        assert_eq!(bytes.len(), 4 + 26);
        for end in 0..bytes.len() {
            assert_eq!(see(&bytes[..end]), Seen::Part, "{end} bytes");
        }
        let whole = Seen::Replace { interface: "ckpt".into(), version: 2, length: bytes.len() };
        assert_eq!(see(&bytes), whole);
        assert_eq!(see(&[&bytes[..], b"more"].concat()), whole);
    }

    #[test]
    fn everything_else_is_garbage() {
        for text in [
            "",
            "livereplace",
            "livereplace a 2",
            "livereplace a versionx",
            "stop a version2",
            "livereplace a version2 b",
        ] {
            assert_eq!(see(&message(text).unwrap()), Seen::Garbage, "{text}");
        }
        for length in [0_i32, -1, i32::MAX, i32::MIN, LIMIT as i32 + 1] {
            assert_eq!(see(&length.to_ne_bytes()), Seen::Garbage, "{length}");
        }
        // Without the NUL that its length counts.
        assert_eq!(see(b"\x16\0\0\0livereplace a version2"), Seen::Garbage);
        assert_eq!(message(&"x".repeat(LIMIT)), None);
    }
}
