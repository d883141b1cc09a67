//! check

use crate::output::Output;

/// check
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments, _: &mut Output) -> crate::Result {
    Ok(())
}
