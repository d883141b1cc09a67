//! Drivers that must be asked in the guest's own process
//! ([`Features::before_process`](lcr_lock::Features::before_process) is false), as
//! sanlock's: a daemon that binds locks to the process which registers.
//!
//! The supervisor then starts this program again, as the guest's process. It takes the
//! locks (for a guest that arrives from another host it only registers), says so on a
//! socket, waits until its supervisor has it written down, and executes the guest's
//! command. If the supervisor ends before that, so does it.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use lcr_lock::Grant;
use lcr_lock::life::{Plugin, Policy, Running};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use serde_json::json;

use crate::arguments::Within;
use crate::command;
use crate::drivers;
use crate::process::Process;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::supervise::{Origin, Post};
use crate::wire;

/// The hidden command.
pub(crate) const COMMAND: &str = "__within";

/// A guest's process that waits for its command. Dropped, it ends: with the channel.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) child: Child,
    channel: UnixStream,
    state: String,
    /// What holds its locks, or will.
    kept: Vec<OwnedFd>,
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> Refusal {
    move |error| Refusal::new(format!("the guest's process cannot be started: {what}: {error}"))
}

/// Starts the process, and has it take the locks; or only register, for a guest that
/// `arrives`.
pub(crate) fn start(
    post: &Post,
    record: &mut Record,
    arguments: &[OsString],
    arrives: bool,
) -> Result<Waiting, Refusal> {
    let (channel, its_channel) = UnixStream::pair().map_err(failed("a socket"))?;
    let number = its_channel.as_raw_fd();
    let program = std::env::current_exe().map_err(failed("this program's file"))?;
    let mut command = Command::new(program);
    let description = json!({"guest": record.to_json(), "arrives": arrives});
    command.args([COMMAND, &number.to_string(), &description.to_string(), "--"]).args(arguments);
    command::tell(&mut command, record);
    let born = post.guests.born(&record.name)?;
    command::announced(&mut command, &born, &post.signals);
    let inherit = move || {
        // SAFETY: it is open in the child as in its parent, which keeps it open until
        // the program runs.
        Ok(fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::empty())?)
    };
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(inherit) };
    let mut child = command.spawn().map_err(failed("it cannot be executed"))?;
    drop(its_channel);
    record.process = Process::of(child.id());
    post.write(record)?;
    let answer = wire::receive(&channel).ok().flatten();
    let refusal = match answer {
        Some((answer, kept)) => match answer["state"].as_str() {
            Some(state) => return Ok(Waiting { child, channel, state: state.to_owned(), kept }),
            None => wire::refusal_of_json(&answer),
        },
        None => Refusal::new("the guest's process has ended before it took its locks"),
    };
    // It ends by itself.
    let _ = child.wait();
    Err(refusal)
}

impl Waiting {
    /// It has its locks: lets it execute the guest's command, and takes it up as its
    /// supervisor. Answers what holds them, too.
    pub(crate) fn acquired(
        mut self,
        post: &Post,
        plugin: &Plugin,
        record: &mut Record,
    ) -> Result<(Running, Origin, Vec<OwnedFd>), Refusal> {
        record.lock_state.clone_from(&self.state);
        post.write(record)?;
        let grant = Grant::of_state(self.state.as_str());
        let attached = plugin.attach(&record.guest(), grant).map_err(Refusal::new);
        let guest = attached.and_then(|attached| attached.child(Policy::default()).map_err(Refusal::new))?;
        self.let_go()?;
        let (child, kept) = self.into_child();
        Ok((guest, Origin::Started(child), kept))
    }

    /// Lets it execute the guest's command.
    pub(crate) fn let_go(&mut self) -> Result<(), Refusal> {
        self.channel.write_all(b"go").map_err(failed("it has ended"))
    }

    /// The process, which was let go, and what holds its locks.
    pub(crate) fn into_child(self) -> (Child, Vec<OwnedFd>) {
        (self.child, self.kept)
    }
}

/// The guest's process: becomes the guest's command.
pub(crate) fn become_guest(arguments: Within) -> crate::Result {
    let Within { channel, description, command } = arguments;
    // SAFETY: nothing is done with it but to ask whether it is open.
    if fcntl_getfd(unsafe { BorrowedFd::borrow_raw(channel) }).is_err() {
        return Err(Refusal::new(format!(
            "a supervisor starts this with a descriptor, and {channel} is not open: use lcr-guest run"
        )));
    }
    // SAFETY: the supervisor has passed it for this, and nothing else here has it.
    let channel = unsafe { OwnedFd::from_raw_fd(channel) };
    let mut channel = UnixStream::from(channel);
    let described = (|| {
        fcntl_setfd(&channel, FdFlags::CLOEXEC).ok()?;
        let description: serde_json::Value = serde_json::from_str(&description).ok()?;
        Some((Record::of_json(&description["guest"])?, description["arrives"].as_bool()?))
    })();
    let (record, arrives) =
        described.ok_or_else(|| Refusal::new("this command is for a supervisor: use lcr-guest run"))?;
    let acquired = (|| {
        let plugin = drivers::load(&record.driver, &record.parameters)?;
        let guest = record.guest().with_pid(std::process::id());
        let mut guest = plugin.new_guest(&guest).map_err(Refusal::new)?;
        for resource in record.resources() {
            guest.add(&resource).map_err(Refusal::new)?;
        }
        guest.acquire(&record.request(arrives)).map_err(Refusal::new)
    })();
    let (answer, acquired) = match acquired {
        Ok(acquired) => (json!({"state": acquired.grant().state}), Some(acquired)),
        Err(refusal) => (wire::refusal_to_json(&refusal), None),
    };
    // The supervisor keeps them for what the guest leaves behind.
    let kept = acquired.as_ref().map_or(&[][..], |acquired| &acquired.grant().descriptors);
    let told = wire::send(&channel, answer, kept);
    let Some(acquired) = acquired else { return Ok(std::process::ExitCode::from(crate::REFUSED)) };
    let mut go = [0; 2];
    if told.and_then(|()| channel.read_exact(&mut go)).is_err() {
        // The supervisor has ended; what was taken is given up.
        return Ok(std::process::ExitCode::from(crate::REFUSED));
    }
    let supervisor = acquired.supervisor().map_err(Refusal::new)?;
    Err(Refusal::new(acquired.exec(command::make(&command, supervisor))).code(126))
}
