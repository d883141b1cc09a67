//! What `lock.file` does besides what every driver does.

use std::fs;

use lcr_core::{Context, Factory};
use lcr_lock::life::{Plugin, Policy};
use lcr_lock::{Driver as _, Grant, Kind, Lease, Mode, Resource};
use lcr_lock_tests::programs::{Rival, Starter};
use lcr_lock_tests::{Locks, Subject, World, acquire, new_guest, soon, start};

const FILE: Subject = Subject {
    interface: "lock.file",
    library: None,
    directory: false,
    locks: Locks::Resources,
    elsewhere: None,
};
const RIVAL: &str = env!("CARGO_BIN_EXE_lock-rival");
const STARTER: &str = env!("CARGO_BIN_EXE_lock-starter");

fn lease(world: &World, name: &str, offset: u64) -> Resource {
    Resource::Lease(Lease {
        name: name.into(),
        lockspace: "space".into(),
        path: world.path("leases.bin"),
        offset,
        mode: Mode::Exclusive,
    })
}

/// The manager is killed: the guest runs on and stays locked, what was plugged later
/// too, and another manager adopts it.
#[test]
fn a_killed_manager_leaves_the_guest_locked() {
    let world = World::new(FILE);
    let web = new_guest("web");
    let (disk, plugged) = (world.disk("a"), world.disk("b"));
    let mut manager = Starter::new(STARTER, "lock.file", &web, &disk, &plugged);
    manager.kill();
    world.assert_held(&web, &disk);
    world.assert_held(&web, &plugged);
    let error = acquire(&world.host(), &new_guest("rival"), std::slice::from_ref(&plugged)).unwrap_err();
    let holder = error.holder.unwrap();
    assert_eq!((holder.name.as_deref(), holder.pid), (Some("web"), Some(manager.pid)));

    let host = world.host();
    let attached = host.attach(&web, Grant::of_state(&manager.state)).unwrap();
    let guest = attached.child(Policy::default()).unwrap();
    assert_eq!(guest.pid(), manager.pid);
    guest.unplug(&plugged).unwrap();
    world.assert_free(&web, &plugged);
    guest.unplug(&disk).unwrap();
    world.assert_free(&web, &disk);
    guest.plug(&disk).unwrap();
    drop((guest, host));
    world.assert_held(&web, &disk);
    drop(manager); // and with it the guest's input, which is all that it waits for
    world.assert_free_soon(&web, &disk);
}

/// A keeper ends with the guest, or with the last lock that it keeps.
#[test]
fn keepers_do_not_outlive_what_they_keep() {
    let world = World::new(FILE);
    let host = world.host();
    let keepers = |pid: u32| {
        let entries = fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|other| *other != pid)
            .filter(|other| {
                fs::read_to_string(format!("/proc/{other}/comm"))
                    .is_ok_and(|name| name == "lcr-lock-keeper\n")
            })
            .filter(|other| {
                let open = fs::read_dir(format!("/proc/{other}/fd")).into_iter().flatten();
                let mut links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
                links.any(|link| link.starts_with(world.path("a").parent().unwrap()))
            })
            .count()
    };
    let (guest, mut process) = start(&host, &new_guest("web"), &[world.disk("a")]).unwrap();
    let pid = process.id();
    assert_eq!(keepers(pid), 0, "what is inherited needs no keeper");
    for _ in 0..3 {
        guest.plug(&world.disk("b")).unwrap();
        assert_eq!(keepers(pid), 1);
        guest.unplug(&world.disk("b")).unwrap();
        soon("the keeper has ended", || keepers(pid) == 0);
    }
    guest.plug(&world.disk("b")).unwrap();
    assert_eq!(keepers(pid), 1);
    process.kill();
    soon("the keeper has ended", || keepers(pid) == 0);
    world.assert_free_soon(&new_guest("web"), &world.disk("b"));
}

#[test]
fn a_lock_of_the_older_kind_is_refused_with_its_process() {
    let world = World::new(FILE);
    let disk = world.disk("a");
    let other = Rival::holding(RIVAL, disk.path());
    let error = acquire(&world.host(), &new_guest("web"), std::slice::from_ref(&disk)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "lock.file: cannot acquire {disk}: held by a process that is no guest of this driver (pid {}, running \
             lock-rival); stop that guest first, or give both the disk shared or readonly",
            other.id()
        )
    );
    let holders = world.host().driver().holders(&disk).unwrap();
    assert_eq!(holders.iter().map(|holder| holder.pid).collect::<Vec<_>>(), [Some(other.id())]);
}

#[test]
fn leases_lie_at_their_offsets() {
    let world = World::new(FILE);
    let host = world.host();
    let first = acquire(&host, &new_guest("first"), &[lease(&world, "one", 0)]).unwrap();
    let second = acquire(&host, &new_guest("second"), &[lease(&world, "two", 1 << 20)]).unwrap();
    let error = acquire(&host, &new_guest("third"), &[lease(&world, "two", 1 << 20)]).unwrap_err();
    assert_eq!(error.holder.unwrap().name.as_deref(), Some("second"));
    drop((first, second));
    let far = acquire(&host, &new_guest("far"), &[lease(&world, "far", u64::MAX)]).unwrap_err();
    assert_eq!(far.kind, Kind::Invalid, "{far}");
}

#[test]
fn one_disk_under_two_names_is_one_disk() {
    let world = World::new(FILE);
    let host = world.host();
    let link = world.path("a").with_file_name("link");
    std::os::unix::fs::symlink(world.path("a"), &link).unwrap();
    let twice = [world.disk("a"), Resource::disk(&link, Mode::Exclusive)];
    let error = acquire(&host, &new_guest("web"), &twice).unwrap_err();
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    assert!(error.to_string().contains(&format!("it is the same as {}", twice[0])), "{error}");
    for subject in [FILE, Subject { directory: true, ..FILE }] {
        let world = World::new(subject);
        let link = world.path("a").with_file_name("link");
        std::os::unix::fs::symlink(world.path("a"), &link).unwrap();
        let (_guest, _process) = start(&world.host(), &new_guest("web"), &[world.disk("a")]).unwrap();
        let through = Resource::disk(link, Mode::Exclusive);
        let error = acquire(&world.host(), &new_guest("rival"), &[through]).unwrap_err();
        assert_eq!(error.kind, Kind::Held, "{error}");
    }
}

/// In a directory of leases the disk itself is only read, and the lease names its
/// holder, whoever reads it.
#[test]
fn a_lease_names_its_holder_to_other_hosts() {
    let world = World::new(Subject { directory: true, ..FILE });
    let host = world.host();
    let (guest, process) = start(&host, &new_guest("web"), &[world.disk("a")]).unwrap();
    let leases: Vec<_> = fs::read_dir(world.leases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [lease] = &leases[..] else { panic!("{leases:?}") };
    let text = fs::read_to_string(lease).unwrap();
    assert!(text.contains(" name=web ") && text.contains(&format!(" pid={} ", process.id())), "{text}");
    drop(guest.suspend().unwrap());
    assert_eq!(fs::read_to_string(lease).unwrap(), "");
}

#[test]
fn what_cannot_be_locked_says_why() {
    let world = World::new(FILE);
    let host = world.host();
    let refused = |path: std::path::PathBuf| {
        let disk = Resource::disk(path, Mode::ReadOnly);
        let error = acquire(&host, &new_guest("web"), std::slice::from_ref(&disk)).unwrap_err();
        (error.kind, error.to_string())
    };
    let (kind, text) = refused(world.path("a").with_file_name("absent"));
    assert_eq!(kind, Kind::NotFound);
    assert!(text.ends_with("; create it, or name another one"), "{text}");
    let (kind, text) = refused("/dev/null".into());
    assert_eq!(kind, Kind::Invalid);
    assert!(text.ends_with("/dev/null is neither a file nor a block device"), "{text}");
    let factory = Factory::builder().without_environment().build();
    let absent = Context::new().with("directory", "/no/such/directory");
    let error = Plugin::load_from(&factory, "lock.file", &absent).unwrap_err().to_string();
    assert!(
        error.contains("the directory of leases, /no/such/directory, is not there: create it"),
        "{error}"
    );
}

/// Else what is misspelt would lock elsewhere than was meant, and say nothing.
#[test]
fn a_parameter_that_no_driver_knows_is_refused() {
    let scratch = lcr_tests::Scratch::new();
    let leases = scratch.path().display().to_string();
    let refused = |interface: &str, cx: &Context| {
        let factory = Factory::builder().without_environment().build();
        Plugin::load_from(&factory, interface, cx).unwrap_err().to_string()
    };
    let both = Context::new().with("directory", leases.as_str()).with("direktory", leases.as_str());
    let error = refused("lock.file", &both);
    assert!(error.contains("there is no parameter `direktory`: this driver takes `directory`"), "{error}");
    let error = refused("lock.nop", &Context::new().with("foo", "bar"));
    assert!(error.contains("there is no parameter `foo`: this driver takes none"), "{error}");
}
