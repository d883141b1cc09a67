//! Acquire and release of 1, 100 and 1,000 disks, with `lock.file` against plain
//! `fcntl` in a loop.
//!
//! The loop opens each disk, locks its first byte, and unlocks and closes it. The driver
//! does that, remembers whose it is, gives the guest's process descriptors of its own,
//! and writes the guest's card.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::fd::AsRawFd as _;

use criterion::{BenchmarkId, Criterion, Throughput};
use lcr_lock::{Driver as _, Mode, Opening, Request, Resource};
use lcr_lock_tests::{Locks, Subject, World, new_guest};
use rustix::process::{Resource as Limit, Rlimit, getrlimit, setrlimit};

const FILE: Subject = Subject {
    interface: "lock.file",
    library: None,
    directory: false,
    locks: Locks::Resources,
    elsewhere: None,
};

fn set(file: &File, kind: libc::c_int) {
    // SAFETY: a structure of integers, for which zeros are a value.
    let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_len = 1;
    // SAFETY: the file is open, and the command takes a `flock64`.
    let set = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

fn main() {
    // The driver's descriptors and the guest's, of a thousand disks.
    let Rlimit { maximum, .. } = getrlimit(Limit::Nofile);
    setrlimit(Limit::Nofile, Rlimit { current: maximum, maximum })
        .expect("the limit can be raised to its maximum");
    let world = World::new(FILE);
    let host = world.host();
    let driver = host.driver();
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("acquire_and_release");
    for disks in [1_u64, 100, 1000] {
        let paths: Vec<_> = (0..disks).map(|number| world.path(&format!("disk{number}"))).collect();
        group.throughput(Throughput::Elements(disks));
        group.bench_with_input(BenchmarkId::new("fcntl", disks), &paths, |bencher, paths| {
            bencher.iter(|| {
                let open = |path| OpenOptions::new().read(true).write(true).open(path).expect("it is there");
                let files: Vec<File> = paths.iter().map(open).collect();
                files.iter().for_each(|file| set(file, libc::F_WRLCK));
                files.iter().for_each(|file| set(file, libc::F_UNLCK));
                black_box(files)
            });
        });
        let resources: Vec<_> = paths.iter().map(|path| Resource::disk(path, Mode::Exclusive)).collect();
        let guest = new_guest("web");
        group.bench_with_input(BenchmarkId::new("lock.file", disks), &resources, |bencher, resources| {
            bencher.iter(|| {
                let owner = driver.open(&guest, Opening::New).expect("it opens");
                for resource in resources {
                    driver.add(owner, resource).expect("it is added");
                }
                let grant = driver.acquire(owner, &Request::default()).expect("nobody has them");
                driver.release(owner).expect("they are given up");
                driver.close(owner);
                black_box(grant)
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
