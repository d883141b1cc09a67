//! The little that `check` says about a file beyond its notes: whether a program is
//! fully static, and which shared objects a library needs.
//!
//! Read by the program headers, from files that
//! [`Metadata`](lcr_core::metadata::Metadata) has read before, which has compared the
//! headers with the file's size. What is still not as it should be is an error.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// What a file asks of the dynamic linker.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Linkage {
    /// Whether it names the dynamic linker that shall start it.
    pub(crate) is_started_by_linker: bool,
    /// The shared objects that it needs.
    pub(crate) needed: Vec<String>,
}

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERP: u32 = 3;
const NEEDED: u64 = 1;
const STRTAB: u64 = 5;
/// No table is larger: a lying header must not make us allocate.
const LARGEST: u64 = 1 << 20;
/// No name is longer.
const LONGEST: usize = 4096;

impl Linkage {
    pub(crate) fn read(path: &Path) -> io::Result<Linkage> {
        // Without O_NONBLOCK the open would wait for the other end of a pipe.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let header = take(&file, 0, 64)?;
        let count = u64::from(u16::from_le_bytes([header[56], header[57]]));
        let headers = take(&file, word(&header, 32), count * 56)?;
        let headers: Vec<&[u8]> = headers.chunks_exact(56).collect();
        let kind = |header: &&&[u8]| u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let is_started_by_linker = headers.iter().any(|header| kind(&header) == INTERP);
        let mut needed = Vec::new();
        if let Some(dynamic) = headers.iter().find(|header| kind(header) == DYNAMIC) {
            let entries = take(&file, word(dynamic, 8), word(dynamic, 32))?;
            let entries: Vec<(u64, u64)> = entries
                .chunks_exact(16)
                .map(|entry| (word(entry, 0), word(entry, 8)))
                .take_while(|entry| entry.0 != 0)
                .collect();
            // The table's address is that of the mapped file.
            let strings = entries.iter().find(|entry| entry.0 == STRTAB).and_then(|&(_, address)| {
                headers.iter().filter(|header| kind(header) == LOAD).find_map(|header| {
                    let within = address.checked_sub(word(header, 16))?;
                    (within < word(header, 32)).then(|| word(header, 8).checked_add(within))?
                })
            });
            for &(_, offset) in entries.iter().filter(|entry| entry.0 == NEEDED) {
                let at = strings.and_then(|strings| strings.checked_add(offset));
                needed.push(name(&file, at.ok_or(io::ErrorKind::InvalidData)?)?);
            }
        }
        Ok(Linkage { is_started_by_linker, needed })
    }
}

fn take(file: &File, offset: u64, size: u64) -> io::Result<Vec<u8>> {
    if size > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn name(file: &File, offset: u64) -> io::Result<String> {
    let mut bytes = vec![0; LONGEST];
    let length = file.read_at(&mut bytes, offset)?;
    let end = bytes[..length].iter().position(|&byte| byte == 0).ok_or(io::ErrorKind::InvalidData)?;
    Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_needs_the_c_library() {
        let linkage = Linkage::read(&std::env::current_exe().unwrap()).unwrap();
        if cfg!(target_feature = "crt-static") {
            assert_eq!(linkage, Linkage::default());
        } else {
            assert!(linkage.is_started_by_linker);
            assert!(linkage.needed.iter().any(|name| name.starts_with("libc.")), "{linkage:?}");
        }
    }

    #[test]
    fn a_text_is_an_error() {
        assert!(Linkage::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).is_err());
    }
}
