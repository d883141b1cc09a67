//! The driver is replaced while it holds locks: no guest notices, and who wants a lock
//! all the time never gets it.

use std::time::Duration;

use lcr_lock::{Driver as _, Mode, Resource};
use lcr_lock_tests::programs::Rival;
use lcr_lock_tests::{Host, Locks, Subject, World, acquire, new_guest, start, stripped};
use lcr_tests::{Profile, Scratch};

const FILE: Subject = Subject {
    interface: "lock.file",
    library: None,
    directory: false,
    locks: Locks::Resources,
    elsewhere: None,
};
const RIVAL: &str = env!("CARGO_BIN_EXE_lock-rival");

/// How often it is replaced: `LCR_REPLACEMENTS`, else a thousand times.
fn replacements() -> usize {
    let wanted = std::env::var("LCR_REPLACEMENTS").ok();
    wanted.map_or(1000, |wanted| wanted.parse().expect("LCR_REPLACEMENTS is a number"))
}

fn second_version(scratch: &Scratch) -> std::path::PathBuf {
    let profile = if cfg!(debug_assertions) { Profile::Dev } else { Profile::Release };
    let library = lcr_tests::build(&["lcr-lock-file-two"], profile).library("lock_file_two");
    stripped(&library, scratch)
}

/// Version 1 to version 2, or back.
fn replace(host: &Host, library: &std::path::Path, back: bool) {
    let replaced = if back {
        host.factory.rollback("lock.file").timeout(Duration::from_secs(30)).run()
    } else {
        host.factory.replace("lock.file").with(library).timeout(Duration::from_secs(30)).run()
    };
    replaced.unwrap_or_else(|failure| panic!("{failure}"));
    let expected = if back { 1 } else { 2 };
    assert_eq!(host.about().version, expected);
}

#[test]
fn a_rival_that_tries_all_the_time_never_gets_a_lock() {
    let world = World::new(FILE);
    let host = world.host();
    let scratch = Scratch::new();
    let library = second_version(&scratch);
    let web = new_guest("web");
    let (inherited, plugged) = (world.disk("inherited"), world.disk("plugged"));
    let (guest, mut process) = start(&host, &web, std::slice::from_ref(&inherited)).unwrap();
    guest.plug(&plugged).unwrap();
    // A guest that has no process yet: the driver alone has its lock, and hands it over.
    let waiting = new_guest("waiting");
    let alone = world.disk("alone");
    let acquired = acquire(&host, &waiting, std::slice::from_ref(&alone)).unwrap().here();
    let before = (host.driver().owners(), guest.state().unwrap());

    let disks = [&inherited, &plugged, &alone];
    // One at a time: as many as there are processors, and the replacements starve.
    let times = replacements();
    let tried = disks.map(|disk| {
        let rival = Rival::trying(RIVAL, disk.path());
        for number in 0..times.div_ceil(6) * 2 {
            replace(&host, &library, number % 2 == 1);
        }
        rival.ended()
    });
    for (disk, (tried, got)) in disks.iter().zip(tried) {
        println!("{disk}: a third of {times} replacements, {tried} attempts, {got} acquired");
        assert_eq!(got, 0, "{disk}: acquired in {got} of {tried} attempts");
        assert!(tried > u64::try_from(times).unwrap(), "{disk}: it hardly tried: {tried} times");
    }

    // What the last version holds, it knows: it gives up, starts and plugs as the first.
    replace(&host, &library, false);
    assert_eq!((host.driver().owners(), guest.state().unwrap()), before);
    assert_eq!(process.0.try_wait().unwrap(), None, "the guest has noticed");
    guest.unplug(&plugged).unwrap();
    world.assert_free(&web, &plugged);
    guest.plug(&plugged).unwrap();
    let (other, mut its_process) = acquired.start(lcr_lock_tests::waiting()).unwrap();
    world.assert_held(&waiting, &alone);
    assert_eq!(other.child().unwrap(), its_process.id());
    // And it sees the guests end.
    process.kill();
    its_process.kill().unwrap();
    its_process.wait().unwrap();
    for disk in disks {
        world.assert_free_soon(&web, disk);
    }
}

/// What the driver alone holds has no other descriptor anywhere: it travels.
#[test]
fn descriptors_travel_and_none_is_left_over() {
    let world = World::new(FILE);
    let host = world.host();
    let scratch = Scratch::new();
    let library = second_version(&scratch);
    let owner = host.driver().open(&new_guest("web"), lcr_lock::Opening::New).unwrap();
    for number in 0..20 {
        let disk = Resource::disk(world.path(&format!("disk {number}")), Mode::Exclusive);
        host.driver().add(owner, &disk).unwrap();
    }
    drop(host.driver().acquire(owner, &lcr_lock::Request::default()).unwrap());
    let ours = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        let disks = world.path("disk 0").parent().unwrap().to_owned();
        links.filter(|link| link.starts_with(&disks)).count()
    };
    let before = ours();
    assert_eq!(before, 20);
    for number in 0..10 {
        replace(&host, &library, number % 2 == 1);
        assert_eq!(ours(), before);
    }
    world.assert_held(&new_guest("web"), &world.disk("disk 19"));
    host.driver().release(owner).unwrap();
    world.assert_free(&new_guest("web"), &world.disk("disk 19"));
    host.driver().close(owner);
    assert_eq!(ours(), 0);
}

#[test]
fn lock_nop_is_replaced_with_its_owners_by_itself_built_as_a_library() {
    let nop = Subject { interface: "lock.nop", locks: Locks::Nothing, ..FILE };
    let world = World::new(nop);
    let host = world.host();
    let (guest, _process) = start(&host, &new_guest("web"), &[world.disk("a")]).unwrap();
    let before = host.driver().owners();
    let library = lcr_tests::build(&["lcr-lock-nop-library"], Profile::Dev).library("lock_nop");
    host.factory.replace("lock.nop").with(library).run().unwrap();
    assert_eq!(host.driver().owners(), before);
    guest.plug(&world.disk("b")).unwrap();
}
