//! Processes: which one a number means, for drivers and whoever runs guests.
//!
//! A process lives as long as one of its threads does. Its first thread, whose number is the
//! process', may have ended before: then the kernel says of that what it says of a process
//! that is over, and shows nothing open in it.

use std::fs;
use std::path::PathBuf;

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// When it was started, in the kernel's ticks since it was itself: with the number, what no
    /// other process has.
    pub start: u64,
    /// Its parent's number.
    pub parent: u32,
    /// Whether any of its threads has not ended.
    pub is_alive: bool,
}

impl Stat {
    /// Of the process that has this number now, if there is one.
    #[must_use]
    pub fn of(pid: u32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads the text of `/proc/PID/stat`, as proc(5) has it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Stat> {
        // The program's name stands in parentheses and may hold anything.
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let (parent, threads, start) = (number(1)?, number(17)?, number(19)?);
        let is_over = matches!(*fields.first()?, "Z" | "X") && threads <= 1;
        Some(Stat { start, parent: u32::try_from(parent).ok()?, is_alive: !is_over })
    }
}

/// When a process was started ([`Stat::start`]). None if there is no such process, or it is
/// over and only waited for: then nothing is open in it.
#[must_use]
pub fn start_of(pid: u32) -> Option<u64> {
    Stat::of(pid).filter(|stat| stat.is_alive).map(|stat| stat.start)
}

/// What it runs, in up to 15 letters.
#[must_use]
pub fn program_of(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// Where the kernel shows what is open in a process: its `fd` and `fdinfo` stand there.
#[must_use]
pub fn files_of(pid: u32) -> PathBuf {
    let first = PathBuf::from(format!("/proc/{pid}"));
    let state = |stat: &str| Some(stat[stat.rfind(')')? + 1..].split_ascii_whitespace().next()? == "Z");
    let is_over = |path: &PathBuf| {
        fs::read_to_string(path.join("stat")).is_ok_and(|stat| state(&stat).unwrap_or(false))
    };
    if !is_over(&first) {
        return first;
    }
    let threads = fs::read_dir(first.join("task")).into_iter().flatten().flatten();
    threads.map(|thread| thread.path()).find(|thread| !is_over(thread)).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_may_hold_anything_and_a_process_outlives_its_first_thread() {
        let of = |state: &str, threads: u32| {
            let text = format!("12 (a) R 1 ) {state} 7 {} {threads} 0 22 0", "0 ".repeat(15));
            Stat::parse(&text)
        };
        let alive = Stat { start: 22, parent: 7, is_alive: true };
        assert_eq!(of("S", 1), Some(alive));
        assert_eq!(of("Z", 1), Some(Stat { is_alive: false, ..alive }));
        assert_eq!(of("Z", 2), Some(alive));
        assert_eq!(Stat::parse("12 (a"), None);
    }

    #[test]
    fn what_is_open_in_this_process_is_seen() {
        let own = std::process::id();
        assert_eq!(start_of(own), Stat::of(own).map(|stat| stat.start));
        assert!(files_of(own).join("fd/0").symlink_metadata().is_ok());
    }
}
