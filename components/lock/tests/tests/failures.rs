//! The failure paths of a guest's life: what the policies do, with a driver in which
//! steps fail on demand.

use lcr_lock::life::{Consequence, Plugin, Policy, Shutdown};
use lcr_lock::{Driver as _, Grant, Kind, Mode, Resource, Target};
use lcr_lock_tests::{Process, new_guest, soon, start};

fn faulty() -> Plugin {
    Plugin::load("lock.faulty").unwrap()
}

const KILL: Policy = Policy { failed_shutdown: Consequence::Kill, failed_child: Consequence::Kill };
const LEAVE: Policy = Policy { failed_shutdown: Consequence::Leave, failed_child: Consequence::Leave };

fn lives(process: &mut Process) -> bool {
    process.0.try_wait().unwrap().is_none()
}

#[test]
fn the_default_kills_at_a_failed_shutdown_and_leaves_at_a_failed_child() {
    let expected = Policy { failed_shutdown: Consequence::Kill, failed_child: Consequence::Leave };
    assert_eq!(Policy::default(), expected);
}

#[test]
fn a_failed_shutdown_kills_the_guest_unless_the_policy_leaves_it() {
    let plugin = faulty();
    let (guest, mut process) = start(&plugin, &new_guest("no release"), &[]).unwrap();
    let ended = guest.shutdown(LEAVE);
    assert!(matches!(&ended, Shutdown::Left(error) if error.kind == Kind::Failed), "{ended:?}");
    assert!(lives(&mut process));

    let (guest, mut process) = start(&plugin, &new_guest("no release"), &[]).unwrap();
    let ended = guest.shutdown(Policy::default());
    assert!(matches!(&ended, Shutdown::Killed(error) if error.kind == Kind::Failed), "{ended:?}");
    soon("the guest was killed", || !lives(&mut process));
}

#[test]
fn a_failed_child_leaves_the_guest_unless_the_policy_kills_it() {
    let plugin = faulty();
    let guest = new_guest("no child");
    let mut process = Process::new();
    let known = guest.with_pid(process.id());
    let none = plugin.attach(&known, Grant::default()).unwrap().child(Policy::default()).unwrap_err();
    assert_eq!((none.error.kind, none.killed), (Kind::Failed, None));
    assert_eq!(
        none.to_string(),
        "lock.faulty: cannot find the guest's process: it was told to fail; nothing was killed"
    );
    assert!(lives(&mut process));
    let none = plugin.attach(&known, Grant::default()).unwrap().child(KILL).unwrap_err();
    assert_eq!(none.killed, Some(process.id()), "{none}");
    soon("the guest was killed", || !lives(&mut process));
}

#[test]
fn a_guest_that_is_not_registered_does_not_run() {
    let plugin = faulty();
    let error = start(&plugin, &new_guest("no register"), &[]).unwrap_err();
    assert_eq!(error.kind, Kind::Failed, "{error}");
}

#[test]
fn a_failed_unplug_warns_and_changes_nothing() {
    let plugin = faulty();
    let disk = Resource::disk("/srv/a.img", Mode::Exclusive);
    let (guest, mut process) = start(&plugin, &new_guest("no unplug"), std::slice::from_ref(&disk)).unwrap();
    let warning = guest.unplug(&disk).unwrap_err();
    assert_eq!(
        warning.to_string(),
        "warning: lock.faulty: cannot unplug: it was told to fail; it stays locked until the guest ends"
    );
    let owned = plugin.driver().owners().into_iter().find(|owned| owned.owner == guest.owner()).unwrap();
    assert_eq!(owned.resources, [disk]);
    assert!(lives(&mut process));
}

#[test]
fn a_failed_prepare_starts_nothing() {
    let plugin = faulty();
    let (guest, mut process) = start(&plugin, &new_guest("no prepare"), &[]).unwrap();
    let owner = guest.owner();
    let failed = guest.prepare_migrate(&Target::default()).unwrap_err();
    assert_eq!((failed.error.kind, failed.guest.owner()), (Kind::Failed, owner), "{failed}");
    assert_eq!(failed.guest.child().unwrap(), process.id());
    assert!(lives(&mut process));
}

#[test]
fn a_source_that_cannot_complete_keeps_the_guest() {
    let plugin = faulty();
    let (guest, _process) = start(&plugin, &new_guest("no complete_out"), &[]).unwrap();
    let (leaving, _grant) = guest.prepare_migrate(&Target::default()).unwrap();
    let failed = leaving.complete().unwrap_err();
    assert_eq!(failed.error.kind, Kind::Failed, "{failed}");
    let _guest = failed.guest.cancel().unwrap();
}

#[test]
fn a_destination_that_cannot_complete_gives_the_guest_back() {
    let plugin = faulty();
    let web = new_guest("no complete_in");
    let (guest, process) = start(&plugin, &web, &[]).unwrap();
    let (leaving, grant) = guest.prepare_migrate(&Target::default()).unwrap();
    let there = Process::new();
    let incoming = plugin.arrive(&web).unwrap().started(there.id()).unwrap();
    let left = leaving.complete().unwrap();
    let failed = incoming.complete(grant).unwrap_err();
    assert_eq!(failed.error.kind, Kind::Failed, "{failed}");
    failed.guest.cancel();
    assert_eq!(left.cancel().unwrap().child().unwrap(), process.id());
}
