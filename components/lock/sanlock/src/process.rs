//! Processes: which one a number means.

use std::fs;

use lcr_lock::process::files_of;
pub(crate) use lcr_lock::process::{program_of, start_of};

/// This host's name.
pub(crate) fn host() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim_end().to_owned())
}

/// A process that has a socket open, if it can be looked into.
pub(crate) fn of_socket(inode: u64) -> Option<u32> {
    let link = format!("socket:[{inode}]");
    let has = |pid: &u32| {
        let mut open = fs::read_dir(files_of(*pid).join("fd")).into_iter().flatten().flatten();
        open.any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
    };
    let mut all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.find_map(|entry| entry.file_name().to_str()?.parse().ok().filter(has))
}
