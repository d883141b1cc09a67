//! What of this process's memory comes from files, and what else must not grow.

#![allow(unreachable_pub, reason = "a module of each test program")]

use std::collections::HashSet;
use std::fs;

/// The files that are mapped to be executed: device and inode.
pub(crate) fn mapped() -> HashSet<(String, u64)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let inode = words[4].parse().unwrap();
            (words[1].contains('x') && inode != 0).then(|| (words[3].to_owned(), inode))
        })
        .collect()
}
