//! How long a clean release build of contract, component and host takes: with lcr for a
//! program that is all compiled in, for one that loads libraries (and the component as one),
//! and for one that replaces them; with abi_stable and stabby, which load. Each in a
//! directory that is new, with what is downloaded already.
//!
//! ```sh
//! cargo bench -p lcr-tests --bench build_time            # 3 rounds
//! LCR_BENCH_ROUNDS=1 cargo bench -p lcr-tests --bench build_time
//! ```

mod rounds;

use std::path::Path;
use std::time::Instant;

use lcr_tests::Scratch;
use rounds::{median, target};

const MANIFEST: &str = "tests/opponents/Cargo.toml";

const SIDES: [(&str, &[&str]); 5] = [
    ("lcr, compiled in", &["-p", "opponent-lcr", "--bins"]),
    ("lcr, with libraries", &["-p", "opponent-lcr", "--examples", "--bins", "--features", "dlopen"]),
    ("lcr, replaced live", &["-p", "opponent-lcr", "--examples", "--bins", "--features", "replace"]),
    ("abi_stable", &["-p", "opponent-abi-stable", "--examples", "--bins"]),
    ("stabby", &["-p", "opponent-stabby", "--examples", "--bins"]),
];

fn main() {
    let rounds = std::env::var("LCR_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    // Downloads are nobody's build time.
    let fetched = lcr_tests::cargo().args(["fetch", "--locked", "--manifest-path", MANIFEST]).status();
    assert!(fetched.unwrap().success(), "what {MANIFEST} needs is downloaded");
    let mut taken = [const { Vec::new() }; SIDES.len()];
    for _ in 0..rounds {
        for ((_, packages), taken) in SIDES.iter().zip(&mut taken) {
            let scratch = Scratch::new();
            taken.push(build(packages, scratch.path()));
        }
    }
    let medians = taken.map(median);
    for ((name, _), median) in SIDES.iter().zip(medians) {
        println!("clean release build, {name}: {median:.1} s, {:.2} times abi_stable's", median / medians[3]);
    }
    target("clean release build of contract, component and host, 2 jobs", 15.0, medians[0], "s");
    target("the same with libraries", 15.0, medians[1], "s");
}

fn build(packages: &[&str], target: &Path) -> f64 {
    let start = Instant::now();
    let status = lcr_tests::cargo()
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--offline",
            "--jobs",
            "2",
            "--manifest-path",
            MANIFEST,
        ])
        .args(packages)
        .arg("--target-dir")
        .arg(target)
        .env_remove("CARGO_TARGET_DIR")
        .status();
    let took = start.elapsed().as_secs_f64();
    assert!(status.unwrap().success(), "{packages:?} are built");
    took
}
