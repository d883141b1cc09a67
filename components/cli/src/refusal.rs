//! Why a command did not do what was asked.

use std::fmt::Display;
use std::io::Write;

use crate::output::plain;

/// The reason in one line, and what else a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) details: Vec<String>,
}

impl Refusal {
    pub(crate) fn new(reason: impl Display) -> Refusal {
        Refusal { reason: reason.to_string(), details: Vec::new() }
    }

    /// Adds a line.
    pub(crate) fn detail(mut self, line: impl Display) -> Refusal {
        self.details.push(line.to_string());
        self
    }

    /// One refusal for those of several things: `what` is what there are `total`
    /// of, with a verb, as "files could not be read". None for none.
    pub(crate) fn of_several(mut all: Vec<Refusal>, total: usize, what: &str) -> Option<Refusal> {
        if all.len() <= 1 {
            return all.pop();
        }
        let mut details = Vec::new();
        let reason = format!("{} of {total} {what}", all.len());
        for Refusal { reason, details: more } in all {
            details.push(reason);
            details.extend(more.into_iter().map(|line| format!("  {line}")));
        }
        Some(Refusal { reason, details })
    }

    /// Writes it to standard error.
    pub(crate) fn print(&self) {
        let mut text = format!("{}lcr: {}{}\n", crate::output::BAD, plain(&self.reason), RESET);
        for line in &self.details {
            text.push_str("  ");
            text.push_str(&plain(line));
            text.push('\n');
        }
        // Where nobody listens, the exit code has to say it.
        let _ = anstream::stderr().write_all(text.as_bytes());
    }
}

const RESET: anstyle::Reset = anstyle::Reset;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_speaks_for_itself_and_several_are_counted() {
        let first = || Refusal::new("a.so: not an ELF file").detail("name a library");
        let second = || Refusal::new("b.so: truncated");
        assert_eq!(Refusal::of_several(vec![], 3, "files could not be read"), None);
        assert_eq!(Refusal::of_several(vec![first()], 3, "files could not be read"), Some(first()));
        let both = Refusal::of_several(vec![first(), second()], 3, "files could not be read").unwrap();
        assert_eq!(both.reason, "2 of 3 files could not be read");
        assert_eq!(both.details, ["a.so: not an ELF file", "  name a library", "b.so: truncated"]);
    }
}
