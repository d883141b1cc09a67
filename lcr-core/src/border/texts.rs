//! Texts of libraries that must live for ever, kept once each.

use std::collections::HashSet;
use std::sync::{LazyLock, PoisonError, RwLock};

static TEXTS: LazyLock<RwLock<HashSet<&'static str>>> = LazyLock::new(RwLock::default);

/// A text like this one, which is never freed. The same for the same text.
pub(super) fn kept(text: &str) -> &'static str {
    if let Some(found) = TEXTS.read().unwrap_or_else(PoisonError::into_inner).get(text) {
        return found;
    }
    let mut texts = TEXTS.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = texts.get(text) {
        return found;
    }
    let text: &'static str = Box::leak(text.into());
    texts.insert(text);
    text
}

#[cfg(all(feature = "testing", feature = "log", feature = "tracing"))]
pub(super) fn count() -> usize {
    TEXTS.read().unwrap_or_else(PoisonError::into_inner).len()
}

#[cfg(test)]
mod tests {
    use super::kept;

    #[test]
    fn a_text_is_kept_once_and_by_value() {
        let text = String::from("a module's path");
        let first = kept(&text);
        assert_ne!(first.as_ptr(), text.as_ptr());
        drop(text);
        assert!(std::ptr::eq(first, kept("a module's path")));
        assert_eq!(first, "a module's path");
    }
}
