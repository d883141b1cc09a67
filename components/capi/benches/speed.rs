//! What a C program pays: liblcr against a stand-in that does what the original did
//! (`c/stand_in.c`: a list searched from its beginning, and every file opened in turn).
//!
//! The same program is linked with each, and both take turns in one run; ratios count.
//!
//! ```sh
//! cargo bench -p lcr-capi
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use criterion::Criterion;
use lcr_tests::{Profile, Scratch, build};

const FILES: usize = 1_000;
const ROUNDS: usize = 30;
const COUNTS: [usize; 3] = [1, 100, 1_000];
/// References a process.
const MANY: u64 = 200_000;

struct Program {
    path: PathBuf,
    place: PathBuf,
}

impl Program {
    /// The nanoseconds that it prints.
    fn run(&self, arguments: &[&str]) -> u64 {
        let mut command = Command::new(&self.path);
        command.args(arguments).current_dir(&self.place).env_remove("LCR_PATH").env_remove("LD_LIBRARY_PATH");
        lcr_tests::stdout(&mut command).trim().parse().expect("it prints a number")
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn gcc() -> Command {
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-I"]).arg(package().join("include"));
    gcc
}

/// The program of this many components, with liblcr or the stand-in.
fn program(scratch: &Path, place: &Path, count: Option<usize>, is_ours: bool) -> Program {
    let path = scratch.join(format!("speed-{count:?}-{is_ours}"));
    let mut gcc = gcc();
    gcc.arg("-o").arg(&path).arg(package().join("benches/c/speed.c"));
    gcc.args(count.map(|count| format!("-DCOUNT={count}")));
    if is_ours {
        let built = build(&["lcr-capi"], Profile::Release);
        let directory = built.directory().display();
        gcc.args([format!("-L{directory}"), "-llcr".into(), format!("-Wl,-rpath,{directory}")]);
    } else {
        gcc.arg(package().join("benches/c/stand_in.c")).args(["-rdynamic", "-ldl"]);
    }
    lcr_tests::stdout(&mut gcc);
    Program { path, place: place.to_owned() }
}

/// As many components in files of their own as there are, one interface each.
fn components(place: &Path) {
    let one = place.join("one.lcrso");
    let mut gcc = gcc();
    gcc.args(["-shared", "-fPIC", "-DNAME=\"bench0000\"", "-o"]).arg(&one);
    lcr_tests::stdout(gcc.arg(package().join("tests/c/quiet.c")));
    let bytes = fs::read(&one).unwrap();
    fs::remove_file(&one).unwrap();
    let places: Vec<usize> =
        bytes.windows(9).enumerate().filter(|(_, word)| *word == b"bench0000").map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for number in 0..FILES {
        let name = name(number);
        let mut bytes = bytes.clone();
        for at in &places {
            bytes[*at..*at + 9].copy_from_slice(name.as_bytes());
        }
        fs::write(place.join(format!("{name}.lcrso")), bytes).unwrap();
    }
}

fn name(number: usize) -> String {
    format!("bench{number:04}")
}

/// Both sides, in turns; the medians, in nanoseconds.
fn compare(
    criterion: &mut Criterion,
    title: &str,
    (ours, theirs): (&Program, &Program),
    arguments: &[&str],
    per: u64,
) -> (f64, f64) {
    let mut taken = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (taken, side) in taken.iter_mut().zip([ours, theirs]) {
            taken.push(side.run(arguments) as f64 / per as f64);
        }
    }
    let mut group = criterion.benchmark_group(title);
    for (name, taken) in ["liblcr", "stand-in"].into_iter().zip(&taken) {
        let mut at = 0;
        // Measured above, in turns: what criterion would do one after the other.
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                at = (at + 1) % taken.len();
                Duration::from_nanos((taken[at] * iterations as f64) as u64)
            });
        });
    }
    group.finish();
    let median = |taken: &mut Vec<f64>| {
        taken.sort_by(f64::total_cmp);
        taken[taken.len() / 2]
    };
    let [ours, theirs] = &mut taken;
    (median(ours), median(theirs))
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(ROUNDS)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_millis(100))
        .without_plots();
    let scratch = Scratch::new();
    let (empty, full) = (scratch.path().join("empty"), scratch.path().join("full"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&full).unwrap();
    components(&full);

    let mut lines = Vec::new();
    let many = MANY.to_string();
    for count in COUNTS {
        let [ours, theirs] =
            [true, false].map(|is_ours| program(scratch.path(), &empty, Some(count), is_ours));
        let title = format!("reference and release, {count} static");
        let (ours, theirs) = compare(&mut criterion, &title, (&ours, &theirs), &["static", &many], MANY);
        lines.push(format!("{title}: {ours:.0} ns, stand-in {theirs:.0} ns (target: 100 ns, flat)"));
    }
    let [ours, theirs] = [true, false].map(|is_ours| program(scratch.path(), &full, None, is_ours));
    let (middle, last) = (name(FILES / 2), name(FILES - 1));
    for (title, arguments, target) in [
        ("first reference of 1,000 files, cold", vec!["first", &last], 4.0),
        ("first reference of 1,000 files, indexed", vec!["next", &middle, &last], 20.0),
    ] {
        let (ours, theirs) = compare(&mut criterion, title, (&ours, &theirs), &arguments, 1);
        lines.push(format!(
            "{title}: {:.2} ms, stand-in {:.2} ms: 1/{:.1} (target: 1/{target})",
            ours / 1e6,
            theirs / 1e6,
            theirs / ours
        ));
    }
    println!("\n{}", lines.join("\n"));
}
