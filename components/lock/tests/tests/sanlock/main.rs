//! `lock.sanlock` with the real daemon: the suite, and what only two hosts can show.
//!
//! A simulated host is a daemon of its own; who is on it is a process of its own
//! ([`Starter`]). I/O timeouts are a second, so a lockspace is joined in three, and is
//! lost eight seconds after its storage.

mod guest;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use lcr_core::{Context, Factory};
use lcr_lock::life::Plugin;
use lcr_lock::{Driver as _, Error, Kind, Lease, Mode, OnFailure, Program, Request, Resource};
use lcr_lock_tests::elsewhere::{Asked, Starter};
use lcr_lock_tests::sanlock::{self, Daemon, Storage};
use lcr_lock_tests::{
    Elsewhere, Locks, Subject, World, acquire, new_guest, soon, start, start_with, suite, waiting,
};
use lcr_tests::{Profile, Scratch};

const ASKER: &str = env!("CARGO_BIN_EXE_lock-asker");
const SANLOCK: Subject = Subject {
    interface: "lock.sanlock",
    library: None,
    directory: false,
    locks: Locks::Resources,
    elsewhere: Some(Elsewhere { program: ASKER, parameters: sanlock::shared }),
};

suite!(suite, SANLOCK);
suite!(library, Subject { library: Some(("lcr-lock-sanlock-library", "lock_sanlock")), ..SANLOCK });

/// Two hosts that share a directory of leases.
struct Hosts {
    program: PathBuf,
    /// The daemons, dropped before their files.
    a: Daemon,
    b: Daemon,
    storage: Storage,
}

impl Hosts {
    fn new() -> Option<Hosts> {
        let program = sanlock::program()?;
        let storage = Storage::new();
        fs::create_dir(storage.path().join("leases")).unwrap();
        let a = Daemon::start(&program, "a", &storage.path().join("run-a"));
        let b = Daemon::start(&program, "b", &storage.path().join("run-b"));
        Some(Hosts { program, a, b, storage })
    }

    fn leases(&self) -> PathBuf {
        self.storage.path().join("leases")
    }

    /// A process on host `a` or `b`.
    fn on(&self, host: &str) -> Starter {
        let number = if host == "a" { 1 } else { 2 };
        let parameters = sanlock::parameters(&self.leases(), number, 1);
        let run = self.storage.path().join(format!("run-{host}"));
        Starter {
            program: ASKER,
            interface: "lock.sanlock",
            library: None,
            parameters,
            environment: vec![("SANLOCK_RUN_DIR", run.display().to_string())],
        }
    }

    /// The same, with nothing known of leases of disks.
    fn bare(&self, host: &str) -> Starter {
        Starter { parameters: Vec::new(), ..self.on(host) }
    }

    fn disk(&self, name: &str, mode: Mode) -> Resource {
        let path = self.storage.path().join(name);
        fs::write(&path, b"disk").unwrap();
        Resource::disk(path, mode)
    }

    /// A lease that an administrator has made.
    fn lease(&self, name: &str) -> Resource {
        let path = self.storage.path().join(name);
        fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
        initialise(&self.program, "__LIBVIRT__DISKS__", name, &path);
        explicit("__LIBVIRT__DISKS__", name, &path)
    }
}

fn initialise(program: &Path, lockspace: &str, name: &str, path: &Path) {
    let lease = format!("{lockspace}:{name}:{}:0", path.display());
    lcr_tests::stdout(Command::new(program).args(["direct", "init", "-o", "1", "-r", &lease]));
}

fn explicit(lockspace: &str, name: &str, path: &Path) -> Resource {
    Resource::Lease(Lease {
        name: name.into(),
        lockspace: lockspace.into(),
        path: path.into(),
        offset: 0,
        mode: Mode::Exclusive,
    })
}

fn code(error: &Error) -> (i32, &str) {
    let code = error.code.as_ref().unwrap_or_else(|| panic!("no code: {error}"));
    assert!(!code.meaning.is_empty() && !error.hint.is_empty(), "{error}");
    (code.number, &code.name)
}

fn asked(disk: &Resource) -> Asked {
    Asked::of(&new_guest("rival"), from_ref(disk))
}

#[test]
fn refused_by_another_process_of_this_host() {
    let Some(world) = World::of(SANLOCK) else { return };
    let host = world.host();
    let web = new_guest("web");
    let disk = world.disk("a");
    let (_guest, process) = start(&host, &web, from_ref(&disk)).unwrap();
    let error = acquire(&host, &new_guest("rival"), from_ref(&disk)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "lock.sanlock: cannot acquire {disk}: held by guest web (uuid {}, pid {}, running cat) (-17 EEXIST: another \
             process of this host has the lease); stop the guest that has it, or give it to both in shared mode",
            web.uuid,
            process.id()
        )
    );
}

#[test]
fn refused_by_the_other_host_until_the_holder_is_killed() {
    let Some(hosts) = Hosts::new() else { return };
    let (a, b) = (hosts.on("a"), hosts.on("b"));
    let web = new_guest("web");
    let disk = hosts.disk("disk", Mode::Exclusive);
    let mut guest = a.start(&Asked::of(&web, from_ref(&disk)), &waiting()).unwrap();
    // Who has just joined does not know yet that the holder's host is alive.
    let mut error = b.hold(&asked(&disk)).unwrap_err();
    soon("the other host is seen alive", || {
        assert_eq!(error.kind, Kind::Held, "{error}");
        if code(&error).0 == -247 {
            error = b.hold(&asked(&disk)).unwrap_err();
        }
        code(&error) == (-243, "SANLK_ACQUIRE_IDLIVE")
    });
    assert_eq!(error.resource, Some(disk.to_string()));
    let holder = error.holder.as_ref().unwrap();
    assert_eq!((holder.name.as_deref(), holder.uuid), (Some("web"), Some(web.uuid)), "{error}");
    assert_eq!(holder.pid, Some(guest.process.id()), "{error}");
    assert!(
        holder.host.as_ref().is_some_and(|host| host.ends_with(", number 1 of its lockspace")),
        "{error}"
    );

    guest.process.kill();
    soon("the killed guest's disk is free for the other host", || match b.hold(&asked(&disk)) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind, Kind::Held, "{error}");
            false
        }
    });

    // A lease without notes: the host is known, and nobody on it.
    let lease = hosts.lease("lease");
    let held = hosts.bare("b").hold(&asked(&lease)).unwrap();
    let error = hosts.bare("a").hold(&asked(&lease)).unwrap_err();
    assert_eq!(code(&error), (-243, "SANLK_ACQUIRE_IDLIVE"));
    let host = error.holder.as_ref().and_then(|holder| holder.host.clone());
    assert_eq!(host.as_deref(), Some("number 2 of its lockspace"), "{error}");
    drop(held);
    drop(hosts.bare("a").hold(&asked(&lease)).unwrap());
}

/// Several hosts that take a shared lease at the same moment get in each other's way for
/// that moment: it is tried again.
#[test]
fn hosts_share_what_is_shared() {
    let Some(hosts) = Hosts::new() else { return };
    // Who has just joined does not know yet that the other is alive.
    let first = asked(&hosts.disk("first", Mode::Exclusive));
    for (one, other) in [("a", "b"), ("b", "a")] {
        let _held = hosts.on(one).hold(&first).unwrap();
        soon("the other host is seen alive", || code(&hosts.on(other).hold(&first).unwrap_err()).0 == -243);
    }
    let shared = hosts.disk("disk", Mode::Shared);
    let exclusive = Resource::disk(shared.path(), Mode::Exclusive);
    let wanted = asked(&shared);
    for _ in 0..3 {
        let held: Vec<_> = std::thread::scope(|scope| {
            let both = ["a", "b"].map(|host| {
                let (starter, wanted) = (hosts.on(host), &wanted);
                scope.spawn(move || starter.hold(wanted))
            });
            both.map(|one| one.join().unwrap().unwrap_or_else(|error| panic!("{error}"))).into()
        });
        let error = hosts.on("a").hold(&asked(&exclusive)).unwrap_err();
        assert_eq!(code(&error), (-17, "EEXIST"), "{error}");
        drop(held);
        drop(hosts.on("b").hold(&asked(&exclusive)).unwrap());
    }
    let held = hosts.on("a").hold(&wanted).unwrap();
    let error = hosts.on("b").hold(&asked(&exclusive)).unwrap_err();
    assert_eq!((error.kind, code(&error)), (Kind::Held, (-11, "EAGAIN")), "{error}");
    drop(held);
}

/// Nobody protects the guest any more: its manager is told, and others are refused as
/// long as its host may be alive. A new daemon does not know it.
#[test]
fn a_killed_daemon_is_said_and_other_hosts_are_still_refused() {
    let Some(mut hosts) = Hosts::new() else { return };
    let (a, b) = (hosts.on("a"), hosts.on("b"));
    let web = new_guest("web");
    let disk = hosts.disk("disk", Mode::Exclusive);
    let mut guest = a.start(&Asked::of(&web, from_ref(&disk)), &waiting()).unwrap();
    drop(b.hold(&asked(&hosts.disk("other", Mode::Exclusive))).unwrap());
    let lease = hosts.lease("lease");
    let mut other = hosts.bare("a").start(&Asked::of(&web, from_ref(&lease)), &waiting()).unwrap();
    let known = hosts.bare("a").inquire(&web, &other.state).unwrap();
    assert_eq!(known, other.state);

    hosts.a.kill();
    let error = hosts.bare("a").inquire(&web, &other.state).unwrap_err();
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    assert!(error.hint.starts_with("start it (`systemctl start sanlock`)"), "{error}");
    let error = b.hold(&asked(&disk)).unwrap_err();
    assert_eq!(error.kind, Kind::Held, "{error}");
    assert_eq!(guest.process.0.try_wait().unwrap(), None, "it was killed");

    hosts.a = Daemon::start(&hosts.program, "a", &hosts.storage.path().join("run-a"));
    let error = hosts.bare("a").inquire(&web, &other.state).unwrap_err();
    assert_eq!((error.kind, error.resource.clone()), (Kind::Lost, Some(lease.to_string())), "{error}");
    guest.process.kill();
    other.process.kill();
}

/// The lockspace's storage fails. Guests are killed; those that gave up their leases are
/// not; and programs are run where they were named.
#[test]
fn a_lost_lockspace_ends_its_guests_or_runs_their_programs() {
    let Some(hosts) = Hosts::new() else { return };
    let failure = lcr_tests::build(&["lcr-lock-sanlock"], Profile::Dev).program("lcr-lock-failure");
    let mut a = hosts.on("a");
    a.parameters.push(("handler", failure.display().to_string()));
    let started = |name: &str, request: Request| {
        // What an administrator has made can be asked for without joining anything.
        let needs = if name == "paused" { hosts.lease(name) } else { hosts.disk(name, Mode::Exclusive) };
        let asked = Asked { request, ..Asked::of(&new_guest(name), from_ref(&needs)) };
        let started = a.start(&asked, &waiting()).unwrap();
        (asked.guest, started)
    };
    let action = |on_failure| Request { on_failure, ..Request::default() };
    let (_, mut killed) = started("killed", Request::default());
    let (_, mut off) = started("off", action(OnFailure::PowerOff));
    let (paused, mut pausing) = started("paused", action(OnFailure::Pause));
    let (_, mut ignoring) = started("ignoring", action(OnFailure::Ignore));
    let marker = hosts.storage.path().join("a marker");
    let handler = Program { path: "/usr/bin/touch".into(), arguments: vec![marker.display().to_string()] };
    let (_, mut own) = started("own", Request { handler: Some(handler), ..Request::default() });
    let bare = hosts.bare("a");
    assert_eq!(bare.inquire(&paused, &pausing.state).unwrap(), pausing.state);

    // Its storage is gone for all hosts.
    fs::File::options()
        .write(true)
        .open(hosts.leases().join("__LIBVIRT__DISKS__"))
        .unwrap()
        .set_len(0)
        .unwrap();
    let since = Instant::now();
    let within = |what: &str, mut is: Box<dyn FnMut() -> bool + '_>| {
        while !is() {
            assert!(since.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
            std::thread::yield_now();
        }
    };
    for (what, guest) in [("killed", &mut killed), ("off", &mut off)] {
        // Waiting for it would close its standard input, with which it ends.
        let mut status = None;
        within(
            "the guest was killed",
            Box::new(|| {
                status = guest.process.0.try_wait().unwrap();
                status.is_some()
            }),
        );
        let signal = status.and_then(|status| status.signal());
        assert!(matches!(signal, Some(libc::SIGTERM | libc::SIGKILL)), "{what}: {status:?}");
    }
    let state = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap()
    };
    within("the guest that pauses has stopped", Box::new(|| state(pausing.process.id()) == 'T'));
    within("its program was run", Box::new(|| marker.exists()));
    // It has given up its lease, and is not killed; its manager is told.
    within(
        "the paused guest has no lease",
        Box::new(|| {
            let asked = bare.inquire(&paused, &pausing.state);
            asked.is_err_and(|error| error.kind == Kind::Lost)
        }),
    );
    assert_eq!(pausing.process.0.try_wait().unwrap(), None);
    assert_eq!(ignoring.process.0.try_wait().unwrap(), None);
    for guest in [&mut pausing, &mut ignoring, &mut own] {
        guest.process.kill();
    }
}

/// What an administrator named wrongly is said, each with its code.
#[test]
fn leases_that_cannot_be_had_say_why() {
    let Some(world) = World::of(SANLOCK) else { return };
    let program = sanlock::program().unwrap();
    let (host, lockspace) = (world.host(), "__LIBVIRT__DISKS__");
    let made = world.path("made");
    fs::File::options().write(true).open(&made).unwrap().set_len(1 << 20).unwrap();
    initialise(&program, lockspace, "made", &made);
    let blank = world.path("blank");
    fs::File::options().write(true).open(&blank).unwrap().set_len(1 << 20).unwrap();
    let absent = world.path("made").with_file_name("absent");
    let try_it = |lease: &Resource| acquire(&host, &new_guest("web"), from_ref(lease));
    for (lease, expected) in [
        (explicit("nowhere", "made", &made), (-28, "ENOSPC")),
        (explicit(lockspace, "made", &blank), (-223, "SANLK_LEADER_MAGIC")),
        (explicit(lockspace, "other", &made), (-227, "SANLK_LEADER_RESOURCE")),
        (explicit(lockspace, "made", &absent), (-2, "ENOENT")),
    ] {
        let error = try_it(&lease).unwrap_err();
        assert_eq!(code(&error), expected, "{error}");
        assert_ne!(error.kind, Kind::Held, "{error}");
    }
    let made = explicit(lockspace, "made", &made);
    let held = try_it(&made).unwrap();
    let error = try_it(&made).unwrap_err();
    assert_eq!((error.kind, code(&error)), (Kind::Held, (-17, "EEXIST")), "{error}");
    assert_eq!(error.holder.as_ref().and_then(|holder| holder.name.as_deref()), Some("web"), "{error}");
    drop(held);
    drop(try_it(&made).unwrap());
}

/// More than the daemon takes in one call; and none of them if one cannot be had.
#[test]
fn many_disks_are_taken_together_or_not_at_all() {
    let Some(world) = World::of(SANLOCK) else { return };
    let host = world.host();
    let disks: Vec<_> = (0..20).map(|number| world.disk(&format!("disk{number}"))).collect();
    let last = acquire(&host, &new_guest("last"), from_ref(&disks[19])).unwrap();
    let error = acquire(&host, &new_guest("web"), &disks).unwrap_err();
    assert_eq!((error.kind, error.resource), (Kind::Held, Some(disks[19].to_string())));
    world.assert_free(&new_guest("web"), &disks[0]);
    world.assert_free(&new_guest("web"), &disks[18]);
    drop(last);
    let (guest, _process) = start(&host, &new_guest("web"), &disks).unwrap();
    world.assert_held(&new_guest("web"), &disks[19]);
    drop(guest.suspend().unwrap());
    world.assert_free(&new_guest("web"), &disks[0]);
    world.assert_free(&new_guest("web"), &disks[19]);
}

/// As libvirt starts a guest: its process registers, restricted, and the manager acquires.
#[test]
fn a_restricted_process_is_served_by_its_manager() {
    let Some(world) = World::of(SANLOCK) else { return };
    let (host, web, disk) = (world.host(), new_guest("web"), world.disk("a"));
    let request = Request { register_only: true, restrict: true, ..Request::default() };
    let (guest, mut process) = start_with(&host, &web, from_ref(&disk), &request).unwrap();
    world.assert_free(&web, &disk);
    drop(guest);
    let mut described = host.new_guest(&web.clone().with_pid(process.id())).unwrap();
    described.add(&disk).unwrap();
    let guest = described.acquire(&Request::default()).unwrap().started(process.id()).unwrap();
    world.assert_held(&web, &disk);
    drop(guest.suspend().unwrap());
    world.assert_free(&web, &disk);
    process.kill();
}

/// What sanlock cannot do is refused before anything is taken.
#[test]
fn failure_actions_that_cannot_be_are_refused() {
    let Some(world) = World::of(SANLOCK) else { return };
    let host = world.host();
    let disk = world.disk("a");
    let long = Program { path: "/bin/true".into(), arguments: vec!["x".repeat(200)] };
    for (request, kind) in [
        (Request { on_failure: OnFailure::Ignore, ..Request::default() }, Kind::Unsupported),
        (Request { handler: Some(long), ..Request::default() }, Kind::Invalid),
    ] {
        let error = start_with(&host, &new_guest("web"), from_ref(&disk), &request).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(!error.hint.is_empty(), "{error}");
        world.assert_free(&new_guest("web"), &disk);
    }
}

/// Replaced by itself, built as a library, while it holds.
#[test]
fn replaced_while_it_holds() {
    let Some(world) = World::of(SANLOCK) else { return };
    let host = world.host();
    let web = new_guest("web");
    let (a, b) = (world.disk("a"), world.disk("b"));
    let (guest, mut process) = start(&host, &web, from_ref(&a)).unwrap();
    let before = (host.driver().owners(), guest.state().unwrap());
    let library = lcr_tests::build(&["lcr-lock-sanlock-library"], Profile::Dev).library("lock_sanlock");
    host.factory.replace("lock.sanlock").with(library).run().unwrap();
    assert_eq!((host.driver().owners(), guest.state().unwrap()), before);
    world.assert_held(&web, &a);
    guest.plug(&b).unwrap();
    guest.unplug(&a).unwrap();
    world.assert_free(&web, &a);
    world.assert_held(&web, &b);
    process.kill();
    world.assert_free_soon(&web, &b);
}

/// A disk that was removed while it was in use can still be given up.
#[test]
fn what_is_not_there_any_more_is_given_up() {
    let Some(world) = World::of(SANLOCK) else { return };
    let host = world.host();
    let web = new_guest("web");
    let disk = world.disk("a");
    let (guest, _process) = start(&host, &web, from_ref(&disk)).unwrap();
    fs::remove_file(disk.path()).unwrap();
    guest.unplug(&disk).unwrap();
    world.assert_free(&web, &world.disk("a"));
}

fn refused(parameters: &[(&str, &str)]) -> String {
    let factory = Factory::builder().without_environment().build();
    let context = parameters.iter().fold(Context::new(), |cx, (name, value)| cx.with(name, *value));
    Plugin::load_from(&factory, "lock.sanlock", &context).unwrap_err().to_string()
}

/// `sanlock_init` and `sanlock_align` came with 1.8.
#[test]
fn an_older_client_library_is_refused() {
    let scratch = Scratch::new();
    let Some(cc) = lcr_tests::program("cc", "install the package gcc") else { return };
    let source = scratch.path().join("old.c");
    for (before, missing) in [("", "sanlock_init"), ("int sanlock_init(void) { return 0; }", "sanlock_align")]
    {
        fs::write(&source, format!("int sanlock_register(void) {{ return -1; }}\n{before}\n")).unwrap();
        let library = scratch.path().join(format!("lib{missing}.so"));
        lcr_tests::stdout(Command::new(&cc).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source));
        let library = library.display().to_string();
        let error = refused(&[("client", &library)]);
        let expected = format!(
            "the client library of sanlock, {library}, has no {missing}: it is older than 1.8; install 1.8 or later"
        );
        assert!(error.contains(&expected), "{error}");
    }
    let error = refused(&[("client", "/no/such/library.so")]);
    assert!(error.contains("install it (Debian: libsanlock-client1"), "{error}");
}

#[test]
fn parameters_that_make_no_sense_are_refused() {
    for (parameters, expected) in [
        (("host_id", "0"), "`host_id` is from 1 to 2000"),
        (("host_id", "one"), "the parameter `host_id` is no number: `one`"),
        (("disks", "some"), "it can be `lease` or `ignore`"),
        (("lockspace", "a:b"), "no colon, blank, slash or backslash"),
        (
            ("hostid", "1"),
            "there is no parameter `hostid`: this driver takes `directory`, `host_id`, `lockspace`, `io_timeout`, \
             `disks`, `handler`, `client`",
        ),
    ] {
        let error = refused(&[parameters]);
        assert!(error.contains(expected), "{error}");
    }
}
