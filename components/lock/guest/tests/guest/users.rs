//! A directory of leases that several users share.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::world::{Host, Program};

const OTHER: u32 = 65_534;
const GROUP: u32 = 54_321;

/// Where another user can look, and run `lcr-guest`. Removed when dropped.
struct Place {
    path: PathBuf,
    program: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Place {
    /// None where this is no root, which is said.
    fn new(test: &str) -> Option<Place> {
        if !rustix::process::geteuid().is_root() {
            let line = format!("SKIPPED {test}: only root can be another user\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            return None;
        }
        let path = std::env::temp_dir().join(format!("lcr-guest-{test}-{}", std::process::id()));
        let place = Place { program: path.join("lcr-guest"), path };
        for (directory, mode) in [(place.path.clone(), 0o755), (place.path.join("others"), 0o700)] {
            fs::create_dir(&directory).unwrap();
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        }
        chown(place.path.join("others"), Some(OTHER), Some(OTHER)).unwrap();
        lcr_tests::run(Command::new("cp").arg(env!("CARGO_BIN_EXE_lcr-guest")).arg(&place.program));
        fs::write(place.disk(), b"disk").unwrap();
        Some(place)
    }

    fn disk(&self) -> PathBuf {
        self.path.join("disk")
    }

    /// A directory of leases with this mode, of this group.
    fn leases(&self, mode: u32, group: u32) -> PathBuf {
        let leases = self.path.join(format!("leases-{mode:o}"));
        fs::create_dir(&leases).unwrap();
        chown(&leases, None, Some(group)).unwrap();
        fs::set_permissions(&leases, fs::Permissions::from_mode(mode)).unwrap();
        leases
    }

    fn arguments(&self, name: &str, leases: &Path, command: &str) -> [String; 9] {
        let (directory, disk) =
            (format!("directory={}", leases.display()), self.disk().display().to_string());
        ["run", "--name", name, "--parameter", &directory, "--disk", &disk, "--", command].map(str::to_owned)
    }

    /// Starts a guest of root's, whose files are for root alone unless it says otherwise.
    fn run(&self, name: &str, leases: &Path) -> Program {
        let host = Host { directory: self.path.join("own"), libraries: None };
        let mut command = Command::new("sh");
        command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(&self.program);
        command.args(self.arguments(name, leases, "cat"));
        command.env("LCR_RUNTIME_DIR", &host.directory).env_remove("LCR_PATH");
        let program = Program::start(command);
        host.until(name, "running");
        program
    }

    /// What another user gets who wants the disk, and is in this group.
    fn other(&self, leases: &Path, group: u32) -> Output {
        let mut command = Command::new(&self.program);
        command.args(self.arguments("rival", leases, "true")).current_dir("/").uid(OTHER).gid(group);
        command.env("LCR_RUNTIME_DIR", self.path.join("others")).env_remove("LCR_PATH").output().unwrap()
    }

    #[track_caller]
    fn other_is_refused(&self, leases: &Path, group: u32, expected: &str) {
        let output = self.other(leases, group);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
    }

    #[track_caller]
    fn other_is_done(&self, leases: &Path, group: u32) {
        let output = self.other(leases, group);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The only lease of a directory.
#[track_caller]
fn lease(leases: &Path) -> PathBuf {
    let all: Vec<_> = fs::read_dir(leases).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [lease] = &all[..] else { panic!("{all:?}") };
    lease.clone()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_directory_that_everybody_can_write_has_leases_that_everybody_can_lock() {
    let Some(place) = Place::new("everybody") else { return };
    let leases = place.leases(0o1777, 0);
    let mut web = place.run("web", &leases);
    assert_eq!(mode(&lease(&leases)), 0o666);
    place.other_is_refused(&leases, OTHER, "held by guest web (uuid ");
    web.end();
    place.other_is_done(&leases, OTHER);
    let mut web = place.run("web", &leases);
    place.other_is_refused(&leases, OTHER, "held by guest web (uuid ");
    web.end();
    // One that another user has made is everybody's, too.
    fs::remove_file(lease(&leases)).unwrap();
    place.other_is_done(&leases, OTHER);
    let made = fs::metadata(lease(&leases)).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o7777), (OTHER, 0o666));
    place.run("web", &leases).end();
}

#[test]
fn a_directory_of_a_group_has_leases_of_the_group() {
    let Some(place) = Place::new("group") else { return };
    for of in [0o2770, 0o770] {
        let leases = place.leases(of, GROUP);
        let mut web = place.run("web", &leases);
        let made = fs::metadata(lease(&leases)).unwrap();
        assert_eq!((made.gid(), made.mode() & 0o7777), (GROUP, 0o660), "{of:o}");
        place.other_is_refused(&leases, GROUP, "held by guest web (uuid ");
        place.other_is_refused(&leases, OTHER, "cannot be opened: Permission denied");
        web.end();
        place.other_is_done(&leases, GROUP);
    }
}

#[test]
fn a_directory_of_one_user_has_leases_of_that_user() {
    let Some(place) = Place::new("alone") else { return };
    let leases = place.leases(0o755, 0);
    let mut web = place.run("web", &leases);
    let lease = lease(&leases);
    assert_eq!(mode(&lease), 0o600);
    let hint = "the directory of leases must be writable for whoever runs guests";
    place.other_is_refused(&leases, OTHER, hint);
    // Who can read it, and not lock it, is told who has; or what is missing.
    fs::set_permissions(&lease, fs::Permissions::from_mode(0o644)).unwrap();
    place.other_is_refused(&leases, OTHER, "held by guest web (uuid ");
    web.end();
    place.other_is_refused(&leases, OTHER, hint);
    place.run("web", &leases).end();
    assert_eq!(mode(&lease), 0o600, "it is corrected by who may");
}

/// What root asks for is done as the user whose guest it is.
#[test]
fn root_lists_and_stops_the_guests_of_others() {
    let Some(place) = Place::new("root") else { return };
    let theirs = Host { directory: place.path.join("others"), libraries: None };
    let start = || {
        let mut command = Command::new(&place.program);
        command.args(["run", "--name", "web", "--", "cat"]).current_dir("/").uid(OTHER).gid(OTHER);
        command.env("LCR_RUNTIME_DIR", &theirs.directory).env_remove("LCR_PATH");
        Program::start(command)
    };
    let mut web = start();
    let user = OTHER.to_string();
    let listed = |options: &[&str]| {
        let mut command = Command::new(&place.program);
        command.args(["list", "--json"]).args(options).env("LCR_RUNTIME_DIR", &theirs.directory);
        let output = command.output().unwrap();
        let list = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default();
        (output.status.code(), list, String::from_utf8(output.stderr).unwrap())
    };
    let guest = crate::world::soon("it is listed", || {
        let (_, list, _) = listed(&["--user", &user]);
        list.as_array()?.iter().find(|guest| guest["state"] == "running").cloned()
    });
    assert_eq!((&guest["name"], &guest["user"]), (&"web".into(), &OTHER.into()));
    assert_eq!(listed(&["--all-users"]).1.as_array().map(Vec::len), Some(1));
    assert_eq!(listed(&["--user", "0"]).1.as_array().map(Vec::len), Some(0));
    let (code, _, said) = listed(&[]);
    assert!(code == Some(1) && said.contains("take --user 65534"), "{said}");

    let disk = place.disk().display().to_string();
    let said = theirs.done(&["plug", "web", "--user", &user, "--disk", &format!("{disk},readonly")]);
    assert_eq!(said, "");
    assert_eq!(listed(&["--user", &user]).1[0]["disks"][0]["path"], disk);
    theirs.done(&["unplug", "web", &format!("--user={user}"), "--disk", &disk]);
    let said = theirs.refused(1, &["stop", "db", "--user", &user]);
    assert!(said.contains("user 65534 has no guest db"), "{said}");
    theirs.done(&["stop", "web", "--user", &user]);
    assert_eq!(web.wait().code(), Some(128 + 15));
    assert_eq!(listed(&["--user", &user]).1.as_array().map(Vec::len), Some(0));

    let mut command = Command::new(&place.program);
    command.args(["list", "--all-users"]).uid(OTHER).gid(OTHER).current_dir("/");
    let output = command.env("LCR_RUNTIME_DIR", &theirs.directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("only root may ask for other users' guests"), "{said}");
}

/// Somebody has put a link in a lease's place.
#[test]
fn a_link_is_no_lease() {
    let world = crate::world::World::new();
    let host = world.host("host");
    let (disk, victim, leases) = (world.disk("a"), world.disk("victim"), world.path("leases"));
    fs::create_dir(&leases).unwrap();
    fs::set_permissions(&leases, fs::Permissions::from_mode(0o1777)).unwrap();
    let parameter = format!("directory={}", leases.display());
    let run = ["run", "--name", "web", "--parameter", &parameter, "--disk", &disk, "--", "true"];
    host.done(&run);
    let lease = lease(&leases);
    let before = mode(Path::new(&victim));
    fs::remove_file(&lease).unwrap();
    fs::hard_link(&victim, &lease).unwrap();
    let said = host.refused(125, &run);
    assert!(said.contains("has another name, too, and so is no lease"), "{said}");
    fs::remove_file(&lease).unwrap();
    std::os::unix::fs::symlink(&victim, &lease).unwrap();
    let said = host.refused(125, &run);
    assert!(said.contains("cannot be opened: Too many levels of symbolic links"), "{said}");
    assert_eq!((fs::read(&victim).unwrap(), mode(Path::new(&victim))), (b"disk".to_vec(), before));
}
