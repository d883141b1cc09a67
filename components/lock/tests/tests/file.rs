//! What `lock.file` does besides what every driver does.

use std::fs;

use lcr_core::{Context, Factory};
use lcr_lock::life::{Plugin, Policy};
use lcr_lock::{Driver as _, Grant, Kind, Lease, Mode, Resource, Target};
use lcr_lock_tests::programs::{Rival, Starter};
use lcr_lock_tests::{Locks, Process, Subject, World, acquire, new_guest, soon, start};

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

/// Between the source's completion and its cancelling a disk is renamed: what was open is
/// what is taken back, whatever it is called.
#[test]
fn a_disk_that_is_renamed_while_its_guest_moves_comes_back() {
    for with_descriptors in [false, true] {
        let world = World::new(FILE);
        let (source, destination) = (world.host(), world.host());
        let web = new_guest("web");
        let disk = world.disk("a");
        let (guest, _process) = start(&source, &web, std::slice::from_ref(&disk)).unwrap();
        let target = Target { uri: String::new(), with_descriptors };
        let (leaving, grant) = guest.prepare_migrate(&target).unwrap();
        let mut arriving = destination.arrive(&web).unwrap();
        arriving.add(&disk).unwrap();
        let there = Process::new();
        let incoming = arriving.started(there.id()).unwrap();
        let left = leaving.complete().unwrap();
        let renamed = world.path("renamed");
        fs::rename(disk.path(), &renamed).unwrap();
        // Another process would open another file, or none.
        fs::write(disk.path(), b"another").unwrap();
        if with_descriptors {
            let failed = incoming.complete(grant).unwrap_err();
            assert_eq!(failed.error.kind, Kind::Invalid, "{failed}");
            assert!(failed.to_string().contains("leads to another file by now"), "{failed}");
            failed.guest.cancel();
        } else {
            incoming.cancel();
        }
        let guest = left.cancel().unwrap();
        let renamed = Resource::disk(renamed, Mode::Exclusive);
        world.assert_held(&web, &renamed);
        world.assert_free(&web, &disk);
        guest.state().unwrap();
        guest.unplug(&disk).unwrap();
        world.assert_free(&web, &renamed);
    }
}

/// A process that goes on as it is has its files, whatever they are called.
#[test]
fn a_disk_that_is_renamed_goes_along_with_its_process() {
    for directory in [false, true] {
        let world = World::new(Subject { directory, ..FILE });
        let (source, destination) = (world.host(), world.host());
        let web = new_guest("web");
        let (disk, plugged) = (world.disk("a"), world.disk("b"));
        let (guest, process) = start(&source, &web, std::slice::from_ref(&disk)).unwrap();
        guest.plug(&plugged).unwrap();
        let target = Target { uri: String::new(), with_descriptors: true };
        let (leaving, grant) = guest.prepare_migrate(&target).unwrap();
        let mut arriving = destination.arrive(&web).unwrap();
        arriving.add(&disk).unwrap();
        arriving.add(&plugged).unwrap();
        let incoming = arriving.started(process.id()).unwrap();
        let left = leaving.complete().unwrap();
        let renamed = world.path("renamed");
        fs::rename(disk.path(), &renamed).unwrap();
        let guest = incoming.complete(grant).unwrap();
        left.forget();
        drop(source);
        guest.state().unwrap();
        world.assert_held(&web, &plugged);
        if !directory {
            world.assert_held(&web, &Resource::disk(renamed, Mode::Exclusive));
        }
        // The keeper that was there is the one that there is.
        guest.unplug(&plugged).unwrap();
        world.assert_free(&web, &plugged);
        soon("the keeper has ended", || keepers_at(&world, process.id()) == 0);
        guest.unplug(&disk).unwrap();
    }
}

/// What was taken over for a guest that cannot be started is the source's still: it was
/// never free.
#[test]
fn a_guest_that_cannot_be_started_there_leaves_the_locks_here() {
    let world = World::new(FILE);
    let (source, destination) = (world.host(), world.host());
    let web = new_guest("web");
    let disk = world.disk("a");
    let (guest, _process) = start(&source, &web, std::slice::from_ref(&disk)).unwrap();
    let target = Target { uri: String::new(), with_descriptors: true };
    let (leaving, grant) = guest.prepare_migrate(&target).unwrap();
    let mut arriving = destination.arrive(&web).unwrap();
    arriving.add(&disk).unwrap();
    let left = leaving.complete().unwrap();
    let acquired = arriving.complete(grant).unwrap();
    acquired.start(std::process::Command::new("/no/such/program")).unwrap_err();
    world.assert_held(&web, &disk);
    left.cancel().unwrap();
    world.assert_held(&web, &disk);
}

/// Who has kept the lock for a guest is killed, and its manager ends: the next one says so,
/// and not that all is well.
#[test]
fn a_lock_that_is_lost_is_said_to_be() {
    let world = World::new(FILE);
    let host = world.host();
    let web = new_guest("web");
    let (a, b) = (world.disk("a"), world.disk("b"));
    let acquired = acquire(&host, &web, &[a.clone(), b.clone()]).unwrap().here();
    let process = Process::new();
    let guest = acquired.started(process.id()).unwrap();
    let state = guest.state().unwrap();
    let keeper = keeper_pids(&world, process.id());
    let [keeper] = &keeper[..] else { panic!("{keeper:?}") };
    let keeper = rustix::process::Pid::from_raw(keeper.cast_signed()).unwrap();
    rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
    // Its manager has it still.
    guest.state().unwrap();
    drop((guest, host));
    world.assert_free_soon(&web, &a);

    let host = world.host();
    let known = web.clone().with_pid(process.id());
    let guest = host.attach(&known, Grant::of_state(state)).unwrap().child(Policy::default()).unwrap();
    let error = guest.state().unwrap_err();
    assert_eq!(error.kind, Kind::Lost, "{error}");
    let expected = format!(
        "lock.file: cannot inquire {a}: process {} of guest web has no lock of it any more",
        process.id()
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
    // Where the guest stands still, what is free can be taken again: all, or nothing.
    let rival = acquire(&world.host(), &new_guest("rival"), std::slice::from_ref(&b)).unwrap();
    let refused = host.driver().acquire(guest.owner(), &lcr_lock::Request::default()).unwrap_err();
    assert_eq!(refused.kind, Kind::Held, "{refused}");
    assert_eq!(guest.state().unwrap_err().kind, Kind::Lost);
    world.assert_free(&web, &a);
    drop(rival);
    host.driver().acquire(guest.owner(), &lcr_lock::Request::default()).unwrap();
    guest.state().unwrap();
    drop((guest, host));
    world.assert_held(&web, &a);
    world.assert_held(&web, &b);
}

/// A keeper of several locks ends with the last of them, whoever adopts the guest.
#[test]
fn unplugging_one_of_two_disks_leaves_their_keeper() {
    let world = World::new(FILE);
    let host = world.host();
    let web = new_guest("web");
    let (a, b) = (world.disk("a"), world.disk("b"));
    let acquired = acquire(&host, &web, &[a.clone(), b.clone()]).unwrap().here();
    let process = Process::new();
    let state = acquired.started(process.id()).unwrap().leave();
    drop(host);
    let host = world.host();
    let known = web.clone().with_pid(process.id());
    let guest = host.attach(&known, Grant::of_state(state)).unwrap().child(Policy::default()).unwrap();
    guest.unplug(&a).unwrap();
    world.assert_free(&web, &a);
    drop((guest, host));
    world.assert_held(&web, &b);
}

/// The keepers that have a disk of this world open, but for the process itself.
fn keeper_pids(world: &World, but: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|other| *other != but)
        .filter(|other| {
            fs::read_to_string(format!("/proc/{other}/comm")).is_ok_and(|name| name == "lcr-lock-keeper\n")
        })
        .filter(|other| {
            let open = fs::read_dir(format!("/proc/{other}/fd")).into_iter().flatten();
            let mut links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            links.any(|link| link.starts_with(world.path("a").parent().unwrap()))
        })
        .collect()
}

fn keepers_at(world: &World, but: u32) -> usize {
    keeper_pids(world, but).len()
}

/// A keeper ends with the guest, or with the last lock that it keeps.
#[test]
fn keepers_do_not_outlive_what_they_keep() {
    let world = World::new(FILE);
    let host = world.host();
    let keepers = |pid: u32| keepers_at(&world, pid);
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
