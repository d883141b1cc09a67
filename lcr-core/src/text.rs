//! Text that is put together at compile time.
//!
//! A metadata note and a method's shape depend on types, and stable Rust cannot
//! concatenate what a generic constant says. So text is described as a tree of
//! [`Piece`]s: a type's part is a constant `&'static [Piece]`, another type's
//! part points to it, and at the end, where the types are known, [`write()`]
//! flattens the tree into a byte array whose size [`len`] has measured.
//!
//! Everything here is `const fn` and runs in the compiler only.

/// A part of a compile-time text.
#[derive(Clone, Copy, Debug)]
pub enum Piece {
    /// These bytes as they are. Quotes and backslashes are not escaped.
    Str(&'static str),
    /// A number in decimal.
    Int(i64),
    /// A number as sixteen hexadecimal digits.
    Hex(u64),
    /// The parts of another text.
    List(&'static [Piece]),
    /// `n` times this.
    Repeat(&'static str, usize),
}

/// The length in bytes of the text that `pieces` make.
#[must_use]
pub const fn len(pieces: &[Piece]) -> usize {
    let mut total = 0;
    let mut i = 0;
    while i < pieces.len() {
        total += match pieces[i] {
            Piece::Str(s) => s.len(),
            Piece::Int(n) => decimal(n).1,
            Piece::Hex(_) => 16,
            Piece::List(l) => len(l),
            Piece::Repeat(s, n) => s.len() * n,
        };
        i += 1;
    }
    total
}

/// The text itself. `N` must be what [`len`] says of the same pieces.
///
/// # Panics
///
/// At compile time, if `N` is another number.
#[must_use]
pub const fn write<const N: usize>(pieces: &[Piece]) -> [u8; N] {
    let (out, end) = append([0; N], 0, pieces);
    assert!(end == N, "the text has another length than its array");
    out
}

/// FNV-1a, 64 bits, of the text that `pieces` make.
///
/// Source: <http://www.isthe.com/chongo/tech/comp/fnv/>.
#[must_use]
pub const fn hash(pieces: &[Piece]) -> u64 {
    hash_on(0xcbf2_9ce4_8422_2325, pieces)
}

const fn hash_on(mut hash: u64, pieces: &[Piece]) -> u64 {
    let mut i = 0;
    while i < pieces.len() {
        match pieces[i] {
            Piece::List(l) => hash = hash_on(hash, l),
            Piece::Str(s) => hash = hash_bytes(hash, s.as_bytes(), s.len()),
            Piece::Int(n) => {
                let (digits, count) = decimal(n);
                hash = hash_bytes(hash, &digits, count);
            }
            Piece::Hex(n) => hash = hash_bytes(hash, &hex(n), 16),
            Piece::Repeat(s, n) => {
                let mut k = 0;
                while k < n {
                    hash = hash_bytes(hash, s.as_bytes(), s.len());
                    k += 1;
                }
            }
        }
        i += 1;
    }
    hash
}

const fn hash_bytes(mut hash: u64, bytes: &[u8], count: usize) -> u64 {
    let mut i = 0;
    while i < count {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

const fn append<const N: usize>(mut out: [u8; N], mut at: usize, pieces: &[Piece]) -> ([u8; N], usize) {
    let mut i = 0;
    while i < pieces.len() {
        match pieces[i] {
            Piece::List(l) => (out, at) = append(out, at, l),
            Piece::Str(s) => (out, at) = copy(out, at, s.as_bytes(), s.len()),
            Piece::Int(n) => {
                let (digits, count) = decimal(n);
                (out, at) = copy(out, at, &digits, count);
            }
            Piece::Hex(n) => (out, at) = copy(out, at, &hex(n), 16),
            Piece::Repeat(s, n) => {
                let mut k = 0;
                while k < n {
                    (out, at) = copy(out, at, s.as_bytes(), s.len());
                    k += 1;
                }
            }
        }
        i += 1;
    }
    (out, at)
}

const fn copy<const N: usize>(mut out: [u8; N], at: usize, bytes: &[u8], count: usize) -> ([u8; N], usize) {
    let mut i = 0;
    while i < count {
        out[at + i] = bytes[i];
        i += 1;
    }
    (out, at + count)
}

/// The decimal digits of `n`, from the left, and how many they are.
const fn decimal(n: i64) -> ([u8; 20], usize) {
    let mut reversed = [0; 20];
    let mut rest = n.unsigned_abs();
    let mut count = 0;
    loop {
        reversed[count] = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        reversed[count] = b'-';
        count += 1;
    }
    let mut digits = [0; 20];
    let mut i = 0;
    while i < count {
        digits[i] = reversed[count - 1 - i];
        i += 1;
    }
    (digits, count)
}

const fn hex(n: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    let mut i = 0;
    while i < 16 {
        digits[i] = b"0123456789abcdef"[(n >> (60 - 4 * i)) as usize & 15];
        i += 1;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: &[Piece] = &[Piece::Str("Vec<"), Piece::Str("u8"), Piece::Str(">")];
    const OUTER: &[Piece] =
        &[Piece::List(INNER), Piece::Int(-12), Piece::Hex(0xab), Piece::Repeat("x", 3), Piece::Int(0)];

    #[test]
    fn pieces_are_flattened_in_order() {
        const TEXT: [u8; len(OUTER)] = write(OUTER);
        assert_eq!(TEXT, *b"Vec<u8>-1200000000000000abxxx0");
    }

    #[test]
    fn the_extreme_numbers_fit() {
        const PIECES: &[Piece] = &[Piece::Int(i64::MIN), Piece::Str(" "), Piece::Int(i64::MAX)];
        const TEXT: [u8; len(PIECES)] = write(PIECES);
        assert_eq!(TEXT, *b"-9223372036854775808 9223372036854775807");
    }

    #[test]
    fn the_hash_is_of_the_text_and_not_of_the_tree() {
        assert_eq!(hash(INNER), hash(&[Piece::Str("Vec<u8>")]));
        // The published test vector of FNV-1a for "foobar".
        assert_eq!(hash(&[Piece::Str("foobar")]), 0x85944171f73967e8);
    }
}
