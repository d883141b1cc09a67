//! Tables that fit where they are printed.
//!
//! Columns are as wide as what they hold. Where the line is shorter than that, the
//! widest column gives way first, and its texts go on in the next line, broken where
//! a person would break them: behind a space, a comma or a slash. Where no line has an
//! end, in a pipe or a file, one long text does not draw the others out: nothing is
//! aligned behind [`FAR`], and a row costs what it says.

use std::fmt::Write;

use anstyle::Style;

use crate::output::{HEAD, plain};

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// A text and how it is printed.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>, style: Style) -> Cell {
        Cell { text: plain(text.as_ref()).into_owned(), style }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(text, Style::new())
    }
}

/// Between columns.
const GAP: usize = 2;
/// A column is not made narrower than this, nor than its heading,
const NARROW: usize = 8;
/// unless nothing else helps: then not narrower than this.
const NARROWEST: usize = 4;
/// Where no width is known, spaces do not go on behind this column.
const FAR: usize = 100;

impl Table {
    /// A table under these headings; without any if they are all empty.
    pub(crate) fn new<const N: usize>(head: [&'static str; N]) -> Table {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.head.len());
        self.rows.push(cells.to_vec());
    }

    /// The lines, each `indent` columns in, none longer than `width` where that can be.
    pub(crate) fn render(&self, indent: usize, width: Option<usize>) -> String {
        let widths = self.widths(width.map(|width| width.saturating_sub(indent)));
        let far = if width.is_some() { usize::MAX } else { FAR };
        let mut out = String::new();
        if self.head.iter().any(|head| !head.is_empty()) {
            let head: Vec<Cell> = self.head.iter().map(|head| Cell::new(head, HEAD)).collect();
            line(&mut out, &head, &widths, indent, far);
        }
        for row in &self.rows {
            line(&mut out, row, &widths, indent, far);
        }
        out
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.head.iter().map(|head| head.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let Some(limit) = limit else { return widths };
        let gaps = GAP * widths.len().saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(limit);
        let heads: Vec<usize> = self.head.iter().map(|head| head.chars().count()).collect();
        for least in [heads.iter().map(|&head| head.max(NARROW)).collect(), vec![NARROWEST; heads.len()]] {
            while excess > 0 {
                let wide = widths.iter_mut().zip(&least).filter(|(width, least)| **width > **least);
                let Some((widest, _)) = wide.max_by_key(|(width, _)| **width) else { break };
                *widest -= 1;
                excess -= 1;
            }
        }
        widths
    }
}

/// One row, in as many lines as its cells need. A cell begins in its column, or as soon
/// as it can behind `far`.
fn line(out: &mut String, cells: &[Cell], widths: &[usize], indent: usize, far: usize) {
    let wrapped: Vec<Vec<&str>> =
        cells.iter().zip(widths).map(|(cell, &width)| wrap(&cell.text, width)).collect();
    for at in 0..wrapped.iter().map(Vec::len).max().unwrap_or(0) {
        // Where the column begins, and where the text before it ends.
        let (mut column, mut end) = (indent, None);
        for ((cell, pieces), width) in cells.iter().zip(&wrapped).zip(widths) {
            let piece = pieces.get(at).copied().unwrap_or("");
            if !piece.is_empty() {
                let style = cell.style;
                let soonest = end.map_or(indent, |end| end + GAP);
                let begin = column.min(far.max(soonest));
                // Spaces are written when something comes behind them: no line ends in one.
                let pad = begin.saturating_sub(end.unwrap_or(0));
                let _ = write!(out, "{:pad$}{style}{piece}{style:#}", "");
                end = Some(begin + piece.chars().count());
            }
            column += width + GAP;
        }
        out.push('\n');
    }
}

/// `text` in pieces of at most `width`.
fn wrap(text: &str, width: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        let Some((end, _)) = rest.char_indices().nth(width.max(1)) else {
            pieces.push(rest);
            return pieces;
        };
        // A space at the very break is the break.
        let within = &rest[..end + rest[end..].starts_with(' ') as usize];
        let cut = within.rfind([' ', ',', '/']).map(|at| at + 1).filter(|&at| at > 0).unwrap_or(end);
        pieces.push(rest[..cut].trim_end());
        rest = rest[cut..].trim_start();
        if rest.is_empty() {
            return pieces;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["INTERFACE", "VERSION", "FILE"]);
        table.row(["greeter".into(), "2".into(), "/opt/lcr/lib/libenglish.so".into()]);
        table.row(["clock".into(), "10".into(), "/opt/x.so".into()]);
        table
    }

    fn unstyled(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_are_as_wide_as_what_they_hold() {
        let expected = "INTERFACE  VERSION  FILE\n\
                        greeter    2        /opt/lcr/lib/libenglish.so\n\
                        clock      10       /opt/x.so\n";
        assert_eq!(unstyled(&table().render(0, None)), expected);
        assert_eq!(unstyled(&table().render(0, Some(46))), expected);
    }

    #[test]
    fn the_widest_column_gives_way_and_breaks_behind_a_slash() {
        let expected = "  INTERFACE  VERSION  FILE\n\
                        \x20 greeter    2        /opt/lcr/lib/\n\
                        \x20                     libenglish.so\n\
                        \x20 clock      10       /opt/x.so\n";
        assert_eq!(unstyled(&table().render(2, Some(40))), expected);
    }

    #[test]
    fn where_no_line_has_an_end_a_long_text_draws_only_its_own_line_out() {
        let long = "x".repeat(300);
        let mut table = Table::new(["NAME", "SIGNATURE", "DEFAULT", ""]);
        table.row(["short".into(), "fn()".into(), "has one".into(), "last".into()]);
        table.row(["long".into(), long.as_str().into(), "has one".into(), "".into()]);
        let (to_default, behind) = (" ".repeat(FAR - 11), " ".repeat(FAR - 16));
        let expected = format!(
            "NAME   SIGNATURE{behind}DEFAULT\n\
             short  fn(){to_default}has one  last\n\
             long   {long}  has one\n"
        );
        assert_eq!(unstyled(&table.render(0, None)), expected);
        // A terminal of that width has room for it all.
        let wide = unstyled(&table.render(0, Some(400)));
        assert!(wide.lines().all(|line| line.find("has one").is_none_or(|at| at == 309)), "{wide}");
    }

    #[test]
    fn what_has_no_place_to_break_is_broken_anywhere() {
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("ab cd", 2), ["ab", "cd"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("äöüß", 2), ["äö", "üß"]);
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        for width in 30..80 {
            let text = unstyled(&table().render(0, Some(width)));
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width), "{width}: {text}");
        }
    }
}
