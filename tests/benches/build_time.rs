//! How long a clean release build takes: contract, component, library and host, with
//! lcr (the greeter tutorial: two components) and with abi_stable and stabby (one),
//! each in a directory that is new, with what is downloaded already.
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

const SIDES: [(&str, &str, &[&str]); 3] = [
    ("lcr", "Cargo.toml", &["-p", "lcr-sample-greeter-english-library", "-p", "lcr-sample-greeter"]),
    ("abi_stable", "tests/opponents/Cargo.toml", &["-p", "opponent-abi-stable", "--examples", "--bins"]),
    ("stabby", "tests/opponents/Cargo.toml", &["-p", "opponent-stabby", "--examples", "--bins"]),
];

fn main() {
    let rounds = std::env::var("LCR_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    for (_, manifest, _) in SIDES {
        // Downloads are nobody's build time.
        let fetched = lcr_tests::cargo().args(["fetch", "--locked", "--manifest-path", manifest]).status();
        assert!(fetched.unwrap().success(), "what {manifest} needs is downloaded");
    }
    let mut taken = [const { Vec::new() }; SIDES.len()];
    for _ in 0..rounds {
        for ((_, manifest, packages), taken) in SIDES.iter().zip(&mut taken) {
            let scratch = Scratch::new();
            taken.push(build(manifest, packages, scratch.path()));
        }
    }
    let lcr = median(taken[0].clone());
    for ((name, ..), taken) in SIDES.iter().zip(taken) {
        let median = median(taken);
        println!("clean release build, {name}: {median:.1} s, {:.1} times lcr's", median / lcr);
    }
    target("clean release build of contract, component, library and host, 2 jobs", 15.0, lcr, "s");
}

fn build(manifest: &str, packages: &[&str], target: &Path) -> f64 {
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
            manifest,
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
