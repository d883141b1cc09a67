//! Who asks for locks: a guest, as its host describes it.

use std::fmt;
use std::str::FromStr;

use lcr_core::Abi;

/// A guest: what runs under locks. Names, for people; a uuid, for programs; a
/// process, for the kernel.
#[derive(Abi, Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// Its host's number for it, where it has one. Only shown.
    pub id: Option<u32>,
    /// What it is, on every host and across restarts.
    pub uuid: Uuid,
    /// What people call it.
    pub name: String,
    /// The process that it is, once there is one: locks live as long as that.
    pub pid: Option<u32>,
    /// How the guest's manager is reached from its host, for failure actions.
    pub uri: Option<String>,
}

impl Guest {
    /// A guest that has no process yet.
    #[must_use]
    pub fn new(name: impl Into<String>, uuid: Uuid) -> Self {
        Guest { uuid, name: name.into(), ..Guest::default() }
    }

    /// The same guest, as this process.
    #[must_use]
    pub fn with_pid(self, pid: u32) -> Self {
        Guest { pid: Some(pid), ..self }
    }
}

/// Sixteen bytes that nobody else has, written as
/// `6ba7b810-9dad-11d1-80b4-00c04fd430c8`.
#[derive(Abi, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(
    /// The bytes, in the order in which they are written.
    pub [u8; 16],
);

impl Uuid {
    /// One that nobody else has: random, from the kernel.
    ///
    /// # Errors
    ///
    /// `/proc` is not there.
    pub fn random() -> std::io::Result<Uuid> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        text.trim().parse().map_err(std::io::Error::other)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if [4, 6, 8, 10].contains(&at) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no uuid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no uuid: write 32 hexadecimal digits, as in 6ba7b810-9dad-11d1-80b4-00c04fd430c8")]
pub struct NoUuid(String);

impl FromStr for Uuid {
    type Err = NoUuid;

    fn from_str(text: &str) -> Result<Self, NoUuid> {
        let digits: Option<Vec<u8>> = text
            .bytes()
            .filter(|byte| *byte != b'-')
            .map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let no = || NoUuid(text.to_owned());
        let (pairs, rest) = digits.as_deref().ok_or_else(no)?.as_chunks::<2>();
        if pairs.len() != 16 || !rest.is_empty() {
            return Err(no());
        }
        let mut bytes = [0; 16];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = high << 4 | low;
        }
        Ok(Uuid(bytes))
    }
}

/// The number by which a driver knows one description of a guest, from
/// [`open`](crate::Driver::open) to [`close`](crate::Driver::close).
///
/// It stays the same when the driver is replaced live, and means nothing to another
/// driver or another process.
#[derive(Abi, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(
    /// The number.
    pub u64,
);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "owner {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_as_it_is_written() {
        let text = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        assert_eq!(text.parse::<Uuid>().unwrap().to_string(), text);
        assert_eq!(text.replace('-', "").parse::<Uuid>().unwrap().to_string(), text);
        for wrong in ["", "6ba7b810", &text[1..], &text.replace('6', "g"), &format!("{text}00")] {
            let error = wrong.parse::<Uuid>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{wrong}` is no uuid")), "{error}");
        }
    }

    #[test]
    fn a_random_uuid_is_never_the_same() {
        assert_ne!(Uuid::random().unwrap(), Uuid::random().unwrap());
    }
}
