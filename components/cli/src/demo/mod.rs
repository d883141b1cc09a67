//! `lcr demo`: the tour.

use crate::output::Output;

/// A tour on real libraries.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments, _: &mut Output) -> crate::Result {
    Ok(())
}
