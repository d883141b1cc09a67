//! `lcr-guest run … -- true` against `flock FILE true`, as whole processes.
//!
//! Both lock a file, start a program that inherits the lock, and wait for its end. The
//! guest runner also writes down who has the disk, serves a socket for it, and can have
//! its driver replaced.

use std::process::{Command, Stdio};

use criterion::Criterion;
use lcr_tests::Scratch;

fn main() {
    let scratch = Scratch::new();
    let disk = scratch.path().join("disk");
    std::fs::write(&disk, b"disk").expect("a file can be made");
    let run = |command: &mut Command| {
        let status = command.stdin(Stdio::null()).status().expect("it can be started");
        assert!(status.success(), "{status}");
    };
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("run_true");
    group.bench_function("true", |bencher| bencher.iter(|| run(&mut Command::new("true"))));
    if let Some(flock) = lcr_tests::program("flock", "install the package util-linux") {
        group.bench_function("flock", |bencher| {
            bencher.iter(|| run(Command::new(&flock).arg(&disk).arg("true")));
        });
    }
    for driver in ["nop", "file"] {
        group.bench_function(format!("lcr-guest {driver}"), |bencher| {
            bencher.iter(|| {
                let mut command = Command::new(env!("CARGO_BIN_EXE_lcr-guest"));
                command.args(["run", "--driver", driver, "--name", "web", "--disk"]).arg(&disk);
                run(command.args(["--", "true"]).env("LCR_RUNTIME_DIR", scratch.path().join("host")));
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
