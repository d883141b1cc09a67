//! The cases. Each is given a fresh [`World`], and panics where a driver breaks its
//! word.

use std::collections::HashSet;
use std::slice::from_ref;

use lcr_lock::life::{Policy, Shutdown};
use lcr_lock::{Driver as _, Grant, Guest, Kind, Mode, Opening, Request, Resource, Target};

use crate::elsewhere::Asked;
use crate::{Locks, Process, World, acquire, new_guest, start, start_with};

fn target(with_descriptors: bool) -> Target {
    Target { uri: "lcr://b".into(), with_descriptors }
}

/// Whether the driver moves guests; if not, it has said so.
fn migrates(world: &World) -> bool {
    let host = world.host();
    if host.about().features.migrate {
        return true;
    }
    let (guest, _process) = start(&host, &new_guest("web"), &[]).unwrap();
    let failed = guest.prepare_migrate(&target(false)).unwrap_err();
    assert_eq!(failed.error.kind, Kind::Unsupported, "{failed}");
    assert_eq!(host.arrive(&new_guest("web")).unwrap_err().kind, Kind::Unsupported);
    false
}

/// The first design's plugin load and unload.
pub fn plugin_load_and_unload(world: &World) {
    let host = world.host();
    let about = host.about();
    assert_eq!(about.interface, world.subject().interface);
    assert!(about.version > 0 && !about.summary.is_empty(), "{about:?}");
    let owners: HashSet<_> =
        (0..3).map(|_| host.driver().open(&new_guest("web"), Opening::New).unwrap()).collect();
    assert_eq!(owners.len(), 3, "an owner's number was given out twice");
    for owner in owners {
        host.driver().close(owner);
        host.driver().close(owner);
    }
    assert!(host.driver().owners().is_empty());
    host.plugin.clone().unload();
}

/// New, parameters, resources, acquire, run.
pub fn guest_start(world: &World) {
    let host = world.host();
    let web = new_guest("web");
    let (guest, process) = start(&host, &web, &[world.disk("a"), world.disk("b")]).unwrap();
    assert_eq!((guest.pid(), guest.child().unwrap()), (process.id(), process.id()));
    world.assert_held(&web, &world.disk("a"));
    world.assert_held(&web, &world.disk("b"));
    let owned = host.driver().owners();
    assert_eq!(owned.len(), 1);
    assert_eq!((owned[0].owner, owned[0].guest.pid), (guest.owner(), Some(process.id())));
    if world.subject().locks == Locks::Resources {
        let error = acquire(&world.host(), &new_guest("rival"), &[world.disk("a")]).unwrap_err();
        let holder = error.holder.as_ref().unwrap_or_else(|| panic!("no holder: {error}"));
        assert_eq!((holder.name.as_deref(), holder.uuid), (Some("web"), Some(web.uuid)), "{error}");
        assert_eq!(holder.pid, Some(process.id()), "{error}");
        let holders = world.host().driver().holders(&world.disk("b")).unwrap();
        assert_eq!(holders, [(**holder).clone()]);
        let free = world.disk("free");
        assert_eq!(world.host().driver().holders(&free).unwrap(), []);
    }
}

/// All or nothing, and nothing runs.
pub fn acquire_refused_aborts_the_start(world: &World) {
    if world.subject().locks == Locks::Nothing {
        return drop(start(&world.host(), &new_guest("web"), &[world.disk("a")]).unwrap());
    }
    let host = world.host();
    let web = new_guest("web");
    let (_guest, _process) = start(&host, &web, &[world.disk("b")]).unwrap();
    let second = match world.subject().locks {
        Locks::Guests => Guest { pid: None, ..web.clone() },
        _ => new_guest("second"),
    };
    let disks = [world.disk("a"), world.disk("b"), world.disk("c")];
    let error = acquire(&host, &second, &disks).unwrap_err();
    assert_eq!(error.kind, Kind::Held, "{error}");
    assert_eq!(host.driver().owners().len(), 1);
    if world.subject().locks == Locks::Resources {
        assert_eq!(error.resource.as_deref(), Some(disks[1].to_string().as_str()));
        world.assert_free(&second, &disks[0]);
        world.assert_free(&second, &disks[2]);
    }
    world.assert_held(&web, &disks[1]);
}

/// The command is not there: the locks are given up.
pub fn a_guest_that_cannot_be_started_holds_nothing(world: &World) {
    let host = world.host();
    let web = new_guest("web");
    let command = std::process::Command::new("/no/such/program");
    let error = if let Some(starter) = world.starter() {
        starter.start(&Asked::of(&web, &[world.disk("a")]), &command).unwrap_err()
    } else {
        let acquired = acquire(&host, &web, &[world.disk("a")]).unwrap();
        world.assert_held(&web, &world.disk("a"));
        acquired.here().start(command).unwrap_err()
    };
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    world.assert_free(&web, &world.disk("a"));
    drop(acquire(&host, &web, &[world.disk("a")]).unwrap());
    world.assert_free(&web, &world.disk("a"));
    assert!(host.driver().owners().is_empty());
}

/// The locks are free before the process has ended.
pub fn shutdown(world: &World) {
    let host = world.host();
    let web = new_guest("web");
    let (guest, mut process) = start(&host, &web, &[world.disk("a")]).unwrap();
    let ended = guest.shutdown(Policy::default());
    assert!(matches!(ended, Shutdown::Released(_)), "{ended:?}");
    world.assert_free(&web, &world.disk("a"));
    assert_eq!(process.0.try_wait().unwrap(), None, "a shutdown that works kills nobody");
    assert!(host.driver().owners().is_empty());
}

/// A guest that stands still has no locks, and gets them again if they are free.
pub fn suspend_and_resume(world: &World) {
    let host = world.host();
    let web = new_guest("web");
    let (guest, process) = start(&host, &web, &[world.disk("a")]).unwrap();
    let suspended = guest.suspend().unwrap();
    world.assert_free(&web, &world.disk("a"));
    let guest = suspended.resume().unwrap();
    world.assert_held(&web, &world.disk("a"));

    let mut suspended = guest.suspend().unwrap();
    if world.subject().locks == Locks::Resources {
        let rival = acquire(&world.host(), &new_guest("rival"), &[world.disk("a")]).unwrap();
        let failed = suspended.resume().unwrap_err();
        assert_eq!(failed.error.kind, Kind::Held, "{failed}");
        drop(rival);
        suspended = failed.guest;
    }
    let guest = suspended.resume().unwrap();
    world.assert_held(&web, &world.disk("a"));
    drop((guest, host));
    world.assert_held(&web, &world.disk("a"));
    drop(process);
    world.assert_free_soon(&web, &world.disk("a"));
}

/// Attach, get child: by what was written down, and without that.
pub fn manager_restart(world: &World) {
    let web = new_guest("web");
    let (a, b) = (world.disk("a"), world.disk("b"));
    let host = world.host();
    let (guest, mut process) = start(&host, &web, &[a.clone(), b.clone()]).unwrap();
    let state = guest.leave();
    assert!(!state.contains('\n'), "a state is one line: {state:?}");
    drop(host);
    world.assert_held(&web, &a);

    let host = world.host();
    let attached = host.attach(&web, Grant::of_state(&state)).unwrap();
    let guest = attached.child(Policy::default()).unwrap();
    assert_eq!(guest.pid(), process.id());
    world.assert_held(&web, &a);
    if host.about().features.hot_plug {
        guest.unplug(&a).unwrap();
        world.assert_free(&web, &a);
        world.assert_held(&web, &b);
        guest.plug(&a).unwrap();
        world.assert_held(&web, &a);
    }
    drop((guest, host));
    world.assert_held(&web, &b);

    // The manager knows the process, and nothing else.
    let host = world.host();
    let known = web.clone().with_pid(process.id());
    let guest = host.attach(&known, Grant::default()).unwrap().child(Policy::default()).unwrap();
    world.assert_held(&web, &b);
    if world.subject().locks != Locks::Nothing {
        let ended = guest.shutdown(Policy::default());
        assert!(matches!(ended, Shutdown::Released(_)), "{ended:?}");
        world.assert_free(&web, &a);
        world.assert_free(&web, &b);
    }
    process.kill();
}

/// The guest has ended meanwhile: an error, and by default nobody is killed.
pub fn attach_finds_no_child(world: &World) {
    let host = world.host();
    let web = new_guest("web");
    let (guest, mut process) = start(&host, &web, &[world.disk("a")]).unwrap();
    let state = guest.leave();
    process.kill();
    let attached = host.attach(&web, Grant::of_state(&state)).unwrap();
    let none = attached.child(Policy::default()).unwrap_err();
    assert_eq!((none.error.kind, none.killed), (Kind::NotFound, None), "{none}");
    assert!(none.to_string().ends_with("nothing was killed"), "{none}");
    world.assert_free_soon(&web, &world.disk("a"));
    // Nobody ever said that it ran.
    let attached = host.attach(&new_guest("unknown"), Grant::default()).unwrap();
    let none = attached.child(Policy::default()).unwrap_err();
    assert_eq!(none.error.kind, Kind::NotFound, "{none}");
}

/// However it ends, with nobody calling, and with its manager alive or not.
pub fn a_lock_dies_with_the_guest(world: &World) {
    let host = world.host();
    let web = new_guest("web");
    let disk = world.disk("a");
    let (guest, mut process) = start(&host, &web, from_ref(&disk)).unwrap();
    world.assert_held(&web, &disk);
    process.kill();
    world.assert_free_soon(&web, &disk);
    assert!(guest.child().is_err());
    drop(guest);

    let (guest, mut process) = start(&host, &web, from_ref(&disk)).unwrap();
    drop((guest, host));
    world.assert_held(&web, &disk);
    process.kill();
    // At once, but for what other tests fork: that has all of ours until it executes.
    world.assert_free_soon(&web, &disk);
}

/// A plugged disk is locked as long as the guest lives, whatever becomes of its manager.
pub fn disk_hot_plug_and_unplug(world: &World) {
    let host = world.host();
    let web = new_guest("web");
    let (a, b, c) = (world.disk("a"), world.disk("b"), world.disk("c"));
    let (guest, mut process) = start(&host, &web, from_ref(&a)).unwrap();
    if !host.about().features.hot_plug {
        let error = guest.plug(&b).unwrap_err();
        assert_eq!(error.kind, Kind::Unsupported, "{error}");
        let warning = guest.unplug(&a).unwrap_err();
        assert_eq!(warning.error.kind, Kind::Unsupported, "{warning}");
        world.assert_held(&web, &a);
        return;
    }
    guest.plug(&b).unwrap();
    guest.plug(&c).unwrap();
    world.assert_held(&web, &b);
    let twice = guest.plug(&b).unwrap_err();
    assert_eq!(twice.kind, Kind::Invalid, "{twice}");
    guest.unplug(&a).unwrap();
    guest.unplug(&b).unwrap();
    world.assert_free(&web, &a);
    world.assert_free(&web, &b);
    world.assert_held(&web, &c);
    if world.subject().locks == Locks::Resources {
        let rival = acquire(&world.host(), &new_guest("rival"), from_ref(&a)).unwrap();
        let refused = guest.plug(&a).unwrap_err();
        assert_eq!(refused.kind, Kind::Held, "{refused}");
        drop(rival);
        guest.plug(&a).unwrap();
        world.assert_held(&web, &a);
    }
    // What is not there is given up already.
    guest.unplug(&b).unwrap();
    drop((guest, host));
    world.assert_held(&web, &c);
    process.kill();
    world.assert_free_soon(&web, &c);
    world.assert_free_soon(&web, &a);
}

/// Both sides complete; the state alone crosses.
pub fn migration_completed(world: &World) {
    migrate(world, false);
}

/// Both sides complete; on one machine, the open files cross, and nobody gets in between.
pub fn migration_with_descriptors_completed(world: &World) {
    migrate(world, true);
}

fn migrate(world: &World, with_descriptors: bool) {
    if !migrates(world) {
        return;
    }
    let (source, destination) = (world.host(), world.host());
    let web = new_guest("web");
    let disk = world.disk("a");
    let (guest, mut process) = start(&source, &web, from_ref(&disk)).unwrap();
    let (leaving, grant) = guest.prepare_migrate(&target(with_descriptors)).unwrap();
    world.assert_held(&web, &disk);
    assert!(with_descriptors || grant.descriptors.is_empty());
    // Locks that are no descriptors cannot be passed on, and are given up.
    let features = source.about().features;
    let passed = !grant.descriptors.is_empty();
    if with_descriptors && world.subject().locks == Locks::Resources {
        assert_eq!(passed, features.before_process);
    }

    let mut arriving = destination.arrive(&web).unwrap();
    arriving.add(&disk).unwrap();
    assert_eq!(arriving.supervisor().unwrap(), None);
    let mut there = world.process(&web);
    let incoming = arriving.started(there.id()).unwrap();
    assert_eq!(incoming.pid(), there.id());

    let left = leaving.complete().unwrap();
    if passed {
        world.assert_held(&web, &disk);
    } else {
        world.assert_free(&web, &disk);
    }
    let guest = incoming.complete(grant).unwrap();
    world.assert_held(&web, &disk);
    left.forget();
    process.kill();
    drop(source);
    world.assert_held(&web, &disk);
    assert_eq!(guest.child().unwrap(), there.id());
    drop((guest, destination));
    world.assert_held(&web, &disk);
    there.kill();
    world.assert_free_soon(&web, &disk);
}

/// Both sides cancel before anything was given up.
pub fn migration_cancelled(world: &World) {
    if !migrates(world) {
        return;
    }
    for with_descriptors in [false, true] {
        let (source, destination) = (world.host(), world.host());
        let web = new_guest("web");
        let disk = world.disk("a");
        let (guest, mut process) = start(&source, &web, from_ref(&disk)).unwrap();
        let (leaving, grant) = guest.prepare_migrate(&target(with_descriptors)).unwrap();
        let mut arriving = destination.arrive(&web).unwrap();
        arriving.add(&disk).unwrap();
        let there = world.process(&web);
        arriving.started(there.id()).unwrap().cancel();
        drop((grant, there));
        let guest = leaving.cancel().unwrap();
        world.assert_held(&web, &disk);
        assert!(destination.driver().owners().is_empty());
        // It can try again.
        let (leaving, grant) = guest.prepare_migrate(&target(with_descriptors)).unwrap();
        drop(leaving.cancel().unwrap());
        drop(grant);
        world.assert_held(&web, &disk);
        process.kill();
        // At once, but for what other tests fork.
        world.assert_free_soon(&web, &disk);
    }
}

/// The destination fails when the source has given up already: the source takes back.
pub fn migration_cancelled_after_the_source_has_completed(world: &World) {
    if !migrates(world) {
        return;
    }
    for with_descriptors in [false, true] {
        let (source, destination) = (world.host(), world.host());
        let web = new_guest("web");
        let disk = world.disk("a");
        let (guest, mut process) = start(&source, &web, from_ref(&disk)).unwrap();
        let (leaving, grant) = guest.prepare_migrate(&target(with_descriptors)).unwrap();
        let mut arriving = destination.arrive(&web).unwrap();
        arriving.add(&disk).unwrap();
        let left = leaving.complete().unwrap();
        arriving.cancel();
        drop(grant);
        let guest = left.cancel().unwrap();
        world.assert_held(&web, &disk);
        drop((guest, source));
        world.assert_held(&web, &disk);
        process.kill();
        world.assert_free_soon(&web, &disk);
    }
}

/// The destination has taken over, and its guest has ended, when the source takes back: what
/// was plugged, too, and though a disk is called otherwise by then.
pub fn migration_cancelled_after_both_have_completed(world: &World) {
    if !migrates(world) {
        return;
    }
    for with_descriptors in [false, true] {
        let (source, destination) = (world.host(), world.host());
        let web = new_guest("web");
        let (disk, plugged) = (world.disk("a"), world.disk("b"));
        let (guest, mut process) = start(&source, &web, from_ref(&disk)).unwrap();
        let hot_plug = source.about().features.hot_plug;
        if hot_plug {
            guest.plug(&plugged).unwrap();
        }
        let (leaving, grant) = guest.prepare_migrate(&target(with_descriptors)).unwrap();
        let mut arriving = destination.arrive(&web).unwrap();
        arriving.add(&disk).unwrap();
        if hot_plug {
            arriving.add(&plugged).unwrap();
        }
        let mut there = world.process(&web);
        let incoming = arriving.started(there.id()).unwrap();
        let left = leaving.complete().unwrap();
        let passed = !grant.descriptors.is_empty();
        let incoming = incoming.complete(grant).unwrap();
        // The destination is gone before the guest has arrived.
        drop((incoming, destination));
        there.kill();
        if !passed {
            world.assert_free_soon(&web, &disk);
        }
        let guest = left.cancel().unwrap();
        world.assert_held(&web, &disk);
        guest.state().unwrap();
        if hot_plug {
            world.assert_held(&web, &plugged);
        }
        drop((guest, source));
        world.assert_held(&web, &disk);
        if hot_plug {
            world.assert_held(&web, &plugged);
        }
        process.kill();
        world.assert_free_soon(&web, &disk);
        world.assert_free_soon(&web, &plugged);
    }
}

/// The guest runs on, with its locks.
pub fn failed_prepare_starts_nothing(world: &World) {
    if !migrates(world) {
        return;
    }
    let host = world.host();
    let web = new_guest("web");
    let (guest, _process) = start(&host, &web, &[world.disk("a")]).unwrap();
    let owner = guest.owner();
    let (leaving, grant) = guest.prepare_migrate(&target(false)).unwrap();
    // Twice is once too often, and changes nothing.
    let error = host.driver().prepare_migrate(owner, &target(false)).unwrap_err();
    assert_eq!(error.kind, Kind::OutOfOrder, "{error}");
    world.assert_held(&web, &world.disk("a"));
    drop(grant);
    let guest = leaving.cancel().unwrap();
    assert_eq!(guest.owner(), owner);
}

/// Exclusive gets on with none, the others with each other.
pub fn modes(world: &World) {
    use Mode::{Exclusive, ReadOnly, Shared};
    for (one, two, together) in [
        (Exclusive, Exclusive, false),
        (Exclusive, Shared, false),
        (Exclusive, ReadOnly, false),
        (Shared, Exclusive, false),
        (ReadOnly, Exclusive, false),
        (Shared, Shared, true),
        (Shared, ReadOnly, true),
        (ReadOnly, ReadOnly, true),
    ] {
        let host = world.host();
        let first = acquire(&host, &new_guest("first"), &[world.disk_for("a", one)]).unwrap();
        let second = acquire(&host, &new_guest("second"), &[world.disk_for("a", two)]);
        let expected = together || world.subject().locks != Locks::Resources;
        assert_eq!(second.is_ok(), expected, "{one}, then {two}: {second:?}");
        drop(first);
    }
}

/// What the types keep a caller from, the driver refuses.
pub fn misuse_is_refused(world: &World) {
    let host = world.host();
    let driver = host.driver();
    let disk = world.disk("a");
    // Who has to ask for itself is known by its process.
    let web = new_guest("web");
    let process = world.starter().map(|_| world.process(&web));
    let pid = process.as_ref().map(Process::id);
    let owner = driver.open(&Guest { pid, ..web }, Opening::New).unwrap();
    driver.add(owner, &disk).unwrap();
    if world.subject().locks != Locks::Guests {
        let twice = driver.add(owner, &disk).unwrap_err();
        assert_eq!(twice.kind, Kind::Invalid, "{twice}");
    }
    drop(driver.acquire(owner, &Request::default()).unwrap());
    // Again is no harm.
    drop(driver.acquire(owner, &Request::default()).unwrap());
    let late = driver.add(owner, &world.disk("b")).unwrap_err();
    assert_eq!(late.kind, Kind::OutOfOrder, "{late}");
    if host.about().features.migrate {
        for error in [
            driver.complete_out(owner).unwrap_err(),
            driver.cancel_out(owner).unwrap_err(),
            driver.complete_in(owner, Grant::default()).unwrap_err(),
            driver.cancel_in(owner).unwrap_err(),
        ] {
            assert_eq!(error.kind, Kind::OutOfOrder, "{error}");
        }
    }
    driver.release(owner).unwrap();
    driver.release(owner).unwrap();
    driver.close(owner);
    for error in [
        driver.add(owner, &disk).unwrap_err(),
        driver.acquire(owner, &Request::default()).unwrap_err(),
        driver.register(owner, std::process::id()).unwrap_err(),
        driver.release(owner).unwrap_err(),
        driver.inquire(owner).unwrap_err(),
        driver.child(owner).unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::NotFound, "{error}");
        assert!(error.to_string().contains(&owner.to_string()), "{error}");
    }
    let nameless = driver.open(&new_guest(""), Opening::New).unwrap_err();
    assert_eq!(nameless.kind, Kind::Invalid, "{nameless}");
}

/// A CD is ejected: nothing is acquired, and nothing released.
pub fn an_owner_without_resources_means_none(world: &World) {
    if world.subject().locks == Locks::Guests {
        // Its one lock is the guest's, with and without resources.
        return drop(start(&world.host(), &new_guest("web"), &[]).unwrap());
    }
    let host = world.host();
    let web = new_guest("web");
    let (guest, process) = start(&host, &web, &[world.disk("a")]).unwrap();
    let same = web.clone().with_pid(process.id());
    let owner = host.driver().open(&same, Opening::New).unwrap();
    assert!(host.driver().acquire(owner, &Request::default()).unwrap().descriptors.is_empty());
    host.driver().release(owner).unwrap();
    host.driver().close(owner);
    world.assert_held(&web, &world.disk("a"));
    assert_eq!(guest.child().unwrap(), process.id());
}

/// The shipped design: every operation is a short life of an owner, named by its process.
pub fn each_operation_by_an_owner_of_its_own(world: &World) {
    let host = world.host();
    let web = new_guest("web");
    let (a, b) = (world.disk("a"), world.disk("b"));
    let (guest, mut process) = start(&host, &web, from_ref(&a)).unwrap();
    drop((guest, host));
    let same = web.clone().with_pid(process.id());
    let host = world.host();
    let once = |resources: &[Resource], act: &dyn Fn(lcr_lock::Owner)| {
        let owner = host.driver().open(&same, Opening::New).unwrap();
        for resource in resources {
            host.driver().add(owner, resource).unwrap();
        }
        act(owner);
        host.driver().close(owner);
    };
    let acquired = |owner| drop(host.driver().acquire(owner, &Request::default()).unwrap());
    let released = |owner| drop(host.driver().release(owner).unwrap());
    // The daemon acquires what the guest's process has.
    once(from_ref(&a), &acquired);
    world.assert_held(&web, &a);
    if world.subject().locks != Locks::Guests {
        // Attach a disk, detach it: each time with one resource.
        once(from_ref(&b), &acquired);
        world.assert_held(&web, &b);
        once(from_ref(&b), &released);
        world.assert_free(&web, &b);
    }
    world.assert_held(&web, &a);
    // Suspend: twice, and resume.
    once(from_ref(&a), &released);
    once(from_ref(&a), &released);
    world.assert_free(&web, &a);
    once(from_ref(&a), &acquired);
    world.assert_held(&web, &a);
    process.kill();
    world.assert_free_soon(&web, &a);
}

/// A state that comes with another process is as none.
pub fn the_state_of_another_process_is_ignored(world: &World) {
    let host = world.host();
    let web = new_guest("web");
    let (guest, mut process) = start(&host, &web, &[world.disk("a")]).unwrap();
    let state = guest.leave();
    process.kill();
    world.assert_free_soon(&web, &world.disk("a"));
    let request = Request { state: Some(state.clone()), ..Request::default() };
    let (guest, process) = start_with(&host, &web, &[world.disk("a")], &request).unwrap();
    world.assert_held(&web, &world.disk("a"));
    assert_ne!(guest.state().unwrap(), state);
    // Attached with the first process' state, it is the second that is found.
    drop((guest, host));
    let host = world.host();
    let known = web.clone().with_pid(process.id());
    let guest = host.attach(&known, Grant::of_state(&state)).unwrap().child(Policy::default()).unwrap();
    assert_eq!(guest.pid(), process.id());
    world.assert_held(&web, &world.disk("a"));
    // A text that is no state at all is none, too.
    let request = Request { state: Some("no such state".into()), ..Request::default() };
    drop(host.new_guest(&new_guest("other")).unwrap().acquire(&request).unwrap());
}

/// A process that closes what it does not know, or was started by somebody else.
pub fn a_process_that_has_inherited_nothing_is_tied_too(world: &World) {
    let host = world.host();
    let web = new_guest("web");
    if !host.about().features.before_process {
        return tied_to_another(world);
    }
    let acquired = acquire(&host, &web, &[world.disk("a"), world.disk("b")]).unwrap().here();
    let mut process = Process::new();
    let guest = acquired.started(process.id()).unwrap();
    assert_eq!(guest.child().unwrap(), process.id());
    drop((guest, host));
    world.assert_held(&web, &world.disk("a"));
    world.assert_held(&web, &world.disk("b"));
    process.kill();
    world.assert_free_soon(&web, &world.disk("a"));
    world.assert_free_soon(&web, &world.disk("b"));
}

/// What a process has asked for itself does not become another's; and one that is not
/// known to the driver is not taken for a guest.
fn tied_to_another(world: &World) {
    let host = world.host();
    let web = new_guest("web");
    let process = world.process(&web);
    let owner = host.driver().open(&web.clone().with_pid(process.id()), Opening::New).unwrap();
    host.driver().add(owner, &world.disk("a")).unwrap();
    drop(host.driver().acquire(owner, &Request::default()).unwrap());
    let other = Process::new();
    let error = host.driver().register(owner, other.id()).unwrap_err();
    assert_eq!(error.kind, Kind::OutOfOrder, "{error}");
    host.driver().close(owner);
    world.assert_held(&web, &world.disk("a"));
    let owner = host.driver().open(&web.clone().with_pid(other.id()), Opening::New).unwrap();
    host.driver().add(owner, &world.disk("b")).unwrap();
    let error = host.driver().acquire(owner, &Request::default()).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound, "{error}");
    let nobody = host.driver().open(&new_guest("nobody"), Opening::New).unwrap();
    host.driver().add(nobody, &world.disk("b")).unwrap();
    let error = host.driver().acquire(nobody, &Request::default()).unwrap_err();
    assert_eq!(error.kind, Kind::OutOfOrder, "{error}");
}
