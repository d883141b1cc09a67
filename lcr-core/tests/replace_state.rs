//! State and descriptors pass from version to version without a gap.

#![allow(missing_docs, reason = "a test")]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use lcr_core::Handle;
use lcr_core::factory::Factory;

/// Accepts connections on a thread of its own, and answers with its version.
#[lcr_core::contract]
pub trait Server: Send + Sync {
    /// Where it listens.
    fn port(&self) -> u16;
    /// Which one answers.
    fn version(&self) -> u32;
}

/// Holds a lock on a file.
#[lcr_core::contract]
pub trait Lock: Send + Sync {
    /// Which version holds it.
    fn version(&self) -> u32;
}

/// Holds records.
#[lcr_core::contract]
pub trait Records: Send + Sync {
    /// The sum of all bytes.
    fn sum(&self) -> u64;
    /// Which version holds them.
    fn version(&self) -> u32;
}

/// A thread that accepts until it is told to stop, and can be started again.
struct Accepting {
    listener: TcpListener,
    version: u8,
    stop: std::sync::Arc<AtomicBool>,
    thread: std::sync::Mutex<Option<thread::JoinHandle<()>>>,
}

impl Accepting {
    fn new(listener: TcpListener, version: u8) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let accepting = Accepting { listener, version, stop: Default::default(), thread: Default::default() };
        accepting.start()?;
        Ok(accepting)
    }

    fn start(&self) -> std::io::Result<()> {
        self.stop.store(false, Ordering::SeqCst);
        let (listener, stop, version) =
            (self.listener.try_clone()?, std::sync::Arc::clone(&self.stop), self.version);
        *self.thread.lock().unwrap() = Some(thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((mut connection, _)) => drop(connection.write_all(&[version])),
                    // Nobody is there: not so often that others get no processor.
                    Err(_) => thread::sleep(Duration::from_micros(100)),
                }
            }
        }));
        Ok(())
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.stop();
    }
}

macro_rules! versions {
    ($module:ident, $version:literal, $other:literal) => {
        #[lcr_core::component]
        mod $module {
            use std::fs::File;
            use std::net::TcpListener;

            use super::{Accepting, Lock, Records, Server, locked};

            #[derive(Interface)]
            #[interface(name = "server", version = $version, replaces($other), contract = dyn Server, state)]
            pub(crate) struct TheServer(Accepting);

            impl Construct for TheServer {
                fn construct(_: &Context) -> Result<Self, BoxError> {
                    Ok(TheServer(Accepting::new(TcpListener::bind("127.0.0.1:0")?, $version)?))
                }
            }

            impl Handover for TheServer {
                fn pause(&self) -> Result<(), BoxError> {
                    self.0.stop();
                    Ok(())
                }
                fn resume(&self) {
                    self.0.start().unwrap();
                }
                fn save(&self, state: &mut State) -> Result<(), BoxError> {
                    state.section("listener", 1).attach(&self.0.listener)?;
                    Ok(())
                }
                fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
                    let listener = TcpListener::from(state.read("listener", 1..=1)?.take(0)?);
                    Ok(TheServer(Accepting::new(listener, $version)?))
                }
            }

            impl Server for TheServer {
                fn port(&self) -> u16 {
                    self.0.listener.local_addr().unwrap().port()
                }
                fn version(&self) -> u32 {
                    $version
                }
            }

            #[derive(Interface)]
            #[interface(name = "lock", version = $version, replaces($other), contract = dyn Lock, state)]
            pub(crate) struct TheLock(File);

            impl Construct for TheLock {
                fn construct(cx: &Context) -> Result<Self, BoxError> {
                    Ok(TheLock(locked(cx.text("file")?.as_ref())?.ok_or("somebody else has it")?))
                }
            }

            impl Handover for TheLock {
                fn save(&self, state: &mut State) -> Result<(), BoxError> {
                    state.section("lock", 1).attach(&self.0)?;
                    Ok(())
                }
                fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
                    Ok(TheLock(state.read("lock", 1..=1)?.take(0)?.into()))
                }
            }

            impl Lock for TheLock {
                fn version(&self) -> u32 {
                    $version
                }
            }

            #[derive(Interface)]
            #[interface(name = "records", version = $version, replaces($other), contract = dyn Records, state)]
            pub(crate) struct TheRecords(Vec<[u8; 64]>);

            impl Construct for TheRecords {
                fn construct(_: &Context) -> Result<Self, BoxError> {
                    Ok(TheRecords((0..10_000_u32).map(|n| [n.to_le_bytes()[0]; 64]).collect()))
                }
            }

            impl Handover for TheRecords {
                // The older one writes the older schema, and both are understood.
                fn save(&self, state: &mut State) -> Result<(), BoxError> {
                    state.section("records", $version + 1).write(self.0.as_flattened());
                    Ok(())
                }
                fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
                    let (records, rest) = state.read("records", 1..=2)?.bytes().as_chunks::<64>();
                    assert!(rest.is_empty());
                    Ok(TheRecords(records.to_vec()))
                }
            }

            impl Records for TheRecords {
                fn sum(&self) -> u64 {
                    self.0.as_flattened().iter().map(|byte| u64::from(*byte)).sum()
                }
                fn version(&self) -> u32 {
                    $version
                }
            }
        }
    };
}

versions!(zero, 0, 1);
versions!(one, 1, 0);

/// The file with an open-file-description lock on all of it, if nobody else has one.
fn locked(file: &Path) -> std::io::Result<Option<File>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file)?;
    // SAFETY: all-zero is a value of this C structure.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = libc::F_WRLCK as libc::c_short;
    // SAFETY: an open descriptor, and a structure that the call reads.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole) } == 0 {
        return Ok(Some(file));
    }
    let error = std::io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EAGAIN) { Ok(None) } else { Err(error) }
}

fn factory() -> Factory {
    Factory::builder().without_environment().build()
}

fn is_long() -> bool {
    std::env::var_os("LCR_LONG").is_some()
}

/// Replaces `name` to and fro.
fn replaced(factory: &Factory, name: &str, times: i32) -> Duration {
    let mut longest = Duration::ZERO;
    for round in 0..times {
        let report =
            factory.replace(name).version(1 - round % 2).timeout(Duration::from_secs(60)).run().unwrap();
        longest = longest.max(report.held);
    }
    longest
}

#[test]
fn a_listener_never_refuses_a_connection() {
    let factory = factory();
    let server: Handle<dyn Server> = factory.reference("server", 0).unwrap();
    let port = server.port();
    let (stop, connections) = (AtomicBool::new(false), AtomicU64::new(0));
    let by_version = [AtomicU64::new(0), AtomicU64::new(0)];
    let replacements = if is_long() { 5_000 } else { 200 };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let mut connection =
                        TcpStream::connect(("127.0.0.1", port)).expect("it is never refused");
                    let mut version = [9];
                    connection.read_exact(&mut version).expect("it is always answered");
                    by_version[usize::from(version[0])].fetch_add(1, Ordering::SeqCst);
                    connections.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 0..replacements {
            factory.replace("server").version(1 - round % 2).timeout(Duration::from_secs(60)).run().unwrap();
            // Each version is met by somebody.
            let version = &by_version[usize::from(server.version() == 1)];
            let met = version.load(Ordering::SeqCst);
            while version.load(Ordering::SeqCst) == met {
                thread::yield_now();
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(server.port(), port);
    println!("{replacements} replacements, {connections:?} connections, {by_version:?} by version");
}

/// The rival: a process of its own, which tries all the time to get the lock.
#[test]
fn rival() {
    let Some(file) = std::env::var_os("LCR_RIVAL") else { return };
    let file = Path::new(&file);
    thread::spawn(|| {
        // The parent has ended, or has seen enough.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut tries = 0_u64;
    loop {
        tries += 1;
        let got = locked(file).unwrap().is_some();
        if got || tries.is_power_of_two() {
            // Past the harness, which would keep it.
            let _ = writeln!(std::io::stderr(), "rival: {tries} {got}");
        }
        if got {
            std::process::exit(7);
        }
    }
}

#[test]
fn a_lock_is_never_free_for_a_moment() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("locked-{}", std::process::id()));
    let factory = factory();
    let context = lcr_core::Context::new().with("file", file.to_str().unwrap());
    let lock: Handle<dyn Lock> = factory.reference_with("lock", 0, &context).unwrap();
    let mut rival = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rival", "--nocapture", "--test-threads=1"])
        .env("LCR_RIVAL", &file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed when this test ends, whichever way.
    let _stdin = rival.stdin.take();
    let mut said = BufReader::new(rival.stderr.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    assert_eq!(first, "rival: 1 false", "it is trying");

    let replacements = 10_000;
    let longest = replaced(&factory, "lock", replacements);
    assert_eq!(lock.version(), 0);
    assert_eq!(rival.try_wait().unwrap(), None, "the rival has got it");
    // Now it is free, and the rival, which has not ceased to try, gets it.
    drop(lock);
    assert_eq!(rival.wait().unwrap().code(), Some(7));
    let last = said.last().unwrap().unwrap();
    println!("{replacements} replacements, held at most {longest:?}; {last}");
    assert!(last.ends_with(" true"), "{last}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn ten_thousand_records_are_carried_over_and_an_older_schema_is_understood() {
    let factory = factory();
    let records: Handle<dyn Records> = factory.reference("records", 0).unwrap();
    let sum = records.sum();
    let mut held: Vec<Duration> = Vec::new();
    for round in 0..50 {
        let report = factory.replace("records").version(1 - round % 2).run().unwrap();
        held.push(report.held);
        assert_eq!((records.version(), records.sum()), ((1 - round % 2).cast_unsigned(), sum));
    }
    held.sort();
    println!("10,000 records of 64 bytes: held {:?} (median), {:?} (most)", held[25], held[49]);
}
