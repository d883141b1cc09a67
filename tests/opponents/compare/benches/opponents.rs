//! The same calls into a library through lcr, abi_stable and stabby.
//!
//! ```sh
//! cargo bench --manifest-path tests/opponents/Cargo.toml -p compare
//! ```

#[path = "../../../benches/rounds/mod.rs"]
mod rounds;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bench_worker::{BUFFER, Work};
use lcr_core::{Factory, Handle};
use opponent_stabby::WorkDyn as _;
use rounds::{Side, compare};

lcr_core::link!(bench_worker);

const ROUNDS: usize = 300;

fn main() {
    let mut criterion = rounds::criterion();
    let lcr = lcr_tests::build(&["lcr-bench-worker-library"], lcr_tests::Profile::Release);
    let examples = plugins();
    let factory = Factory::builder().components([]).without_environment().path(lcr.library("worker")).build();
    let lcr: Handle<dyn Work> = factory.reference("bench.work", 0).unwrap();
    let pinned = Handle::instance(&lcr);
    let plain = bench_worker::Plain::of(&lcr).get();
    let abi_stable = opponent_abi_stable::load(&examples.join("libabi_stable_plugin.so"));
    let stabby = opponent_stabby::load(&examples.join("libstabby_plugin.so"));

    compare(
        &mut criterion,
        "a number in and out",
        ROUNDS,
        20_000,
        vec![
            Side::new("Box<dyn> of the library", |n| add(n, |x| plain.add(x))),
            Side::new("lcr, Instance", |n| add(n, |x| pinned.add(x))),
            Side::new("lcr, Handle (replaceable)", |n| add(n, |x| lcr.add(x))),
            Side::new("abi_stable", |n| add(n, |x| abi_stable.add(x))),
            Side::new("stabby", |n| add(n, |x| stabby.add(x))),
        ],
    );
    let who = black_box("everybody who listens");
    compare(
        &mut criterion,
        "&str in, String out",
        ROUNDS,
        2_000,
        vec![
            Side::each("Box<dyn> of the library", || plain.greet(who)),
            Side::each("lcr, Handle (replaceable)", || lcr.greet(who)),
            Side::each("abi_stable", || abi_stable.greet(who.into())),
            Side::each("stabby", || stabby.greet(who.into())),
        ],
    );
    let mut ours = vec![1u8; BUFFER];
    let mut other = vec![1u8; BUFFER];
    let mut theirs = abi_stable::std_types::RVec::from(vec![1u8; BUFFER]);
    let mut stabs: stabby::vec::Vec<u8> = vec![1u8; BUFFER].into_iter().collect();
    compare(
        &mut criterion,
        "Vec<u8> of 1 MiB in and out",
        ROUNDS,
        2_000,
        vec![
            Side::each("Box<dyn> of the library", || other = plain.turn(std::mem::take(&mut other))),
            Side::each("lcr, Handle (replaceable)", || ours = lcr.turn(std::mem::take(&mut ours))),
            Side::each("abi_stable", || theirs = abi_stable.turn(std::mem::take(&mut theirs))),
            Side::each("stabby", || stabs = stabby.turn(std::mem::take(&mut stabs))),
        ],
    );
    criterion.final_summary();
}

/// Builds the opponents' plugins, and answers where they are.
fn plugins() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let status = lcr_tests::cargo()
        .current_dir(here)
        .args(["build", "--release", "--examples", "-p", "opponent-abi-stable", "-p", "opponent-stabby"])
        .status();
    assert!(status.unwrap().success(), "the plugins are built");
    // …/release/deps/opponents-…
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(2).unwrap().join("examples")
}

#[inline(always)]
fn add(calls: u64, call: impl Fn(u64) -> u64) -> Duration {
    let mut sum = black_box(0);
    let start = Instant::now();
    for i in 0..calls {
        sum = call(sum ^ i);
    }
    let took = start.elapsed();
    black_box(sum);
    took
}
