//! Processes: which one a number means.

use std::fs;

/// When a process was started, in the kernel's ticks since it was: with the number, what
/// no other process has. None if there is no such process, or it is over and only
/// waited for.
pub(crate) fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in parentheses and may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

/// What it runs, in up to 15 letters.
pub(crate) fn program_of(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// This host's name.
pub(crate) fn host() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim_end().to_owned())
}

/// A process that has a socket open, if it can be looked into.
pub(crate) fn of_socket(inode: u64) -> Option<u32> {
    let link = format!("socket:[{inode}]");
    let has = |pid: &u32| {
        let mut open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
    };
    let mut all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.find_map(|entry| entry.file_name().to_str()?.parse().ok().filter(has))
}
