//! Files that were cut off or altered: the reader answers, and never panics.

use std::fs;
use std::path::Path;

use lcr_core::metadata::Metadata;

use crate::builder::{Elf, PT_DYNAMIC, PT_INTERP, Segment, lcr_note, note};
use crate::{ENGLISH, GREETER, LIBRARY};

/// xorshift64*: the same numbers in every run.
/// Source: <https://doi.org/10.1145/2845077>.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

fn parse(bytes: &[u8]) -> Result<Metadata, String> {
    Metadata::parse(bytes, Path::new("hostile.so")).map_err(|error| error.to_string())
}

/// Files with all that the reader knows, and this very program's beginning with
/// its real headers.
fn files() -> Vec<Vec<u8>> {
    let dynamic = [14u64, 1, 0x6fff_fffb, 0x0800_0001, 0, 0].map(u64::to_le_bytes).concat();
    let full = Elf::library()
        .with(Segment::new(PT_DYNAMIC, 8, dynamic))
        .with(Segment::notes(&[
            note(b"GNU\0", 3, &[7; 20]),
            vec![0; 32],
            lcr_note(ENGLISH),
            lcr_note(GREETER),
        ]))
        .with(Segment::notes(&[lcr_note(LIBRARY)]));
    let program = Elf::with_json(&[ENGLISH]).with(Segment::new(PT_INTERP, 1, "/lib/ld.so\0"));
    let own = fs::read(std::env::current_exe().unwrap()).unwrap();
    vec![full.build(), program.build(), own]
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    for whole in &files()[..2] {
        assert!(parse(whole).is_ok());
        // The program's last segment is not read, only known to be there.
        for length in 0..whole.len() - 11 {
            let message = parse(&whole[..length]).expect_err("it is cut off");
            let wanted = if length < 4 { "not an ELF file" } else { "truncated" };
            assert!(message.contains(wanted), "{length}: {message}");
        }
    }
}

#[test]
fn altered_files_never_make_the_reader_panic() {
    const EXTREMES: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
    let mut random = Random(0x4c43_5221);
    let (mut sound, mut refused) = (0, 0);
    for whole in files() {
        // Headers and notes stand at the beginning.
        let area = whole.len().min(2048);
        let mut bytes = whole.clone();
        for _ in 0..20_000 {
            for _ in 0..=random.below(4) {
                let at = random.below(area);
                match random.below(3) {
                    0 => bytes[at] = random.next() as u8,
                    1 => bytes[at] ^= 1 << random.below(8),
                    _ => {
                        let value = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
                        let count = [1, 2, 4, 8][random.below(4)].min(area - at);
                        bytes[at..at + count].copy_from_slice(&value[..count]);
                    }
                }
            }
            match parse(&bytes) {
                Ok(_) => sound += 1,
                Err(_) => refused += 1,
            }
            bytes[..area].copy_from_slice(&whole[..area]);
        }
    }
    // Both paths were walked, or the loop shows nothing.
    assert!(sound > 1_000 && refused > 1_000, "{sound} sound, {refused} refused");
}
