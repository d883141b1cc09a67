//! The writing side of ELF notes: how a component says in its file what it is.
//!
//! A note is a record that the linker gathers into a segment of its own
//! (`PT_NOTE`), which strip and LTO leave alone and which can be read without
//! running, mapping or understanding the rest of the file. Ours carry one JSON
//! object each; [`metadata`](crate::metadata) is the reading side. A macro emits
//!
//! ```
//! use lcr_core::note::{Note, pad4};
//! use lcr_core::text::{self, Piece};
//!
//! const PIECES: &[Piece] = &[Piece::Str(r#"{"lcr":1,"kind":"example"}"#)];
//!
//! #[used]
//! #[unsafe(link_section = ".note.lcr")]
//! static NOTE: Note<{ pad4(text::len(PIECES)) }> = Note::new(PIECES);
//! ```
//!
//! Invariants: the section's name begins with `.note`, from which the compiler
//! makes its type `SHT_NOTE`; the note is aligned to 4 bytes and its size is a
//! multiple of 4, so that several of them stand one behind the other without a
//! gap; `descsz` is the length of the JSON alone, without the NULs behind it.

use crate::text::{self, Piece};

/// The section that every note of ours stands in.
pub const SECTION: &str = ".note.lcr";

/// The owner of our notes, with the NUL that belongs to it.
pub const OWNER: [u8; 4] = *b"LCR\0";

/// The type of a note whose content is one JSON object.
pub const TYPE_JSON: u32 = 1;

/// `len`, or the next multiple of 4: what a note's content takes in the file.
#[must_use]
pub const fn pad4(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// One note, laid out as ELF wants it.
///
/// `N` is the padded size of the content: [`pad4`] of [`text::len`].
#[repr(C, align(4))]
#[derive(Debug)]
pub struct Note<const N: usize> {
    namesz: u32,
    descsz: u32,
    ntype: u32,
    name: [u8; 4],
    desc: [u8; N],
}

impl<const N: usize> Note<N> {
    /// A note whose content is the text that `pieces` make. The text must be
    /// JSON already: nothing is escaped here.
    ///
    /// # Panics
    ///
    /// At compile time, if `N` is not [`pad4`] of the text's length.
    #[must_use]
    pub const fn new(pieces: &'static [Piece]) -> Note<N> {
        let len = text::len(pieces);
        assert!(N == pad4(len), "a note's size is pad4(text::len(pieces))");
        assert!(len <= u32::MAX as usize, "a note holds less than 4 GiB");
        Note {
            namesz: OWNER.len() as u32,
            descsz: len as u32,
            ntype: TYPE_JSON,
            name: OWNER,
            desc: text::write(&[Piece::List(pieces), Piece::Repeat("\0", N - len)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{align_of, offset_of, size_of};

    use super::*;

    const PIECES: &[Piece] = &[Piece::Str("{\"lcr\":"), Piece::Int(1), Piece::Str("}")];
    const NOTE: Note<{ pad4(text::len(PIECES)) }> = Note::new(PIECES);

    #[test]
    fn a_note_has_the_layout_of_elf() {
        assert_eq!(align_of::<Note<12>>(), 4);
        assert_eq!(size_of::<Note<12>>(), 28);
        assert_eq!(offset_of!(Note<12>, namesz), 0);
        assert_eq!(offset_of!(Note<12>, descsz), 4);
        assert_eq!(offset_of!(Note<12>, ntype), 8);
        assert_eq!(offset_of!(Note<12>, name), 12);
        assert_eq!(offset_of!(Note<12>, desc), 16);
    }

    #[test]
    fn the_size_says_the_text_and_the_padding_is_nul() {
        assert_eq!((NOTE.namesz, NOTE.descsz, NOTE.ntype), (4, 9, 1));
        assert_eq!(&NOTE.name, b"LCR\0");
        assert_eq!(&NOTE.desc, b"{\"lcr\":1}\0\0\0");
    }

    #[test]
    fn padding_goes_to_the_next_multiple_of_four() {
        assert_eq!([0, 1, 3, 4, 5].map(pad4), [0, 4, 4, 4, 8]);
    }
}
