//! Libraries with a header that lies: each is refused, or it loads and works. None may
//! crash the program that is shown it.
//!
//! Every field of every program header, and those of the ELF header that lead to them,
//! is changed in several ways. What is not refused is loaded and used, in a child
//! process: where that dies, the mutant is named. The library has its section headers, as
//! nearly all have; without them some of these mutants do crash (`src/elf.rs` says which).

mod libraries;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicUsize;

use lcr_core::library::{Candidate, Policy};
use libraries::{Worker, built, scratch};

const HEADER: usize = 64;
const ENTRY: usize = 56;
/// The fields of a program header: name, place, size.
const FIELDS: [(&str, usize, usize); 8] = [
    ("type", 0, 4),
    ("flags", 4, 4),
    ("offset", 8, 8),
    ("vaddr", 16, 8),
    ("paddr", 24, 8),
    ("filesz", 32, 8),
    ("memsz", 40, 8),
    ("align", 48, 8),
];

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[at..at + size]);
    u64::from_le_bytes(word)
}

fn set(bytes: &mut [u8], at: usize, size: usize, value: u64) {
    bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

/// A good library: what is loaded of it, and its section headers behind that. The rest,
/// some megabytes of debugging information, is for nobody here.
fn good() -> Vec<u8> {
    const SECTION: usize = 64;
    let whole = fs::read(built("libone.so")).unwrap();
    let loaded = entries(&whole).filter(|&at| number(&whole, at, 4) == 1);
    let end = loaded.map(|at| number(&whole, at + 8, 8) + number(&whole, at + 32, 8)).max().unwrap();
    let mut bytes = whole[..end.next_multiple_of(8) as usize].to_vec();
    let (table, count) = (number(&whole, 40, 8) as usize, number(&whole, 60, 2) as usize);
    let names = table + number(&whole, 62, 2) as usize * SECTION;
    let (offset, size) = (number(&whole, names + 24, 8) as usize, number(&whole, names + 32, 8) as usize);
    let at = bytes.len() as u64;
    bytes.extend(&whole[table..table + count * SECTION]);
    set(&mut bytes, 40, 8, at);
    let end = bytes.len() as u64;
    set(&mut bytes, at as usize + names - table + 24, 8, end);
    bytes.extend(&whole[offset..offset + size]);
    bytes
}

/// Where each program header stands.
fn entries(bytes: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let count = number(bytes, 56, 2) as usize;
    let table = number(bytes, 32, 8) as usize;
    (0..count).map(move |index| table + index * ENTRY)
}

/// What it is, and each change: where, how many bytes, and to what.
type Mutant = (String, Vec<(usize, usize, u64)>);

fn mutants(bytes: &[u8]) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for (index, entry) in entries(bytes).enumerate() {
        let kind = number(bytes, entry, 4);
        for (name, place, size) in FIELDS {
            let at = entry + place;
            let old = number(bytes, at, size);
            let new: Vec<u64> = match name {
                "type" => vec![0, 1, 2, 4, 7, 0x6474_e550, 0x6474_e552, 0x6fff_ffff],
                "flags" => (0..8).collect(),
                "align" => vec![0, 1, 2, 3, 8, 64, 4096, 0x3000, 1 << 21, 1 << 40, u64::MAX],
                _ => vec![
                    0,
                    1,
                    old.wrapping_add(1),
                    old.wrapping_sub(1),
                    old ^ 8,
                    old ^ 0x100,
                    old.wrapping_add(0x1000),
                    old.wrapping_sub(0x1000),
                    old.wrapping_add(0x10000),
                    old / 2,
                    old ^ 1 << 31,
                    old ^ 1 << 47,
                    u64::MAX - 7,
                ],
            };
            let differs = new.into_iter().filter(|new| *new != old);
            mutants.extend(differs.map(|new| {
                let what = format!("header {index} (type {kind:#x}): {name} {old:#x} is {new:#x}");
                (what, vec![(at, size, new)])
            }));
        }
    }
    for (name, at, size) in [("phoff", 32, 8), ("phentsize", 54, 2), ("phnum", 56, 2), ("entry", 24, 8)] {
        let old = number(bytes, at, size);
        for new in [0, 1, old + 1, old.wrapping_sub(1), old + 56, old * 2, 0xffff] {
            if new != old {
                mutants.push((format!("ELF header: {name} {old:#x} is {new:#x}"), vec![(at, size, new)]));
            }
        }
    }
    // And any one to six bytes of them, the same in every run: xorshift64*,
    // <https://doi.org/10.1145/2845077>.
    let mut state = 0x4c43_5221_u64;
    let mut below = |end: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    };
    let end = entries(bytes).last().unwrap() + ENTRY;
    for number in 0..400 {
        let count = 1 + below(6);
        let changes: Vec<_> = (0..count).map(|_| (below(end), 1, below(256) as u64)).collect();
        mutants.push((format!("random {number}: {changes:x?}"), changes));
    }
    mutants
}

/// In the child: each mutant from this number on; the last number said is that of the one
/// that killed it.
const FROM: &str = "LCR_TEST_MUTANTS_FROM";
const PATH: &str = "LCR_TEST_MUTANT";

#[test]
fn the_child_loads_what_is_not_refused() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let Ok(from) = std::env::var(FROM) else { return };
    let from: usize = from.parse().unwrap();
    let path = PathBuf::from(std::env::var_os(PATH).unwrap());
    let whole = fs::read(path.with_file_name("good.so")).unwrap();
    // What stands behind the headers never changes.
    fs::write(&path, &whole).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let rewrite = |bytes: &[u8]| std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
    for (index, (_, changes)) in mutants(&whole).into_iter().enumerate().skip(from) {
        println!("\nmutant {index}");
        let mut head = whole[..HEADER + 32 * ENTRY].to_vec();
        for (at, size, value) in changes {
            set(&mut head, at, size, value);
        }
        rewrite(&head);
        let loaded = Candidate::open(&path, &Policy::default()).and_then(Candidate::load);
        match loaded {
            Err(error) => {
                assert!(error.to_string().contains("mutant.so: "), "{error}");
                println!("refused {index} {error}");
            }
            Ok(library) => {
                let worker = Worker::of(&library);
                assert_eq!((worker.version)(), 1);
                assert_eq!((worker.busy)(&DROPS), 42);
                println!("works {index}");
                // It stays mapped: what cannot be unloaded is another question.
            }
        }
    }
    println!("all done");
}

#[test]
fn a_header_that_lies_is_refused_or_harmless() {
    let directory = scratch("headers");
    let path = directory.join("mutant.so");
    let whole = good();
    fs::write(directory.join("good.so"), &whole).unwrap();
    let mutants = mutants(&whole);
    let (mut from, mut works, mut refused, mut killed) = (0, 0, 0, Vec::new());
    loop {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_child_loads_what_is_not_refused", "--nocapture", "--test-threads=1"])
            .env(FROM, from.to_string())
            .env(PATH, &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        works += said.matches("works ").count();
        refused += said.matches("refused ").count();
        if said.contains("all done") {
            break;
        }
        let last = said.lines().rev().find_map(|line| line.strip_prefix("mutant ")?.parse::<usize>().ok());
        let last = last.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
        killed.push(format!("{}: {}", mutants[last].0, output.status));
        from = last + 1;
    }
    println!("{} mutants: {refused} refused, {works} work, {} killed", mutants.len(), killed.len());
    assert!(killed.is_empty(), "{} of {}:\n{}", killed.len(), mutants.len(), killed.join("\n"));
    // Both paths were walked, or the loop shows nothing.
    assert!(refused > 300 && works > 50, "{refused} refused, {works} work");
}

/// What stands behind the data in the file would be read as variables that begin with 0.
#[test]
fn zeros_that_the_file_would_fill_are_refused() {
    let mut bytes = good();
    let has_zeros =
        |&at: &usize| number(&bytes, at, 4) == 1 && number(&bytes, at + 32, 8) < number(&bytes, at + 40, 8);
    let data =
        entries(&bytes).filter(has_zeros).last().expect("every library has variables that begin with 0");
    let rest = bytes.len() as u64 - number(&bytes, data + 8, 8);
    let longest = rest.min(number(&bytes, data + 40, 8));
    set(&mut bytes, data + 32, 8, longest);
    let path = scratch("zeros").join("filled.so");
    fs::write(&path, &bytes).unwrap();
    let error = Candidate::open(&path, &Policy::default()).unwrap_err().to_string();
    assert!(error.contains("which begins with zeros, and with other bytes of the file"), "{error}");
}
