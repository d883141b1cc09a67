//! `.ctors` becomes `.init_array`.
//!
//! Both are arrays of functions that run before `main`. The older one is run by nobody but a
//! linker that turns it into the newer: bfd and gold do, lld does not. So the section is
//! renamed in the object: it gets a name at the end of a new table of names, and the type
//! of an array of constructors. Relocations refer to it by number, and stay as they are.
//! (An array in `.ctors` is run from its end, one in `.init_array` from its beginning:
//! components do not mind.)

use std::fs;
use std::path::Path;

const HEADER: usize = 64;
const SECTION: usize = 64;
const INIT_ARRAY: u32 = 14;

/// Cures the object at `path`, if it needs that. Answers whether it did.
pub(crate) fn cure(path: &Path) -> Result<bool, String> {
    let mut object = fs::read(path).map_err(|error| error.to_string())?;
    let is_cured = cured(&mut object)?;
    if is_cured {
        fs::write(path, object).map_err(|error| error.to_string())?;
    }
    Ok(is_cured)
}

fn cured(object: &mut Vec<u8>) -> Result<bool, String> {
    let is_known = object.len() >= HEADER && object[..6] == *b"\x7fELF\x02\x01";
    if !is_known {
        let holds = object.windows(6).any(|word| word == b".ctors");
        return if holds {
            Err("it has a section .ctors, and is no 64-bit ELF object".into())
        } else {
            Ok(false)
        };
    }
    let wrong = || "its section headers make no sense".to_owned();
    let (start, count, names) = (word(object, 40)? as usize, half(object, 60)?, half(object, 62)?);
    let headers =
        start..start.checked_add(count * SECTION).filter(|end| *end <= object.len()).ok_or_else(wrong)?;
    let header = |at: usize| headers.start + at * SECTION;
    if names >= count {
        // None, or so many that they are counted elsewhere: this is no component.
        return Ok(false);
    }
    let (at, size) = (word(object, header(names) + 24)? as usize, word(object, header(names) + 32)? as usize);
    let table = at.checked_add(size).and_then(|end| object.get(at..end)).ok_or_else(wrong)?.to_vec();
    let name_of = |object: &[u8], section: usize| -> Result<Vec<u8>, String> {
        let offset = four(object, header(section))? as usize;
        let name = table.get(offset..).ok_or_else(wrong)?;
        Ok(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
    };
    let mut sections = Vec::new();
    for section in 0..count {
        let name = name_of(object, section)?;
        if name == b".ctors" || name.starts_with(b".ctors.") {
            sections.push(section);
        }
    }
    if sections.is_empty() {
        return Ok(false);
    }
    let mut table = table;
    let new = u32::try_from(table.len()).map_err(|_| wrong())?;
    table.extend_from_slice(b".init_array\0");
    for section in sections {
        let at = header(section);
        object[at..at + 4].copy_from_slice(&new.to_le_bytes());
        object[at + 4..at + 8].copy_from_slice(&INIT_ARRAY.to_le_bytes());
    }
    let place = object.len() as u64;
    object.extend_from_slice(&table);
    let at = header(names);
    object[at + 24..at + 32].copy_from_slice(&place.to_le_bytes());
    object[at + 32..at + 40].copy_from_slice(&(table.len() as u64).to_le_bytes());
    Ok(true)
}

fn bytes<const N: usize>(object: &[u8], at: usize) -> Result<[u8; N], String> {
    let bytes = object.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "it is cut off".to_owned())
}

fn half(object: &[u8], at: usize) -> Result<usize, String> {
    Ok(u16::from_le_bytes(bytes(object, at)?).into())
}

fn four(object: &[u8], at: usize) -> Result<u32, String> {
    Ok(u32::from_le_bytes(bytes(object, at)?))
}

fn word(object: &[u8], at: usize) -> Result<u64, String> {
    Ok(u64::from_le_bytes(bytes(object, at)?))
}

#[cfg(test)]
mod tests {
    use super::cured;

    #[test]
    fn what_is_no_object_is_left_alone_or_refused() {
        assert_eq!(cured(&mut b"LLVM bitcode".to_vec()), Ok(false));
        assert!(cured(&mut b"BC .ctors".to_vec()).is_err());
        let mut cut = b"\x7fELF\x02\x01".to_vec();
        cut.resize(64, 0xff);
        assert!(cured(&mut cut).is_err());
    }
}
