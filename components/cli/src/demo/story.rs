//! How the tour is told: steps, sentences, and what was called with what it answered.

use std::fmt::Display;
use std::time::Duration;

use anstyle::Style;

use crate::output::{BAD, DIM, GOOD, HEAD, Output};
use crate::table::{Cell, Table};

/// Nobody likes to read longer lines.
const WIDEST: usize = 88;

pub(super) struct Story<'o> {
    output: &'o mut Output,
    steps: usize,
}

impl<'o> Story<'o> {
    pub(super) fn new(output: &'o mut Output) -> Story<'o> {
        Story { output, steps: 0 }
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) {
        let gap = if self.steps > 0 { "\n" } else { "" };
        self.steps += 1;
        self.output.print(format!("{gap}{}  {HEAD}{title}{HEAD:#}\n\n", self.steps));
    }

    /// A paragraph.
    pub(super) fn say(&mut self, text: impl Display) {
        self.rows("", [("", text.to_string(), Style::new())]);
        self.output.print("\n");
    }

    /// Takes a breath.
    pub(super) fn pause(&mut self) {
        self.output.print("\n");
    }

    /// What was called.
    pub(super) fn call(&mut self, text: impl Display) {
        self.rows(">", [("", text.to_string(), DIM)]);
    }

    /// What it answered.
    pub(super) fn answer(&mut self, text: impl Display) {
        self.rows("", [("", text.to_string(), GOOD)]);
    }

    /// Why it did not.
    pub(super) fn refused(&mut self, text: impl Display) {
        self.rows("", [("", text.to_string(), BAD)]);
    }

    /// Facts by their names.
    pub(super) fn facts<const N: usize>(&mut self, facts: [(&str, String); N]) {
        self.output.print("\n");
        self.rows("", facts.map(|(name, fact)| (name, fact, Style::new())));
    }

    /// Lines as they are, under a heading.
    pub(super) fn chart(&mut self, heading: &str, lines: &[String]) {
        self.output.print(format!("\n   {DIM}{heading}{DIM:#}\n"));
        for line in lines {
            self.output.print(format!("   {}\n", line.trim_end()));
        }
    }

    fn rows<const N: usize>(&mut self, mark: &str, rows: [(&str, String, Style); N]) {
        let mut named = Table::new(["", ""]);
        let mut alone = Table::new([""]);
        for (name, text, style) in rows {
            if name.is_empty() {
                let text = if mark.is_empty() { text } else { format!("{mark} {text}") };
                alone.row([Cell::new(text, style)]);
            } else {
                named.row([Cell::new(name, DIM), Cell::new(text, style)]);
            }
        }
        let width = Some(self.output.width().unwrap_or(WIDEST).min(WIDEST));
        self.output.print(alone.render(3, width) + &named.render(3, width));
    }
}

/// A duration for people: three digits and a unit.
pub(super) fn took(duration: Duration) -> String {
    let nanos = duration.as_nanos() as f64;
    let (value, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        ..1e6 => (nanos / 1e3, "µs"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let digits = if value < 10.0 && unit != "ns" { 1 } else { 0 };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_few_digits_and_a_unit() {
        let durations = [64, 1_234, 56_789, 7_000_000, 2_500_000_000].map(Duration::from_nanos);
        assert_eq!(durations.map(took), ["64 ns", "1.2 µs", "57 µs", "7.0 ms", "2.5 s"]);
    }
}
