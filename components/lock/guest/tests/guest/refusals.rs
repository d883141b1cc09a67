//! What is refused, and what it says.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::world::{Host, Program, World, absent, is_alive, pid, signal, soon};

/// Refused before anything was made for it.
#[track_caller]
fn run_refused(code: i32, options: &[&str], command: &[&str], expected: &str) {
    let world = World::new();
    let host = world.host("host");
    let arguments: Vec<&str> = ["run"].iter().chain(options).chain(&["--"]).chain(command).copied().collect();
    let said = host.refused(code, &arguments);
    assert!(said.contains(expected), "{expected:?} is not in: {said}");
    assert!(host.list().is_empty());
}

#[test]
fn a_name_that_is_none() {
    run_refused(125, &["--name", "a/b"], &["true"], "a guest's name is up to 80 letters");
    run_refused(125, &[], &["true"], "--name");
}

/// Its socket's path would be too long when the guest runs already.
#[test]
fn a_name_that_is_too_long() {
    let world = World::new();
    let marker = world.path("marker");
    let touch = ["touch", marker.to_str().unwrap()];
    for length in [81, 87, 100, 300] {
        let said = format!("begins with neither `.` nor `-`; this has {length} bytes");
        run_refused(125, &["--name", &"x".repeat(length)], &touch, &said);
    }
    assert!(!marker.exists(), "it ran");
    let host = world.host("host");
    let longest = "x".repeat(80);
    let mut web = host.run(&longest, &[""; 0]);
    host.done(&["plug", &longest, "--disk", &world.disk("a")]);
    assert!(web.end().success());
}

#[test]
fn a_uuid_that_is_none() {
    run_refused(125, &["--name", "web", "--uuid", "12"], &["true"], "`12` is no uuid");
}

#[test]
fn a_disk_that_is_not_there() {
    let world = World::new();
    let path = absent(&world).display().to_string();
    let expected = format!("lock.file: cannot acquire disk {path} (exclusive): {path} cannot be opened");
    run_refused(125, &["--name", "web", "--disk", &path], &["true"], &expected);
    run_refused(125, &["--name", "web", "--disk", &path], &["true"], "; create it, or name another one");
}

#[test]
fn a_disk_twice() {
    let world = World::new();
    let disk = world.disk("a");
    run_refused(125, &["--name", "web", "--disk", &disk, "--disk", &disk], &["true"], "cannot add disk");
}

#[test]
fn a_mode_that_is_none() {
    let world = World::new();
    let disk = format!("{},rw", world.disk("a"));
    let expected = format!("there is no mode `rw`, and no file {disk}: write PATH for this guest alone");
    run_refused(125, &["--name", "web", "--disk", &disk], &["true"], &expected);
}

#[test]
fn a_driver_that_is_not_there() {
    let said = "no lock driver lock.absent: no component offers any version of `lock.absent`";
    run_refused(125, &["--name", "web", "--driver", "absent"], &["true"], said);
    run_refused(
        125,
        &["--name", "web", "--driver", "lock.absent"],
        &["true"],
        "compiled in: lock.file, lock.nop, lock.sanlock;",
    );
}

#[test]
fn parameters_that_the_driver_does_not_take() {
    let options = ["--name", "web", "--parameter", "directory=/no/such/directory"];
    run_refused(125, &options, &["true"], "the directory of leases, /no/such/directory, is not there");
    run_refused(
        125,
        &["--name", "web", "--parameter", "directory"],
        &["true"],
        "a parameter is written KEY=VALUE",
    );
    for (driver, parameter, said) in [
        ("file", "direktory=/", "there is no parameter `direktory`: this driver takes `directory`"),
        ("nop", "foo=bar", "there is no parameter `foo`: this driver takes none"),
        ("sanlock", "hostid=1", "there is no parameter `hostid`: this driver takes `directory`, `host_id`,"),
    ] {
        run_refused(125, &["--name", "web", "--driver", driver, "--parameter", parameter], &["true"], said);
    }
}

/// Those that a driver has not are refused before anything runs, and say which.
#[test]
fn failure_actions_that_the_driver_has_not() {
    let world = World::new();
    let disk = world.disk("a");
    let marker = world.path("marker");
    let touch = ["touch", marker.to_str().unwrap()];
    for driver in ["file", "nop"] {
        for action in ["poweroff", "restart", "pause"] {
            let options = ["--name", "web", "--driver", driver, "--on-failure", action, "--disk", &disk];
            let said = format!(
                "lock.{driver}: cannot acquire: the failure action `{action}` was asked for, and this driver has none: \
                 it does nothing when a lock is lost; use `ignore`, or a driver that has it, as lock.sanlock"
            );
            run_refused(125, &options, &touch, &said);
        }
        let options = ["run", "--name", "web", "--driver", driver, "--on-failure", "ignore", "--", "true"];
        world.host("host").done(&options);
    }
    let said = "the actions are poweroff, restart, pause and ignore";
    run_refused(125, &["--name", "web", "--on-failure", "reboot"], &touch, said);
    assert!(!marker.exists(), "it ran");
}

#[test]
fn a_lease_that_is_none() {
    run_refused(
        125,
        &["--name", "web", "--lease", "a"],
        &["true"],
        "the lease a has no place: add path=PATH",
    );
    let world = World::new();
    let path = absent(&world).display().to_string();
    let lease = format!("a,path={path}");
    let said = format!("cannot acquire lease a at {path}+0 (exclusive): {path} cannot be opened");
    run_refused(125, &["--name", "web", "--lease", &lease], &["true"], &said);
    let far = format!("a,path={},offset={}", world.disk("a"), u64::MAX);
    run_refused(125, &["--name", "web", "--lease", &far], &["true"], "no file is as long as its offset");
    let twice = format!("a,path={}", world.disk("a"));
    run_refused(
        125,
        &["--name", "web", "--lease", &twice, "--lease", &twice],
        &["true"],
        "cannot add lease a",
    );
}

#[test]
fn a_command_that_is_not_there_or_cannot_be_executed() {
    let world = World::new();
    run_refused(
        127,
        &["--name", "web"],
        &["no-such-command-anywhere"],
        "there is no command no-such-command-anywhere",
    );
    let path = absent(&world).display().to_string();
    run_refused(127, &["--name", "web"], &[&path], &format!("there is no command {path}"));
    let file = world.disk("a");
    run_refused(126, &["--name", "web"], &[&file], &format!("{file} cannot be executed"));
    run_refused(126, &["--name", "web"], &["/"], "/ cannot be executed");
    run_refused(125, &["--name", "web"], &[], "COMMAND");
}

/// Its own process has ended, and its supervisor before that: who has the lock is named.
#[test]
fn a_holder_that_was_left_behind_is_named_and_not_the_guests_own_process() {
    let world = World::new();
    let host = world.host("host");
    let disk = world.disk("a");
    let script = "sleep 600 < /dev/null > /dev/null 2>&1 & echo $!; exec cat";
    let run = ["run", "--name", "web", "--disk", &disk, "--", "sh", "-c", script];
    let mut web = Program::start(host.command(&run));
    let left: u32 = web.line().parse().unwrap();
    let own = pid(&host.until("web", "running"));
    web.kill();
    web.end();
    soon("its own process has ended", || (!is_alive(own)).then_some(()));
    let said = host.refused(125, &["run", "--name", "rival", "--disk", &disk, "--", "true"]);
    signal(left, rustix::process::Signal::KILL);
    assert!(said.contains("held by guest web (uuid "), "{said}");
    let expected = format!(
        ", pid {left}, running sleep); process {left} has it from the guest's own process, {own}, which has ended: end \
         what that has left behind\n"
    );
    assert!(said.contains(&expected), "{said}");
    host.free_soon(&disk);
}

/// What a script, or a program, needs to be executed is not there.
#[test]
fn a_command_whose_interpreter_is_not_there_or_cannot_be_executed() {
    let world = World::new();
    let file = world.disk("a");
    let script = |name: &str, text: &[u8]| {
        let path = world.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let refused = |code, script: &str, said: &str| {
        run_refused(code, &["--name", "web", "--disk", &file], &[script], said);
        assert!(!world.host("host").is_held(&file));
    };
    let broken = script("broken", b"#! /no/such/interpreter -x\nexit 0\n");
    let absent = "is a script for the interpreter /no/such/interpreter, and there is no /no/such/interpreter";
    refused(127, &broken, &format!("{broken} {absent}\n  the guest was not started, and nothing is locked"));
    let of_it = script("of-it", format!("#!{broken}\n").as_bytes());
    refused(127, &of_it, &format!("{broken} {absent}"));
    let by_data = script("by-data", format!("#!{file}\n").as_bytes());
    refused(
        126,
        &by_data,
        &format!("{by_data} is a script for the interpreter {file}, which cannot be executed"),
    );
    // Its interpreter is itself: only the kernel sees that this comes to nothing.
    let endless = script("endless", format!("#!{}\n", world.path("endless").display()).as_bytes());
    refused(126, &endless, &format!("the guest's command {endless} cannot be started"));
    // Which loader a program wants is the kernel's to read. Another process writes the
    // program: a child of this one that has it open would keep it from being executed.
    let mut text = fs::read("/bin/true").unwrap();
    let loader = b"/lib64/ld-linux-x86-64.so.2\0";
    if let Some(at) = text.windows(loader.len()).position(|bytes| bytes == loader) {
        text[at + 1] = b'x';
        let (data, no_loader) = (script("data", &text), world.path("no-loader"));
        lcr_tests::run(std::process::Command::new("cp").arg(&data).arg(&no_loader));
        let no_loader = no_loader.display();
        let said = format!("the guest's command {no_loader} cannot be started: No such file");
        refused(127, &no_loader.to_string(), &said);
    }
}

#[test]
fn a_name_or_a_uuid_that_is_taken() {
    let world = World::new();
    let host = world.host("host");
    let web = host.run("web", &[""; 0]);
    let guest = host.look("web").unwrap();
    let said = host.refused(125, &["run", "--name", "web", "--", "true"]);
    let expected = format!(
        "lcr-guest: there is a guest web already (pid {}, supervised by process {})\n  \
         stop it first: lcr-guest stop web; or choose another name\n",
        pid(&guest),
        web.pid()
    );
    assert_eq!(said, expected);
    let uuid = guest["uuid"].as_str().unwrap();
    let said = host.refused(125, &["run", "--name", "other", "--uuid", uuid, "--", "true"]);
    assert!(said.contains(&format!("guest web has the uuid {uuid} (pid")), "{said}");
    // Another host has names of its own.
    world.host("other").done(&["run", "--name", "web", "--", "true"]);
}

#[test]
fn a_run_directory_that_cannot_be_written_or_is_not_safe() {
    let world = World::new();
    let mut host = world.host("host");
    host.directory = world.disk("file").into();
    let said = host.refused(125, &["run", "--name", "web", "--", "true"]);
    assert!(said.contains("no guests can be recorded in") && said.contains("set LCR_RUNTIME_DIR"), "{said}");
    let said = host.refused(1, &["list"]);
    assert!(said.contains("no guests can be recorded in"), "{said}");
    host.directory = world.path("everybody's");
    fs::create_dir(&host.directory).unwrap();
    fs::set_permissions(&host.directory, fs::Permissions::from_mode(0o777)).unwrap();
    let said = host.refused(125, &["run", "--name", "web", "--", "true"]);
    assert!(said.contains("others can write there: chmod 0700"), "{said}");
}

/// A directory below /tmp, wherever the other files of a test are.
struct BelowTmp(PathBuf);

impl BelowTmp {
    fn new(name: &str) -> BelowTmp {
        let path = PathBuf::from(format!("/tmp/lcr-guest-{name}-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        BelowTmp(path)
    }
}

impl Drop for BelowTmp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_run_directory_that_is_a_link_is_named_with_where_it_leads() {
    let world = World::new();
    let place = BelowTmp::new("links");
    let (real, link) = (world.path("real"), place.0.join("link"));
    fs::create_dir(&real).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&real, &link).unwrap();
    let mut host = world.host("host");
    let expected = |at: &Path, to: &Path| {
        format!(
            "lcr-guest: no guests can be recorded in {}: it is a symbolic link to {}, and none is followed below /tmp, \
             where anybody could have made it; name the directory itself\n  set LCR_RUNTIME_DIR to a directory of \
             your own\n",
            at.display(),
            to.display()
        )
    };
    let run = ["run", "--name", "web", "--", "true"];
    host.directory = link.clone();
    assert_eq!(host.refused(125, &run), expected(&link, &real));
    let dangling = place.0.join("dangling");
    symlink("nowhere", &dangling).unwrap();
    host.directory = dangling.clone();
    assert_eq!(host.refused(125, &run), expected(&dangling, Path::new("nowhere")));
    // So is the directory in it.
    let inner = place.0.join("run");
    fs::DirBuilder::new().mode(0o700).create(&inner).unwrap();
    symlink(&real, inner.join("guests")).unwrap();
    host.directory = inner.clone();
    assert_eq!(host.refused(125, &run), expected(&inner.join("guests"), &real));
}

#[test]
fn a_guest_that_is_not_there() {
    let world = World::new();
    let host = world.host("host");
    let _db = host.run("db", &[""; 0]);
    let disk = world.disk("a");
    let to = world.path("other").display().to_string();
    let cases: [(i32, &[&str]); 5] = [
        (125, &["attach", "web"]),
        (1, &["plug", "web", "--disk", &disk]),
        (1, &["unplug", "web", "--disk", &disk]),
        (125, &["migrate", "web", "--to", &to]),
        (1, &["stop", "web"]),
    ];
    for (code, arguments) in cases {
        let said = host.refused(code, arguments);
        assert!(said.starts_with("lcr-guest: there is no guest web in"), "{said}");
        assert!(said.contains("guests there: db;"), "{said}");
    }
}

#[test]
fn a_guest_without_a_supervisor_cannot_be_asked() {
    let world = World::new();
    let host = world.host("host");
    let disk = world.disk("a");
    let mut web = host.run("web", &["--disk", &disk]);
    web.kill();
    let to = world.path("other").display().to_string();
    let cases: [(i32, &[&str]); 3] = [
        (1, &["plug", "web", "--disk", &disk]),
        (1, &["unplug", "web", "--disk", &disk]),
        (125, &["migrate", "web", "--to", &to]),
    ];
    for (code, arguments) in cases {
        let said = host.refused(code, arguments);
        assert!(said.contains("guest web runs without a supervisor"), "{said}");
        assert!(said.contains("take it up first: lcr-guest attach web"), "{said}");
    }
}

#[test]
fn a_disk_that_the_guest_has_not() {
    let world = World::new();
    let host = world.host("host");
    let (a, b) = (world.disk("a"), world.disk("b"));
    let _web = host.run("web", &["--disk", &a]);
    let said = host.refused(1, &["unplug", "web", "--disk", &b]);
    assert_eq!(said, format!("lcr-guest: guest web has no disk {b}\n  it has: {a}\n"));
}

#[test]
fn a_record_that_is_damaged() {
    let world = World::new();
    let host = world.host("host");
    host.done(&["run", "--name", "web", "--", "true"]);
    let record = host.directory.join("guests").join("web.json");
    fs::write(&record, b"{").unwrap();
    for (code, arguments) in [(125, &["attach", "web"][..]), (125, &["run", "--name", "web", "--", "true"])] {
        let said = host.refused(code, arguments);
        assert!(said.contains(&format!("{} is no guest's record", record.display())), "{said}");
    }
    // Others are shown, and started.
    let script = "echo started; exec cat";
    let db = Program::start(host.command(&["run", "--name", "db", "--", "sh", "-c", script]));
    assert_eq!(db.line(), "started");
    let output = host.output(&["list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("db"));
}

#[test]
fn usage_is_the_shells_business_but_for_supervisors() {
    let world = World::new();
    let host = world.host("host");
    host.refused(2, &["stop"]);
    host.refused(2, &["plug", "web"]);
    host.refused(2, &["no-such-command"]);
    host.refused(125, &["run", "--name", "web", "--no-such-option", "--", "true"]);
    assert!(host.output(&["--help"]).status.success());
    assert!(host.output(&["run", "--help"]).status.success());
}

#[test]
fn the_hidden_command_is_for_supervisors() {
    let world = World::new();
    let said = world.host("host").refused(1, &["__within", "0", "{}", "--", "true"]);
    assert!(said.contains("this command is for a supervisor: use lcr-guest run"), "{said}");
}

/// Whoever comes to a supervisor's socket is asked who that is, should the directory and
/// the socket let somebody pass.
#[test]
fn another_user_is_not_answered() {
    use std::os::unix::process::CommandExt as _;
    if !rustix::process::geteuid().is_root() {
        let line = "SKIPPED another_user_is_not_answered: only root can be another user\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        return;
    }
    let world = World::new();
    // Where another user can look, and run a program.
    let place = std::env::temp_dir().join(format!("lcr-guest-others-{}", std::process::id()));
    let host = Host { directory: place.join("host"), libraries: None };
    let _web = host.run("web", &[""; 0]);
    let program = place.join("lcr-guest");
    // By another process: a child of this one that has the file open for writing would keep
    // it from being executed.
    lcr_tests::run(std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_lcr-guest")).arg(&program));
    let guests = host.directory.join("guests");
    for (path, mode) in [
        (place.clone(), 0o755),
        (host.directory.clone(), 0o755),
        (guests.clone(), 0o755),
        (guests.join("web.json"), 0o644),
        (guests.join("web.sock"), 0o666),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let ask = |uid: u32| {
        let mut command = std::process::Command::new(&program);
        command.args(["unplug", "web", "--disk", &world.disk("a")]).current_dir("/").uid(uid).gid(uid);
        let output = command.env("LCR_RUNTIME_DIR", &host.directory).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let (said, own) = (ask(65534), ask(0));
    fs::remove_dir_all(&place).unwrap();
    assert_eq!(said, "lcr-guest: only the user that runs this guest may ask, and root\n");
    assert!(own.starts_with("lcr-guest: guest web has no disk"), "{own}");
}
