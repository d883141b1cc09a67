//! One thread that answers everybody and waits for nobody.
//!
//! It waits in `poll` alone, for whichever client can be read from or written to.
//! Clients are served one message at a time: while one's answer is not written, or
//! its replacement not done, nothing more is read from it, so a client costs at most
//! one request and one answer of memory. What a request needs done is short and done
//! here (`List`, `History`), or long and done elsewhere ([`Workshop`]).
//!
//! Invariants: no call that can block but `poll`. A client that hangs up is noticed
//! whatever it is waiting for, and calls off what it asked for. There is always a
//! client that may lose its place to a new one, for those that are at work or watch
//! are fewer than the places.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use lcr_core::Factory;
use lcr_core::factory::{Counting, Event, Stage};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read, write};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use serde_json::{Value, json};

use crate::legacy::{self, Seen};
use crate::request::{Ask, Call, One, Refused, Request};
use crate::wire::{Framer, LIMIT};
use crate::work::{Done, Job, MOST, Workshop};
use crate::{peer, shape};

/// At most so many clients.
const CLIENTS: usize = 64;
/// Of them, at most so many that watch.
const WATCHERS: usize = 32;
const _: () = assert!(WATCHERS + MOST < CLIENTS);
/// At most so many that send the original's message.
const SENDERS: usize = 8;
/// Who has been silent for so long may lose its place.
const GRACE: Duration = Duration::from_millis(100);
/// How often events are looked for while somebody watches.
const TICK: Duration = Duration::from_millis(50);
/// How often calls are counted up.
const RATE: Duration = Duration::from_secs(1);
/// How long a sender of the original's message may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A watcher that has so much unread is not reading.
const BACKLOG: usize = 1 << 20;
/// So many messages of one client, then the others' turn.
const TURN: usize = 16;

/// Ends the server's wait, from any thread.
#[derive(Debug)]
pub(crate) struct Wake(OwnedFd);

impl Wake {
    pub(crate) fn new() -> io::Result<Wake> {
        Ok(Wake(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn wake(&self) {
        // Full means that it will wake anyway.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    fn drain(&self) {
        let _ = read(&self.0, &mut [0; 8]);
    }
}

pub(crate) struct Server {
    socket: PathBuf,
    program: String,
    listener: OwnedFd,
    legacy: Option<OwnedFd>,
    wake: Arc<Wake>,
    workshop: Workshop,
    done: Receiver<Done>,
    clients: Vec<Client>,
    senders: Vec<Sender>,
    /// There is no place for what a sender wants: senders wait, unread.
    senders_wait: bool,
    last: u64,
    /// No descriptor was left: not before then again.
    no_accept_before: Option<Instant>,
    watch: Option<Watch>,
}

struct Client {
    number: u64,
    stream: OwnedFd,
    uid: u32,
    input: Framer,
    output: Vec<u8>,
    written: usize,
    doing: Doing,
    /// When it came, or last sent a whole message.
    since: Instant,
    /// It will send no more.
    is_half_closed: bool,
    /// To be closed when all is written.
    is_closing: bool,
    /// To be closed now.
    is_gone: bool,
}

enum Doing {
    Nothing,
    Working { cancelled: Arc<AtomicBool>, oneway: bool },
    Watching,
}

struct Sender {
    stream: OwnedFd,
    uid: u32,
    bytes: Vec<u8>,
    since: Instant,
    is_gone: bool,
}

/// What is observed while somebody watches.
struct Watch {
    /// Counting calls costs each of them something: not for nobody.
    _counting: Counting,
    events: Receiver<Event>,
    /// Calls so far, by interface.
    counts: BTreeMap<String, u64>,
    counted: Instant,
}

impl Server {
    pub(crate) fn new(
        factory: Factory,
        socket: PathBuf,
        listener: OwnedFd,
        legacy: Option<OwnedFd>,
        wake: Arc<Wake>,
    ) -> Server {
        let (sender, done) = channel();
        let workshop = Workshop { factory, done: sender, wake: Arc::clone(&wake), working: Arc::default() };
        Server {
            socket,
            program: program(),
            listener,
            legacy,
            wake,
            workshop,
            done,
            clients: Vec::new(),
            senders: Vec::new(),
            senders_wait: false,
            last: 0,
            no_accept_before: None,
            watch: None,
        }
    }

    /// Answers until `stop` is true.
    pub(crate) fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            let ready = self.wait();
            if ready.woken {
                self.wake.drain();
            }
            while let Ok(done) = self.done.try_recv() {
                self.finish(done);
            }
            for (client, flags) in self.clients.iter_mut().zip(ready.clients) {
                client.transfer(flags);
            }
            for (sender, flags) in self.senders.iter_mut().zip(ready.senders) {
                if !flags.is_empty() {
                    sender.read();
                }
            }
            self.answer();
            self.carry_out();
            self.observe();
            self.close();
            if ready.comes {
                self.accept();
            }
            if ready.sender_comes {
                self.accept_sender();
            }
        }
    }

    fn factory(&self) -> &Factory {
        &self.workshop.factory
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> Ready {
        let now = Instant::now();
        let accepts_after = self.accepts_after(now);
        let mut timeouts = vec![accepts_after.filter(|wait| !wait.is_zero())];
        timeouts.push(self.watch.as_ref().map(|_| TICK));
        if self.senders_wait {
            // Usually it is woken when a place is free.
            timeouts.push(Some(RATE));
        } else {
            let until = |s: &Sender| Some((s.since + PATIENCE).saturating_duration_since(now));
            timeouts.extend(self.senders.iter().map(until));
        }
        // What was read already may hold a whole message.
        let is_busy = self.clients.iter().any(|c| c.is_free() && c.has_more());
        timeouts.push(is_busy.then_some(Duration::ZERO));

        let mut fds = vec![PollFd::new(&self.wake.0, PollFlags::IN)];
        let listens = if accepts_after == Some(Duration::ZERO) { PollFlags::IN } else { PollFlags::empty() };
        fds.push(PollFd::new(&self.listener, listens));
        let hears = if self.senders_wait { PollFlags::empty() } else { listens };
        fds.extend(self.legacy.iter().map(|legacy| PollFd::new(legacy, hears)));
        let first = fds.len();
        fds.extend(self.clients.iter().map(|c| PollFd::new(&c.stream, c.interest())));
        if !self.senders_wait {
            fds.extend(self.senders.iter().map(|s| PollFd::new(&s.stream, PollFlags::IN)));
        }

        let timeout = timeouts.into_iter().flatten().min();
        let timeout = timeout.map(|t| Timespec { tv_sec: t.as_secs() as _, tv_nsec: t.subsec_nanos() as _ });
        if poll(&mut fds, timeout.as_ref()).is_err() {
            // Interrupted, or no memory: nothing is ready.
            for fd in &mut fds {
                fd.clear_revents();
            }
        }
        let comes = |fd: &PollFd<'_>| fd.revents().contains(PollFlags::IN);
        let mut clients: Vec<PollFlags> = fds[first..].iter().map(PollFd::revents).collect();
        let senders = clients.split_off(self.clients.len());
        Ready {
            woken: comes(&fds[0]),
            comes: comes(&fds[1]),
            sender_comes: first > 2 && comes(&fds[2]),
            clients,
            senders,
        }
    }

    /// How long no client is to be let in; `None`: until one has left.
    fn accepts_after(&self, now: Instant) -> Option<Duration> {
        let pause = self.no_accept_before.map_or(Duration::ZERO, |then| then.saturating_duration_since(now));
        if self.clients.len() < CLIENTS {
            return Some(pause);
        }
        let oldest = self.clients.iter().filter(|c| c.may_be_closed()).map(|c| c.since).min()?;
        Some(pause.max((oldest + GRACE).saturating_duration_since(now)))
    }

    fn accept(&mut self) {
        for _ in 0..TURN {
            let now = Instant::now();
            if self.accepts_after(now) != Some(Duration::ZERO) {
                return;
            }
            let stream = match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(stream) => stream,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.close_silent();
                    self.no_accept_before = Some(now + GRACE);
                    return;
                }
                // It has gone already, or there is none.
                Err(_) => return,
            };
            let Ok(uid) = peer::uid(&stream) else { continue };
            if !peer::may_ask(uid) {
                let owner = rustix::process::geteuid().as_raw();
                let refused =
                    Refused::new("io.lcr.Control.PermissionDenied", json!({"uid": uid, "owner": owner}));
                let message = format!("{}\0", error(&refused));
                let _ = send(&stream, message.as_bytes(), SendFlags::NOSIGNAL);
                continue;
            }
            if self.clients.len() == CLIENTS {
                self.close_silent();
            }
            self.last += 1;
            self.clients.push(Client::new(self.last, stream, uid));
        }
    }

    /// Makes room: the one that has asked for nothing the longest has to go.
    fn close_silent(&mut self) {
        let silent = self.clients.iter_mut().filter(|c| c.may_be_closed());
        if let Some(client) = silent.min_by_key(|c| c.since) {
            client.is_gone = true;
        }
        self.close();
    }

    fn accept_sender(&mut self) {
        let Some(legacy) = &self.legacy else { return };
        let stream = match accept_with(legacy, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(stream) => stream,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.no_accept_before = Some(Instant::now() + GRACE);
                return;
            }
            Err(_) => return,
        };
        match peer::uid(&stream) {
            Ok(uid) if peer::may_ask(uid) => {
                if self.senders.len() == SENDERS {
                    self.senders.remove(0);
                }
                let sender = Sender { stream, uid, bytes: Vec::new(), since: Instant::now(), is_gone: false };
                self.senders.push(sender);
            }
            _ => {}
        }
    }

    /// Answers what clients have asked.
    fn answer(&mut self) {
        for at in 0..self.clients.len() {
            for _ in 0..TURN {
                let client = &mut self.clients[at];
                if !client.is_free() || client.is_closing {
                    break;
                }
                let request = match client.input.next() {
                    Ok(None) => break,
                    Ok(Some(message)) => Request::parse(&message),
                    Err(crate::wire::TooLarge) => {
                        Err(Refused::closing("io.lcr.Control.TooLarge", json!({"limit": LIMIT})))
                    }
                };
                client.since = Instant::now();
                match request {
                    Ok(request) => self.serve(at, request),
                    Err(refused) => client.refuse(&refused),
                }
                self.clients[at].write();
            }
        }
    }

    fn serve(&mut self, at: usize, request: Request) {
        let Request { call, more: _, oneway } = request;
        let job = match call {
            Call::Info => {
                let info = json!({
                    "vendor": "lcr",
                    "product": format!("lcr-control in {}", self.program),
                    "version": env!("CARGO_PKG_VERSION"),
                    "url": env!("CARGO_PKG_REPOSITORY"),
                    "interfaces": ["org.varlink.service", crate::INTERFACE],
                });
                return self.clients[at].reply(&info, oneway);
            }
            Call::Description(text) => {
                return self.clients[at].reply(&json!({"description": text}), oneway);
            }
            Call::List => {
                let interfaces = self.factory().interfaces();
                let list = json!({
                    "pid": std::process::id(),
                    "program": self.program,
                    "socket": self.socket.to_string_lossy(),
                    "interfaces": interfaces.iter().map(shape::interface).collect::<Vec<_>>(),
                });
                return self.clients[at].reply(&list, oneway);
            }
            Call::History => {
                let history = self.factory().history();
                let entries: Vec<_> = history.iter().map(shape::entry).collect();
                return self.clients[at].reply(&json!({"entries": entries}), oneway);
            }
            Call::Watch => return self.begin_to_watch(at),
            Call::Plan(ask) => Job::Plan(ask),
            Call::Replace(ask) => Job::Replace(ask),
            Call::Rollback { interface, timeout } => Job::Rollback { interface, timeout },
        };
        let client = &mut self.clients[at];
        if !oneway && client.has_hung_up() {
            // What it has asked for it does not want any more.
            client.is_gone = true;
            return;
        }
        let cancelled = Arc::default();
        match self.workshop.start(client.number, client.uid, job, Arc::clone(&cancelled)) {
            Ok(()) => client.doing = Doing::Working { cancelled, oneway },
            Err(refused) => client.refuse(&Refused { oneway, ..refused }),
        }
    }

    /// A job is done.
    fn finish(&mut self, Done { client, answer }: Done) {
        let Some(client) = self.clients.iter_mut().find(|c| c.number == client) else { return };
        let Doing::Working { oneway, .. } = mem::replace(&mut client.doing, Doing::Nothing) else { return };
        client.since = Instant::now();
        match answer {
            Ok(report) => client.reply(&report, oneway),
            Err(refused) => client.refuse(&Refused { oneway, ..refused }),
        }
        client.write();
    }

    /// Carries the original's messages out. Nobody gets an answer, so none is turned
    /// away: while there is no place for one, it waits, and who comes after it.
    fn carry_out(&mut self) {
        let waited = mem::take(&mut self.senders_wait);
        for sender in &mut self.senders {
            if waited {
                sender.since = Instant::now();
            }
            loop {
                match legacy::see(&sender.bytes) {
                    Seen::Part => break,
                    Seen::Garbage => {
                        sender.is_gone = true;
                        break;
                    }
                    Seen::Replace { interface, version, length } => {
                        let one = One { interface, file: None, version: Some(version) };
                        let job = Job::Replace(Ask { interfaces: vec![one], timeout: None });
                        // Nobody can call it off.
                        if self.workshop.start(0, sender.uid, job, Arc::default()).is_err() {
                            self.senders_wait = true;
                            return;
                        }
                        sender.bytes.drain(..length);
                    }
                }
            }
            sender.is_gone |= sender.since.elapsed() >= PATIENCE;
        }
        self.senders.retain(|sender| !sender.is_gone);
    }

    fn begin_to_watch(&mut self, at: usize) {
        if self.clients.iter().filter(|c| matches!(c.doing, Doing::Watching)).count() >= WATCHERS {
            let parameters = json!({"limit": WATCHERS, "what": "watchers"});
            return self.clients[at].refuse(&Refused::new("io.lcr.Control.Busy", parameters));
        }
        let factory = &self.workshop.factory;
        self.watch.get_or_insert_with(|| {
            let counting = factory.observe();
            let (events, counts) = (factory.events(), counts(factory));
            let counts = counts.into_iter().map(|(name, (calls, _))| (name, calls)).collect();
            Watch { _counting: counting, events, counts, counted: Instant::now() }
        });
        let interfaces = factory.interfaces();
        let client = &mut self.clients[at];
        client.doing = Doing::Watching;
        for interface in interfaces.iter().filter(|i| matches!(i.state, Stage::Live | Stage::Held)) {
            client.tell(&shape::serving(interface));
        }
    }

    /// Tells those who watch what happened.
    fn observe(&mut self) {
        if !self.clients.iter().any(|c| matches!(c.doing, Doing::Watching) && !c.is_gone) {
            self.watch = None;
            return;
        }
        let Some(watch) = &mut self.watch else { return };
        let mut news: Vec<Value> = watch.events.try_iter().filter_map(|event| shape::event(&event)).collect();
        let elapsed = watch.counted.elapsed();
        if elapsed >= RATE {
            let factory = &self.workshop.factory;
            watch.counted = Instant::now();
            for (name, (calls, version)) in counts(factory) {
                let before = watch.counts.insert(name.clone(), calls).unwrap_or(0);
                let more = calls.saturating_sub(before);
                if more > 0 {
                    let rate = (more as f64 / elapsed.as_secs_f64()).round() as u64;
                    news.push(shape::calls(&name, version, calls, rate));
                }
            }
        }
        for client in self.clients.iter_mut().filter(|c| matches!(c.doing, Doing::Watching)) {
            for event in &news {
                client.tell(event);
            }
            client.write();
        }
    }

    fn close(&mut self) {
        for client in &mut self.clients {
            client.is_gone |= client.is_free()
                && (client.is_closing || client.is_half_closed && !client.input.has_message());
            if client.is_gone
                && let Doing::Working { cancelled, oneway: false } = &client.doing
            {
                cancelled.store(true, Ordering::SeqCst);
            }
        }
        self.clients.retain(|client| !client.is_gone);
    }
}

/// What `poll` has found.
struct Ready {
    woken: bool,
    comes: bool,
    sender_comes: bool,
    clients: Vec<PollFlags>,
    senders: Vec<PollFlags>,
}

impl Client {
    fn new(number: u64, stream: OwnedFd, uid: u32) -> Client {
        Client {
            number,
            stream,
            uid,
            input: Framer::new(LIMIT),
            output: Vec::new(),
            written: 0,
            doing: Doing::Nothing,
            since: Instant::now(),
            is_half_closed: false,
            is_closing: false,
            is_gone: false,
        }
    }

    /// Has been answered, and may ask.
    fn is_free(&self) -> bool {
        matches!(self.doing, Doing::Nothing) && self.output.is_empty()
    }

    fn may_be_closed(&self) -> bool {
        matches!(self.doing, Doing::Nothing)
    }

    fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        // What it has sent is answered first: else it would be kept without a bound.
        let listens = self.is_free() && !self.is_half_closed && !self.is_closing && !self.has_more();
        flags.set(PollFlags::IN, listens);
        flags.set(PollFlags::OUT, !self.output.is_empty());
        flags
    }

    /// Reads and writes what can be.
    fn transfer(&mut self, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) {
            self.write();
        }
        if flags.contains(PollFlags::IN) {
            self.read();
        }
        // It has hung up: what it waited for, it does not want. What it sent before
        // is read to its end first.
        let hung_up = flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        let is_heard = flags.contains(PollFlags::IN) || self.is_free() && self.has_more();
        self.is_gone |= hung_up && !is_heard;
    }

    /// Whether nobody is there to be answered. (One that only sends no more is.)
    fn has_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok()
            && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
    }

    fn read(&mut self) {
        let mut chunk = [0; 64 * 1024];
        match recv(&self.stream, &mut chunk[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => self.is_half_closed = true,
            Ok((_, n)) => self.input.push(&chunk[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.is_gone = true,
        }
    }

    fn write(&mut self) {
        while self.written < self.output.len() {
            match send(&self.stream, &self.output[self.written..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
            {
                Ok(n) => self.written += n,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.is_gone = true;
                    return;
                }
            }
        }
        self.output = Vec::new();
        self.written = 0;
    }

    fn push(&mut self, message: &Value) {
        self.output.extend_from_slice(message.to_string().as_bytes());
        self.output.push(0);
    }

    fn reply(&mut self, parameters: &Value, oneway: bool) {
        if !oneway {
            self.push(&json!({"parameters": parameters}));
        }
    }

    fn refuse(&mut self, refused: &Refused) {
        if !refused.oneway {
            self.push(&error(refused));
        }
        self.is_closing |= refused.close;
    }

    /// One of many answers.
    fn tell(&mut self, event: &Value) {
        self.push(&json!({"parameters": event, "continues": true}));
        self.is_gone |= self.output.len() - self.written > BACKLOG;
    }

    fn has_more(&self) -> bool {
        !self.is_closing && self.input.has_message()
    }
}

impl Sender {
    fn read(&mut self) {
        let mut chunk = [0; legacy::LIMIT];
        match recv(self.stream.as_fd(), &mut chunk[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => self.is_gone = true,
            Ok((_, n)) => self.bytes.extend_from_slice(&chunk[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.is_gone = true,
        }
    }
}

fn error(refused: &Refused) -> Value {
    json!({"error": refused.error, "parameters": refused.parameters})
}

/// Calls that were counted, and the version that serves, by interface.
fn counts(factory: &Factory) -> BTreeMap<String, (u64, i32)> {
    let mut all = BTreeMap::new();
    for interface in factory.interfaces() {
        if let Some(calls) = interface.calls {
            let entry = all.entry(interface.name).or_insert((0, interface.version));
            entry.0 += calls;
            entry.1 = interface.version.max(entry.1);
        }
    }
    all
}

/// This program's name: its file's.
fn program() -> String {
    let file = std::env::current_exe().ok();
    let name = file.as_deref().and_then(|file| file.file_name()).map(|name| name.to_string_lossy());
    // What was replaced on disk is still called so.
    name.map_or_else(|| "?".to_owned(), |name| name.trim_end_matches(" (deleted)").to_owned())
}
