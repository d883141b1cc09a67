//! What the tests of replacement share: the host's components, the libraries of
//! `fixtures/replace`, and measures of what a process holds.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses some of it")]

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lcr_core::factory::Factory;

#[path = "../programs/mod.rs"]
mod programs;

/// One of the fixture's libraries.
pub fn library(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let release = !cfg!(debug_assertions);
        let arguments: &[&str] = if release { &["--examples", "--release"] } else { &["--examples"] };
        let target = programs::cargo("replace", arguments, &[]);
        target.join(if release { "release" } else { "debug" }).join("examples")
    });
    built.join(format!("lib{name}.so"))
}

/// Transactions are made one at a time in a process, and so are tests that count
/// what it holds.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs this test program once more, where the kernel has no `membarrier` and readers
/// pay a fence; the run itself sees to it that it is so.
#[track_caller]
pub fn again_without_membarrier() {
    if std::env::var_os("LCR_NO_MEMBARRIER").is_some() {
        assert!(lcr_core::gate::readers_pay_a_fence(), "LCR_NO_MEMBARRIER is not heeded");
        return;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let output = lcr_tests::run(again.env("LCR_NO_MEMBARRIER", "1"));
    assert!(output.status.success(), "{}", lcr_tests::told(&again, &output));
}

/// A factory of its own, which finds nothing that is not named.
pub fn factory() -> Factory {
    Factory::builder().without_environment().build()
}

type Says = Arc<dyn Fn(&str) -> String + Send + Sync>;

static SCRIPT: Mutex<Option<Says>> = Mutex::new(None);

/// From now on, this is what the host answers at each step.
pub fn script(says: impl Fn(&str) -> String + Send + Sync + 'static) {
    *SCRIPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(says));
}

/// Nothing goes wrong from now on.
pub fn no_script() {
    *SCRIPT.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

#[lcr_core::component]
mod host_script {
    use super::SCRIPT;
    use crate::replaced::Script;

    #[derive(lcr_core::Interface)]
    #[interface(name = "script", version = 0, contract = dyn Script)]
    pub struct It;

    impl Construct for It {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(It)
        }
    }

    impl Script for It {
        fn at(&self, step: &str) -> String {
            let says = SCRIPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            says.map_or_else(String::new, |says| says(step))
        }
    }
}

/// The generations of a soak: how many there were, how many have ended, and the
/// calls of those.
pub mod ledger {
    use std::sync::atomic::{AtomicU64, Ordering};

    pub static BEGUN: AtomicU64 = AtomicU64::new(0);
    pub static ENDED: AtomicU64 = AtomicU64::new(0);
    pub static CALLS: AtomicU64 = AtomicU64::new(0);

    #[lcr_core::component]
    pub mod component {
        use super::{BEGUN, CALLS, ENDED, Ordering};
        use crate::replaced::Ledger;

        #[derive(lcr_core::Interface)]
        #[interface(name = "ledger", version = 0, contract = dyn Ledger)]
        pub struct It;

        impl Construct for It {
            fn construct(_: &Context) -> Result<Self, BoxError> {
                Ok(It)
            }
        }

        impl Ledger for It {
            fn begins(&self) -> u64 {
                BEGUN.fetch_add(1, Ordering::SeqCst) + 1
            }
            fn ends(&self, _: u64, calls: u64) {
                CALLS.fetch_add(calls, Ordering::SeqCst);
                ENDED.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// What a process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Where its descriptors lead.
    pub descriptors: Vec<String>,
    /// Mappings of libraries' copies.
    pub libraries: usize,
    /// The names of its threads.
    pub threads: Vec<String>,
}

impl Holds {
    pub fn now() -> Holds {
        let mut descriptors: Vec<String> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            // The directory that is being read is one.
            .filter(|to| !to.starts_with("/proc"))
            .map(|to| to.display().to_string())
            .collect();
        descriptors.sort();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let libraries = maps.lines().filter(|line| line.contains("memfd:lcr")).count();
        let mut threads: Vec<String> = fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect();
        threads.sort();
        Holds { descriptors, libraries, threads }
    }

    /// The same, seen again until it is as `wanted`, or for two seconds: threads that
    /// were joined stand in /proc a moment longer.
    pub fn settled(wanted: &Holds) -> Holds {
        let began = std::time::Instant::now();
        loop {
            let now = Holds::now();
            if now == *wanted || began.elapsed().as_secs() >= 2 {
                return now;
            }
            std::thread::yield_now();
        }
    }
}

/// Bytes that are allocated.
pub fn heap() -> usize {
    // SAFETY: it only reads the allocator's counters.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Resident memory, in KiB.
pub fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
