//! Which version a reference wants, and which one answers it.

use std::fmt;
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeToInclusive};

/// A wish for a version.
///
/// A number is satisfied by that very version, or else by the highest one that
/// says it replaces it. A range, and [`Version::any`], take the highest within.
///
/// ```
/// use lcr_core::Version;
///
/// assert_eq!(Version::from(2).to_string(), "version 2");
/// assert_eq!(Version::from(1..=3).to_string(), "versions 1 to 3");
/// assert_eq!(Version::from(2..).to_string(), "version 2 or higher");
/// assert_eq!(Version::any().to_string(), "any version");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub(crate) low: i32,
    pub(crate) high: i32,
    pub(crate) exact: bool,
}

impl Version {
    /// Whatever is the highest.
    #[must_use]
    pub const fn any() -> Self {
        Version { low: i32::MIN, high: i32::MAX, exact: false }
    }

    /// This version, or the highest that replaces it.
    #[must_use]
    pub const fn exact(version: i32) -> Self {
        Version { low: version, high: version, exact: true }
    }

    /// The position of the version that answers, among `offers` of (version,
    /// versions it replaces). Among equals the first one does.
    pub(crate) fn choose<'a>(self, offers: impl Iterator<Item = (i32, &'a [i32])>) -> Option<usize> {
        let mut best: Option<(usize, i32)> = None;
        for (position, (version, replaces)) in offers.enumerate() {
            if self.exact && version == self.low {
                return Some(position);
            }
            if self.admits(version, replaces) && best.is_none_or(|(_, highest)| version > highest) {
                best = Some((position, version));
            }
        }
        best.map(|(position, _)| position)
    }

    /// Would this version do at all?
    pub(crate) fn admits(self, version: i32, replaces: &[i32]) -> bool {
        (self.low..=self.high).contains(&version) || (self.exact && replaces.contains(&self.low))
    }
}

impl From<i32> for Version {
    fn from(version: i32) -> Self {
        Version::exact(version)
    }
}

impl From<RangeInclusive<i32>> for Version {
    fn from(range: RangeInclusive<i32>) -> Self {
        Version { low: *range.start(), high: *range.end(), exact: false }
    }
}

impl From<Range<i32>> for Version {
    fn from(range: Range<i32>) -> Self {
        // An empty range stays empty: low above high admits nothing.
        Version { low: range.start, high: range.end.saturating_sub(1), exact: false }
    }
}

impl From<RangeFrom<i32>> for Version {
    fn from(range: RangeFrom<i32>) -> Self {
        Version { low: range.start, high: i32::MAX, exact: false }
    }
}

impl From<RangeToInclusive<i32>> for Version {
    fn from(range: RangeToInclusive<i32>) -> Self {
        Version { low: i32::MIN, high: range.end, exact: false }
    }
}

impl From<RangeFull> for Version {
    fn from(_: RangeFull) -> Self {
        Version::any()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Version { low, exact: true, .. } => write!(f, "version {low}"),
            Version { low: i32::MIN, high: i32::MAX, .. } => f.write_str("any version"),
            Version { low, high: i32::MAX, .. } => write!(f, "version {low} or higher"),
            Version { low: i32::MIN, high, .. } => write!(f, "version {high} or lower"),
            Version { low, high, .. } => write!(f, "versions {low} to {high}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(wish: impl Into<Version>, offers: &[(i32, &[i32])]) -> Option<i32> {
        wish.into().choose(offers.iter().copied()).map(|at| offers[at].0)
    }

    #[test]
    fn an_equal_version_goes_before_a_higher_one_that_replaces_it() {
        assert_eq!(chosen(1, &[(3, &[0, 1]), (1, &[]), (2, &[1])]), Some(1));
    }

    #[test]
    fn the_highest_that_replaces_it_answers_for_a_missing_one() {
        assert_eq!(chosen(0, &[(2, &[0]), (3, &[0, 1]), (4, &[1])]), Some(3));
        assert_eq!(chosen(7, &[(2, &[0]), (3, &[0, 1])]), None);
    }

    #[test]
    fn ranges_and_any_take_the_highest_within() {
        let offers: &[(i32, &[i32])] = &[(1, &[]), (5, &[2]), (3, &[])];
        assert_eq!(chosen(Version::any(), offers), Some(5));
        assert_eq!(chosen(1..=3, offers), Some(3));
        assert_eq!(chosen(..=1, offers), Some(1));
        assert_eq!(chosen(2..3, offers), None);
        assert_eq!(chosen(4.., offers), Some(5));
        #[allow(clippy::reversed_empty_ranges)]
        let empty = 3..1;
        assert_eq!(chosen(empty, offers), None);
    }

    #[test]
    fn among_equals_the_first_one_answers() {
        assert_eq!(Version::any().choose([(1, &[][..]), (1, &[][..])].into_iter()), Some(0));
    }
}
