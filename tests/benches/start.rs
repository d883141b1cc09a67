//! A static program's start with 10,000 components: its first reference, which makes
//! the index and finds duplicates. In this process, and in a program that has ten
//! thousand registrations compiled in.
//!
//! ```sh
//! cargo bench -p lcr-tests --bench start
//! ```

mod registered;
mod rounds;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bench_worker::Work;
use lcr_core::Factory;
use rounds::{Side, compare, median, quantile, target};

const COUNT: usize = 10_000;

fn main() {
    let mut criterion = rounds::criterion();
    let (many, one) = (registered::components(COUNT), registered::components(1));
    let first = |these: &[&'static lcr_core::registry::Registration]| {
        let factory = Factory::builder().without_environment().components(these.iter().copied()).build();
        let start = Instant::now();
        let handle = factory.reference::<dyn Work>(&registered::typed(0), 0).unwrap();
        let took = start.elapsed();
        drop(handle);
        took
    };
    let side = |name: &str, these: &[&'static _]| {
        let these = these.to_vec();
        Side::new(name, move |times| (0..times).map(|_| first(&these)).sum::<Duration>())
    };
    let sides =
        vec![side("first reference, 1 component", &one), side("first reference, 10,000 components", &many)];
    let measured = compare(&mut criterion, "start", 100, 1, sides);
    let found = measured.median("first reference, 10,000 components") / 1e6;
    target("first reference with 10,000 components, duplicates checked", 2.0, found, "ms");

    let [one, many] = programs();
    let mut rows = [Vec::new(), Vec::new()];
    let mut whole = [Vec::new(), Vec::new()];
    for _ in 0..30 {
        for (at, program) in [&one, &many].into_iter().enumerate() {
            let start = Instant::now();
            let said = lcr_tests::stdout(&mut Command::new(program));
            whole[at].push(start.elapsed().as_secs_f64() * 1e3);
            rows[at].push(said.trim().parse::<f64>().unwrap() / 1e6);
        }
    }
    for (at, name) in ["1 component", "10,000 components"].into_iter().enumerate() {
        println!(
            "a program with {name}: first reference {:.3} ms (p90 {:.3}), from start to end {:.2} ms",
            median(rows[at].clone()),
            quantile(rows[at].clone(), 0.9),
            median(whole[at].clone())
        );
    }
    target("first reference in a program with 10,000 components", 2.0, median(rows[1].clone()), "ms");
    criterion.final_summary();
}

/// Two programs that say how many nanoseconds their first reference took.
fn programs() -> [PathBuf; 2] {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("start");
    let core = lcr_tests::workspace().join("lcr-core");
    fs::create_dir_all(place.join("src/bin")).unwrap();
    let write = |name: &str, text: String| {
        let path = place.join(name);
        if fs::read_to_string(&path).ok().as_deref() != Some(&*text) {
            fs::write(path, text).unwrap();
        }
    };
    write(
        "Cargo.toml",
        format!(
            "[workspace]\n[package]\nname = \"start\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             [dependencies]\nlcr-core = {{ path = {core:?} }}\n"
        ),
    );
    let lock = place.join("Cargo.lock");
    if !lock.exists() {
        fs::copy(lcr_tests::workspace().join("Cargo.lock"), lock).unwrap();
    }
    write("src/bin/one.rs", source(1));
    write("src/bin/many.rs", source(COUNT));
    let status = lcr_tests::cargo()
        .current_dir(&place)
        .args(["build", "--release", "--offline", "--target-dir"])
        .arg(place.join("target"))
        .status();
    assert!(status.unwrap().success(), "the programs are built");
    ["one", "many"].map(|name| place.join("target/release").join(name))
}

/// A program with so many components, each a raw interface.
fn source(count: usize) -> String {
    let mut text = String::from(
        r#"use std::ffi::c_void;
use lcr_core::descriptor::{Comp, Iface, Names, RawTable};
use lcr_core::registry::Registration;

extern "C" fn function() {}
static RAW: RawTable<1> = RawTable([function as *const c_void]);
static NOTHING: Names<0> = Names::new([]);

macro_rules! component {
    ($($name:literal)*) => { $( const _: () = {
        static IFACES: [Iface; 1] = [Iface::raw($name, 0, &[], &NOTHING, None, None, &RAW)];
        static COMP: Comp = Comp::new(&IFACES);
        // SAFETY: the descriptor is a constant, and true.
        lcr_core::__register!(unsafe { Registration::new(&COMP, "generated", "start", "0.0.0", "start") });
    }; )* }
}

fn main() {
    let start = std::time::Instant::now();
    // SAFETY: nothing of the table is called.
    let raw = unsafe { lcr_core::reference_raw::<[usize; 1]>("start.0", 0, std::ptr::null_mut()) }.unwrap();
    let took = start.elapsed();
    drop(raw);
    println!("{}", took.as_nanos());
}
"#,
    );
    for first in (0..count).step_by(100) {
        text.push_str("component! {");
        for number in first..(first + 100).min(count) {
            write!(text, " c\"start.{number}\"").unwrap();
        }
        text.push_str(" }\n");
    }
    text
}
