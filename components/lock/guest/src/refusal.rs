//! Why something was not done.

use std::fmt::Display;
use std::io::Write as _;

/// The reason in one line, and what else a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) details: Vec<String>,
    /// The exit code, if it is not the command's usual one.
    pub(crate) code: Option<u8>,
}

impl Refusal {
    pub(crate) fn new(reason: impl Display) -> Refusal {
        Refusal { reason: reason.to_string(), details: Vec::new(), code: None }
    }

    /// Adds a line.
    pub(crate) fn detail(mut self, line: impl Display) -> Refusal {
        self.details.push(line.to_string());
        self
    }

    /// With another exit code.
    pub(crate) fn code(self, code: u8) -> Refusal {
        Refusal { code: Some(code), ..self }
    }

    /// Writes it to standard error.
    pub(crate) fn print(&self) {
        let mut text = String::new();
        let mut line = |start: &str, line: &str| text.extend([start, &plain(line), "\n"]);
        line("lcr-guest: ", &self.reason);
        self.details.iter().for_each(|detail| line("  ", detail));
        // Where nobody listens, the exit code has to say it.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// Says something on standard error that is no refusal.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "lcr-guest: {}", plain(&text.to_string()));
}

/// `text` without what would play tricks with a terminal.
pub(crate) fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_control() { c.escape_unicode().collect() } else { c.to_string() };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_shown_not_obeyed() {
        assert_eq!(plain("grüße\x1b[2J\n"), "grüße\\u{1b}[2J\\u{a}");
    }
}
