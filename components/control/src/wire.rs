//! Varlink's messages: JSON, each ended by a NUL byte.
//!
//! A [`Framer`] takes bytes as they come, in pieces of any size, and looks at each
//! of them once.

/// The longest request, in bytes without its NUL.
pub const LIMIT: usize = 1 << 20;

/// Bytes that came, and are not whole messages yet.
#[derive(Debug)]
pub(crate) struct Framer {
    bytes: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    /// There is no NUL between there and here.
    looked: usize,
    limit: usize,
}

/// A message is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Framer {
    pub(crate) fn new(limit: usize) -> Framer {
        Framer { bytes: Vec::new(), start: 0, looked: 0, limit }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.looked -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether what was pushed holds an answer of [`next`](Self::next).
    pub(crate) fn has_message(&self) -> bool {
        self.bytes.len() - self.start > self.limit || self.bytes[self.looked..].contains(&0)
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLarge> {
        let end = self.bytes[self.looked..].iter().position(|&byte| byte == 0).map(|at| self.looked + at);
        match end {
            Some(end) if end - self.start <= self.limit => {
                let message = self.bytes[self.start..end].to_vec();
                self.start = end + 1;
                self.looked = self.start;
                Ok(Some(message))
            }
            None if self.bytes.len() - self.start <= self.limit => {
                self.looked = self.bytes.len();
                Ok(None)
            }
            _ => Err(TooLarge),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_came_in() {
        let bytes = b"{\"a\":1}\0\0{\"b\":2}\0{";
        for size in 1..bytes.len() {
            let mut framer = Framer::new(100);
            let mut messages = Vec::new();
            for piece in bytes.chunks(size) {
                framer.push(piece);
                while let Some(message) = framer.next().unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, [&b"{\"a\":1}"[..], b"", b"{\"b\":2}"], "in pieces of {size}");
            assert!(!framer.has_message());
        }
    }

    #[test]
    fn the_limit_is_for_the_message_and_is_noticed_before_its_end() {
        let mut framer = Framer::new(4);
        framer.push(b"1234\0");
        assert_eq!(framer.next(), Ok(Some(b"1234".to_vec())));
        framer.push(b"1234");
        assert_eq!(framer.next(), Ok(None));
        framer.push(b"5");
        assert_eq!(framer.next(), Err(TooLarge));
        let mut framer = Framer::new(4);
        framer.push(b"12345\0");
        assert_eq!(framer.next(), Err(TooLarge));
    }
}
