//! Standard output: styled where that is wanted, and not upset by who reads it.
//!
//! Colour is for terminals that have not said `NO_COLOR`; `anstream` takes it out
//! elsewhere. A reader that leaves early (`lcr list | head -1`) is no failure: what
//! comes after is dropped, and the exit code stays what it would have been. A disk
//! that is full is one.
//!
//! Text from files goes through [`plain`] before a person sees it: a note is whatever
//! its author put into it, escape sequences included.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};

use crate::refusal::Refusal;

/// Headings.
pub(crate) const HEAD: Style = Style::new().underline();
/// What a line is about.
pub(crate) const NAME: Style = Style::new().bold();
/// What is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What deserves a look.
pub(crate) const ODD: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// What can be passed over.
pub(crate) const DIM: Style = Style::new().dimmed();

/// Standard output.
pub(crate) struct Output {
    stream: AutoStream<io::Stdout>,
    width: Option<usize>,
    failed: Option<io::Error>,
}

impl Output {
    pub(crate) fn new() -> Output {
        Output { stream: AutoStream::auto(io::stdout()), width: width(), failed: None }
    }

    /// The columns that a line may take; `None` where nobody minds.
    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// Prints `text`, which ends its lines itself.
    pub(crate) fn print(&mut self, text: impl AsRef<str>) {
        if self.failed.is_none() {
            let wrote = self.stream.write_all(text.as_ref().as_bytes()).and_then(|()| self.stream.flush());
            self.failed = wrote.err();
        }
    }

    /// Prints a document for programs.
    pub(crate) fn json(&mut self, document: &serde_json::Value) {
        self.print(format!("{document:#}\n"));
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.failed.is_some()
    }

    /// Whether what was printed has arrived, or was not wanted.
    pub(crate) fn finish(self) -> crate::Result {
        match self.failed {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Refusal::new(format!("cannot write to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }
}

/// What the user says in `COLUMNS`, else the terminal's width.
fn width() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let seen = || rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok().map(|size| size.ws_col.into());
    said.or_else(seen).filter(|&columns| columns > 0)
}

/// `text` in `style`.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{}{style:#}", plain(text))
}

/// `text` without what would play tricks with a terminal.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    // Marks that turn the direction of the text can make one name look like another.
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let tricky = |c: char| c.is_control() || turns(c);
    if !text.contains(tricky) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if tricky(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// A path for people.
pub(crate) fn path(path: &Path) -> String {
    plain(&path.to_string_lossy()).into_owned()
}

/// `1 library`, `2 libraries`.
pub(crate) fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_turned_text_are_shown_not_obeyed() {
        assert_eq!(plain("grüße → ok"), "grüße → ok");
        assert_eq!(plain("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\u{a}c");
        assert_eq!(plain("x\u{202e}y"), "x\\u{202e}y");
    }
}
