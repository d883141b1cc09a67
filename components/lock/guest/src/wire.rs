//! What passes between a supervisor and who asks it: Varlink's messages, JSON ended by a
//! NUL byte, on a Unix socket; and descriptors with them.
//!
//! A message that has descriptors says how many (`"descriptors": 3`). They come with its
//! first bytes, as many to a byte as the kernel takes.

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use lcr_control::{peer, place};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde_json::{Value, json};

use crate::directory::Guests;
use crate::process::Process;
use crate::refusal::Refusal;

/// The interface.
pub(crate) const INTERFACE: &str = "io.lcr.Guest";

/// The longest message.
const LIMIT: usize = 1 << 20;
/// How many descriptors the kernel passes at once.
const AT_ONCE: usize = 253;

/// Sends a message.
pub(crate) fn send(stream: &UnixStream, mut message: Value, descriptors: &[OwnedFd]) -> io::Result<()> {
    if !descriptors.is_empty() {
        message["descriptors"] = descriptors.len().into();
    }
    let bytes = format!("{message}\0").into_bytes();
    let mut sent = 0;
    for chunk in descriptors.chunks(AT_ONCE) {
        let borrowed: Vec<BorrowedFd<'_>> = chunk.iter().map(OwnedFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        let byte = &bytes[sent..=sent];
        sent += sendmsg(stream, &[IoSlice::new(byte)], &mut control, SendFlags::NOSIGNAL)?;
    }
    while sent < bytes.len() {
        let mut none = SendAncillaryBuffer::default();
        match sendmsg(stream, &[IoSlice::new(&bytes[sent..])], &mut none, SendFlags::NOSIGNAL) {
            Ok(more) => sent += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The next message, with its descriptors; none at the stream's end. A side that asks
/// waits for the answer before it asks again, so that nothing follows a message.
pub(crate) fn receive(stream: &UnixStream) -> io::Result<Option<(Value, Vec<OwnedFd>)>> {
    let mut bytes = Vec::new();
    let mut descriptors = Vec::new();
    while bytes.last() != Some(&0) {
        let mut piece = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let read = match recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut piece)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(read) => read.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if read == 0 {
            return if bytes.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        bytes.extend_from_slice(&piece[..read]);
        if bytes.len() > LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is longer than 1 MiB"));
        }
    }
    bytes.pop();
    let message: Value = serde_json::from_slice(&bytes)?;
    if message["descriptors"].as_u64().unwrap_or(0) != descriptors.len() as u64 {
        let reason = "descriptors were lost on the way: raise the limit of open files";
        return Err(io::Error::other(reason));
    }
    Ok(Some((message, descriptors)))
}

/// A connection to a guest's supervisor.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    name: String,
    supervisor: Option<Process>,
    patience: Cell<Duration>,
}

/// How long a supervisor may take to answer: a lease may be voted on for a minute.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long one that is stopped may stay so.
const STOPPED: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

impl Client {
    /// Connects to the supervisor of a guest.
    pub(crate) fn connect(guests: &Guests, name: &str) -> Result<Client, Refusal> {
        let refused = |error: &dyn std::fmt::Display| {
            Refusal::new(format!("the supervisor of guest {name} cannot be reached: {error}"))
                .detail(format!("if it has ended, take the guest up: lcr-guest attach {name}"))
        };
        let stream = place::connect(&guests.place().short(&format!("{name}.sock")))
            .map_err(|error| refused(&error))?;
        let uid = peer::uid(&stream).map_err(|error| refused(&error))?;
        if !peer::may_ask(uid) && !rustix::process::geteuid().is_root() {
            return Err(refused(&format!("user {uid} listens there")));
        }
        // Once an answer has begun, it does not take long.
        let _ = stream.set_read_timeout(Some(STOPPED));
        let _ = stream.set_write_timeout(Some(STOPPED));
        let supervisor = guests.record(name).ok().flatten().map(|record| record.supervisor);
        Ok(Client { stream, name: name.to_owned(), supervisor, patience: Cell::new(PATIENCE) })
    }

    /// How long to wait for an answer.
    pub(crate) fn patience(&self, patience: Duration) {
        self.patience.set(patience);
    }

    /// Waits until there is an answer, or the supervisor has hung up.
    fn wait(&self, method: &str) -> Result<(), Refusal> {
        let Client { stream, name, supervisor, patience } = self;
        let (start, mut stopped) = (Instant::now(), None);
        loop {
            if poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&LOOK)).is_ok_and(|ready| ready > 0) {
                return Ok(());
            }
            let is_stopped =
                supervisor.is_some_and(|supervisor| supervisor.is_alive() && supervisor.is_stopped());
            let since = *stopped.get_or_insert_with(Instant::now);
            if !is_stopped {
                stopped = None;
            }
            let limit = patience.get().min(if is_stopped { STOPPED } else { patience.get() });
            let waited = if is_stopped { since.elapsed() } else { start.elapsed() };
            if waited < limit && start.elapsed() < patience.get() {
                continue;
            }
            let number =
                supervisor.map_or_else(String::new, |supervisor| format!(", process {},", supervisor.pid));
            let asked =
                format!("it was asked for {method}, and has not done it unless lcr-guest list shows that");
            let refusal = Refusal::new(format!(
                "the supervisor of guest {name}{number} has not answered in {} s",
                waited.as_secs()
            ));
            return Err(match supervisor.filter(|_| is_stopped) {
                Some(Process { pid, .. }) => {
                    refusal.detail(format!("it is stopped: let it go on: kill -CONT {pid}")).detail(format!(
                        "or end it, its guest runs on: kill -KILL {pid}; lcr-guest attach {name}"
                    ))
                }
                None => refusal.detail("it has much to do, or waits for its lock driver: try again later"),
            }
            .detail(asked));
        }
    }

    /// Asks for something, and waits for the answer.
    pub(crate) fn call(&self, method: &str, parameters: &Value) -> Result<(Value, Vec<OwnedFd>), Refusal> {
        let lost = |error: &dyn std::fmt::Display| {
            Refusal::new(format!("the supervisor of guest {} has not answered: {error}", self.name))
                .detail("look what became of it: lcr-guest list")
        };
        let message = json!({"method": format!("{INTERFACE}.{method}"), "parameters": parameters});
        match send(&self.stream, message, &[]) {
            // It has hung up, and may have said why: that is its answer.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
            sent => sent.map_err(|error| lost(&error))?,
        }
        self.wait(method)?;
        let answer = receive(&self.stream).map_err(|error| lost(&error))?;
        let (mut answer, descriptors) = answer.ok_or_else(|| lost(&"it has hung up"))?;
        if answer.get("error").is_some() {
            return Err(refusal_of_json(&answer));
        }
        Ok((answer["parameters"].take(), descriptors))
    }
}

/// Whether the other side has gone, and waits for no answer.
pub(crate) fn has_hung_up(stream: &UnixStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(stream, &mut [0_u8; 1][..], flags), Ok((0, _)))
}

/// A refusal as an answer.
pub(crate) fn refusal_to_json(refusal: &Refusal) -> Value {
    let Refusal { reason, details, code: _ } = refusal;
    json!({"error": format!("{INTERFACE}.Refused"), "parameters": {"reason": reason, "details": details}})
}

/// The refusal that an answer is.
pub(crate) fn refusal_of_json(answer: &Value) -> Refusal {
    let parameters = &answer["parameters"];
    let reason = parameters["reason"].as_str().or(answer["error"].as_str()).unwrap_or_default();
    let details = parameters["details"].as_array().into_iter().flatten().filter_map(Value::as_str);
    details.fold(Refusal::new(reason), Refusal::detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_descriptors_pass_as_there_are_disks() {
        let (one, other) = UnixStream::pair().unwrap();
        let many: Vec<OwnedFd> = (0..300).map(|_| one.try_clone().unwrap().into()).collect();
        send(&one, json!({"a": "b"}), &many).unwrap();
        let (message, descriptors) = receive(&other).unwrap().unwrap();
        assert_eq!((message["a"].as_str(), descriptors.len()), (Some("b"), 300));
        drop((one, many, descriptors));
        assert!(receive(&other).unwrap().is_none());
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let (one, other) = UnixStream::pair().unwrap();
        rustix::io::write(&one, b"{\"a\"").unwrap();
        drop(one);
        assert_eq!(receive(&other).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_refusal_is_read_as_it_is_written() {
        let refusal = Refusal::new("a").detail("b");
        assert_eq!(refusal_of_json(&refusal_to_json(&refusal)), refusal);
    }
}
