//! A driver's parameters: those that it knows, and no others.
//!
//! A misspelt parameter would otherwise be none: a driver that looks for `directory` and
//! was given `direktory` locks elsewhere than was meant, and says nothing.

use lcr_core::Context;

/// A parameter that the driver does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no parameter `{name}`: {}", take(.known))]
pub struct Unknown {
    /// What was given.
    pub name: String,
    /// Those that it knows.
    pub known: &'static [&'static str],
}

fn take(known: &[&str]) -> String {
    match known {
        [] => "this driver takes none".to_owned(),
        _ => format!("this driver takes `{}`", known.join("`, `")),
    }
}

/// Refuses what is none of these. For a driver's constructor, before it does anything.
///
/// # Errors
///
/// The first parameter that is not `known`.
///
/// ```
/// use lcr_core::Context;
/// use lcr_lock::parameters;
///
/// let cx = Context::new().with("directory", "/srv/leases").with("direktory", "/srv/leases");
/// assert_eq!(
///     parameters::only(&cx, &["directory", "client"]).unwrap_err().to_string(),
///     "there is no parameter `direktory`: this driver takes `directory`, `client`"
/// );
/// ```
pub fn only(cx: &Context, known: &'static [&'static str]) -> Result<(), Unknown> {
    match cx.parameters().find(|(name, _)| !known.contains(name)) {
        Some((name, _)) => Err(Unknown { name: name.to_owned(), known }),
        None => Ok(()),
    }
}
