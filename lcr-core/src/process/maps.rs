//! What is mapped into the process, as the kernel lists it.

use std::fs;
use std::ops::Range;

/// All that is mapped, at one moment.
pub(crate) struct Mapped(Vec<Area>);

struct Area {
    range: Range<usize>,
    readable: bool,
    executable: bool,
}

impl Mapped {
    /// Now; `None` where nobody says it.
    pub(crate) fn now() -> Option<Self> {
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let area = |Line { range, readable, executable, .. }| Area { range, readable, executable };
        Some(Mapped(maps.lines().filter_map(Line::parse).map(area).collect()))
    }

    /// Is there memory all over this range, which can be read?
    pub(crate) fn can_read(&self, range: Range<usize>) -> bool {
        let mut at = range.start;
        while at < range.end {
            match self.0.iter().find(|area| area.readable && area.range.contains(&at)) {
                Some(area) => at = area.range.end,
                None => return false,
            }
        }
        true
    }

    /// Could code be there?
    pub(crate) fn is_code(&self, address: usize) -> bool {
        self.0.iter().any(|area| area.executable && area.range.contains(&address))
    }
}

/// A line of `/proc/self/maps`.
pub(crate) struct Line<'a> {
    pub(crate) range: Range<usize>,
    readable: bool,
    pub(crate) executable: bool,
    pub(crate) device: &'a str,
    pub(crate) inode: u64,
}

impl<'a> Line<'a> {
    /// `7f…-7f… r-xp 00000000 00:01 1042 /memfd:lcr (deleted)`.
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        let may = words.next()?;
        let (readable, executable) = (may.contains('r'), may.contains('x'));
        let device = words.nth(1)?;
        Some(Line { range, readable, executable, device, inode: words.next()?.parse().ok()? })
    }
}
