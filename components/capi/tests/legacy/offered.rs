//! What `lcr.h` offers beyond the original's calls.

use std::io::{BufRead, BufReader, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::world::{Link, World, each_link, said, sample};

#[test]
fn places_can_be_seen_and_chosen() {
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        let (one, two) = (world.directory("one"), world.directory("two"));
        world.library("one/plain.lcrso", "plain.c", &[]);
        world.library("two/late.so", "late.c", &[]);
        let set = format!("s:{},{}", one.display(), two.display());
        let said = world.says(&host, &["l:0", "s", "r:plain:0", &set, "s", "r:plain:0", "r:late:0"]);
        assert!(
            said.starts_with("legacy 0\n-1: no component offers `plain` version 0; nothing was"),
            "{said}"
        );
        let (one, two) = (one.display(), two.display());
        assert!(
            said.ends_with(&format!(
                "search 0\nplace {one}\nplace {two}\nplain 0 constructed with 0xc0de\n0: plain\n1: late\n"
            )),
            "{said}"
        );
        // The original's, behind those that were named.
        let said = crate::world::said(
            world
                .command(&host, &["s"])
                .env("LCR_PATH", "/named")
                .env("LD_LIBRARY_PATH", "relative:/absolute;/third:"),
        );
        let here = world.path().display();
        assert!(
            said.starts_with(&format!(
                "place /named\nplace {here}\nplace /usr/libexec/lcrso\nplace {here}/relative\nplace /absolute\n\
                 place /third\n"
            )),
            "{said}"
        );
    });
}

#[test]
fn interfaces_can_be_seen() {
    each_link(|world, link| {
        let host = world.host(link, &["several.c", "versions.c"], &[]);
        world.library("plain.lcrso", "plain.c", &[]);
        assert_eq!(
            world.says(
                &host,
                &["r:plain:0", "r:plain:0", "r:versions:1", "i", "x:0", "x:1", "i:plain", "i:versions"]
            ),
            "plain 0 constructed with 0xc0de\n0: plain\nplain 0 constructed with 0xc0df\n1: plain\n2: versions\n\
             lcr.control 1 idle compiled in control 0\n\
             left 0 idle compiled in left 0\nmiddle 0 idle compiled in left 0\nplain 0 live plain.lcrso plain 2\n\
             right 0 idle compiled in right 0\nversions 0 idle compiled in versions 0\n\
             versions 1 live compiled in versions 1\nversions 5 idle compiled in versions 0\n\
             plain 0 destroyed with 0xc0de\nrelease 0\nplain 0 destroyed with 0xc0df\nrelease 0\n\
             versions 0 idle compiled in versions 0\nversions 1 live compiled in versions 1\n\
             versions 5 idle compiled in versions 0\n"
        );
    });
}

#[test]
fn a_replacement_is_planned_and_made_and_taken_back() {
    each_link(|world, link| {
        let host = world.host(link, &["plain.c"], &[]);
        world.library("new/plain.lcrso", "plain.c", &["-DVERSION=1", "-DREPLACES=0"]);
        let file = "new/plain.lcrso";
        let (plan, replace) = (format!("p:plain:1:{file}:0"), format!("R:plain:any:{file}:0"));
        let said = world.says(
            &host,
            &[
                &plan,
                "i:plain",
                &replace,
                "i:plain",
                "r:plain:0",
                "c:0:0",
                "x:0",
                "b:plain:0",
                "r:plain:0",
                "c:1:0",
            ],
        );
        assert_eq!(
            said,
            "p 0\nplain 0 idle compiled in plain 0\nR 0\nplain 1 idle plain.lcrso plain 0\n\
             plain 1 constructed with 0xc0de\n0: plain\nplain 1 func1\nplain 1 destroyed with 0xc0de\nrelease 0\n\
             b 0\nplain 0 constructed with 0xc0df\n1: plain\nplain 0 func1\n"
        );
    });
}

#[test]
fn what_cannot_be_promised_for_a_table_without_a_size_is_refused() {
    each_link(|world, link| {
        let host = world.host(link, &["plain.c"], &[]);
        world.library("new/plain.lcrso", "plain.c", &["-DVERSION=1", "-DREPLACES=0"]);
        world.library("new/other.lcrso", "plain.c", &["-DVERSION=2"]);
        let sentence = "-1: `plain` was not replaced (prepare): 1 reference holds the table of `plain` version 0, \
                        which does not say how long it is, so it cannot be changed under its callers; release it \
                        first, or replace for later references alone (in C with LCR_LATER, in Rust \
                        without `unpinned`)\n";
        let asked = [
            "r:plain:0",
            "p:plain:1:new/plain.lcrso:0",
            "R:plain:1:new/plain.lcrso:0",
            "m",
            "R:plain:1:new/plain.lcrso:1",
            "c:0:0",
            "r:plain:0",
            "c:1:0",
            "x:0",
            "x:1",
        ];
        assert_eq!(
            world.says(&host, &asked),
            format!(
                "plain 0 constructed with 0xc0de\n0: plain\np {sentence}R {sentence}mapped 0\nR 0\nplain 0 func1\n\
                 plain 1 constructed with 0xc0df\n1: plain\nplain 1 func1\nplain 0 destroyed with 0xc0de\nrelease 0\n\
                 plain 1 destroyed with 0xc0df\nrelease 0\n"
            )
        );
        let said = world.says(
            &host,
            &[
                "R:plain:2:new/other.lcrso:0",
                "R:plain:1:new/absent.lcrso:0",
                "R::1::0",
                "R:plain:1::2",
                "b:plain:0",
            ],
        );
        let lines: Vec<_> = said.lines().collect();
        for (line, wanted) in lines.iter().zip([
            "R -1: `plain` was not replaced (prepare): version 2 does not replace version 0: its `replaces` is empty",
            "R -1: `plain` was not replaced (prepare): new/absent.lcrso: ",
            "R -1: `` was not replaced",
            "R -1: lcr_replace was called with flags 0x2, which this lcr does not know",
            "b -1: `plain` was not replaced (prepare): `plain` was not replaced since the program started",
        ]) {
            assert!(line.starts_with(wanted), "{said}");
        }
        assert_eq!(lines.len(), 5, "{said}");
    });
}

#[test]
fn null_is_an_error_and_an_errors_text_belongs_to_its_thread() {
    each_link(|world, link| {
        let program = world.program("null", link, &[sample("null.c")], &[]);
        let said = world.says(&program, &[]);
        assert_eq!(
            said,
            "(none)\n\
             lcr_ifact_reference was called with a null handle, name or interface\n\
             lcr_ifact_reference was called with a null handle, name or interface\n\
             lcr_search_set was called with null for places\n\
             lcr_search_each was called with null for visit\n\
             lcr_interfaces_each was called with null for visit\n\
             lcr_plan was called with null for interface\n\
             lcr_replace was called with null for interface\n\
             lcr_rollback was called with null for interface\n\
             lcr_retire was called with null for interface\n\
             lcr_control_start was called with flags 0x4, which this lcr does not know\n\
             the control service does not run: call lcr_control_start\n\
             the control service does not run: call lcr_control_start\n\
             in another thread: (none)\n"
        );
    });
}

/// The original's message, as its client sends it.
pub(crate) fn uic(text: &str) -> std::io::Result<()> {
    let mut name = [0; 107];
    name[..10].copy_from_slice(b"lcr.socket");
    let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    let length = i32::try_from(text.len() + 1).unwrap().to_ne_bytes();
    stream.write_all(&[&length, text.as_bytes(), &[0]].concat())
}

/// Runs a test that listens on `lcr.socket`: there is one in a network namespace.
pub(crate) fn alone_with_the_socket(test: fn()) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = std::thread::spawn(move || {
        // SAFETY: of this thread, and the processes that it starts.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            eprintln!("no network namespace of its own: run as root to be alone with lcr.socket");
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn the_originals_client_replaces_a_component_in_a_c_program() {
    alone_with_the_socket(|| each_link(legacy_message));
}

/// A host that has started the control service, and waits; it does not outlive a test
/// that fails.
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    text: String,
    directory: PathBuf,
}

impl Running {
    pub(crate) fn start(world: &World, host: &Path, asked: &[&str]) -> Running {
        let directory = world.path().to_owned();
        let mut command = world.command(host, asked);
        command.env("LCR_RUNTIME_DIR", &directory).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut running = Running { child, output, text: String::new(), directory };
        while !running.text.ends_with("waits\n") {
            assert!(running.output.read_line(&mut running.text).unwrap() > 0, "{}", running.text);
        }
        running
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(format!("{}.sock", self.pid()))
    }

    /// What the control service answers.
    pub(crate) fn asks(&self, method: &str, parameters: &str) -> String {
        let mut client = UnixStream::connect(self.socket()).unwrap();
        let asked = format!("{{\"method\":\"io.lcr.Control.{method}\",\"parameters\":{parameters}}}\0");
        client.write_all(asked.as_bytes()).unwrap();
        let mut answer = Vec::new();
        BufReader::new(client).read_until(0, &mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// What it has printed, all in all; it ends well.
    pub(crate) fn ends(mut self) -> String {
        std::io::Read::read_to_string(&mut self.output, &mut self.text).unwrap();
        assert!(self.child.wait().unwrap().success());
        std::mem::take(&mut self.text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn legacy_message(world: &World, link: Link) {
    let host = world.host(link, &["plain.c"], &[]);
    world.library("new.lcrso", "plain.c", &["-DVERSION=2", "-DREPLACES=0"]);
    let go = world.path().join("go");
    let wait = format!("w:{}", go.display());
    let asked = ["r:plain:0", "k:1", "k:0", &wait, "c:0:0", "r:plain:0", "c:1:0", "K", "K", "x:0", "x:1"];
    let running = Running::start(world, &host, &asked);
    let socket = running.socket();
    uic("livereplace plain version2").unwrap();
    // Nobody answers: the control service tells when it was done.
    let done = loop {
        let history = running.asks("History", "{}");
        if history.contains("\"interface\"") {
            break history;
        }
    };
    assert!(done.contains("\"result\":\"done\""), "{done}");
    std::fs::write(&go, "").unwrap();
    assert_eq!(
        running.ends(),
        format!(
            "plain 0 constructed with 0xc0de\n0: plain\ncontrol 0\nsocket 0\ncontrol -1: the control service runs \
             already, on {}\nwaits\nplain 0 func1\nplain 2 constructed with 0xc0df\n1: plain\nplain 2 func1\n\
             stopped 0\nstopped -1\nplain 0 destroyed with 0xc0de\nrelease 0\nplain 2 destroyed with 0xc0df\n\
             release 0\n",
            socket.display()
        )
    );
    assert!(!socket.exists());
    assert_eq!(said(&mut world.command(&host, &["K"])), "stopped -1\n");
}
