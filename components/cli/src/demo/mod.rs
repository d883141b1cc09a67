//! `lcr demo`: the tour, on real components and real libraries.
//!
//! | part | shows | needs |
//! |---|---|---|
//! | [`static_part`] | references to what is compiled in | nothing |
//! | [`library_part`] | the same from a library; libraries that are refused, and why | a checkout, and cargo |
//!
//! Nothing is acted: each line is what the call above it answered, and a library that
//! should have been refused and was not ends the tour with an error.

mod checkout;
mod library_part;
mod static_part;
mod story;

use crate::output::Output;
use checkout::Checkout;
use story::Story;

lcr_core::link!(clock_component, english_component);

/// A tour: a component compiled in, loaded, and refused, on real libraries.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> crate::Result {
    let Arguments {} = arguments;
    let mut story = Story::new(output);
    static_part::show(&mut story)?;
    if cfg!(target_feature = "crt-static") {
        return static_part::alone(&mut story);
    }
    let Some(checkout) = Checkout::find() else {
        story.step("The rest needs the sources");
        story.say(
            "What follows builds libraries and loads them. This is not a checkout of lcr: neither the current \
             directory nor this program's lies in one. In one, `cargo run --release --bin lcr -- demo` shows all of it.",
        );
        return Ok(());
    };
    let built = checkout.build(&mut story)?;
    library_part::show(&mut story, &built)
}
