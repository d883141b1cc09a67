//! `lcr demo`: the tour, on real components and real libraries.
//!
//! | part | shows | needs |
//! |---|---|---|
//! | [`static_part`] | references to what is compiled in | nothing |
//! | [`library_part`] | the same from a library; libraries that are refused, and why | a checkout, and cargo |
//! | [`load_part`] | replacements under load on every core, state handed over | libraries of a checkout, or what is compiled in |
//! | [`serve`] | a program to try `lcr status`, `replace` and `rollback` on | nothing |
//!
//! Nothing is acted: each line is what the call above it answered, and a library that
//! should have been refused and was not ends the tour with an error.

mod checkout;
mod histogram;
mod library_part;
mod load_part;
mod serve;
mod static_part;
mod story;

use std::num::NonZeroU32;
use std::path::PathBuf;

use counter_api::CALLERS;

use crate::output::Output;
use checkout::Checkout;
use load_part::Load;
use story::Story;

lcr_core::link!(clock_component, counter_one_component, english_component);

/// A tour: a component compiled in, loaded, refused, and replaced under load.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long the load lasts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// How many threads call; one for each core unless given.
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<NonZeroU32>,
    /// Only the load, and its report as one JSON object.
    #[arg(long, conflicts_with = "serve")]
    json: bool,
    /// Keeps a program running to try `lcr status`, `replace` and `rollback` on.
    #[arg(long, conflicts_with = "seconds")]
    serve: bool,
}

/// The sample counter knows its callers by number.
fn threads(text: &str) -> Result<NonZeroU32, String> {
    let number = text.parse().ok().filter(|number: &NonZeroU32| number.get() as usize <= CALLERS);
    number.ok_or_else(|| format!("wanted 1 to {CALLERS}, as many callers as the sample counter knows"))
}

pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> crate::Result {
    let &Arguments { seconds, threads, json, serve } = arguments;
    if serve {
        return serve::run(threads, output);
    }
    let can_load = !cfg!(target_feature = "crt-static");
    let load = |libraries: Vec<PathBuf>| Load::new(seconds, threads, libraries);
    if json {
        let checkout = Checkout::find().filter(|_| can_load);
        let libraries = checkout.map(|checkout| checkout.build(true)).transpose()?;
        let libraries = libraries.map(|built| built.counters.into()).unwrap_or_default();
        let report = load(libraries).run()?;
        output.json(&report.json());
        return report.check();
    }
    let mut story = Story::new(output);
    static_part::show(&mut story)?;
    let mut libraries = Vec::new();
    if !can_load {
        static_part::alone(&mut story)?;
    } else if let Some(checkout) = Checkout::find() {
        let built = checkout.show(&mut story)?;
        library_part::show(&mut story, &built)?;
        libraries = built.counters.into();
    } else {
        story.step("Libraries need the sources");
        story.say(
            "What would follow builds libraries and loads them. This is not a checkout of lcr: neither the current \
             directory nor this program's lies in one. In one, `cargo run --release --bin lcr -- demo` shows all of it.",
        );
    }
    load_part::show(&mut story, load(libraries))
}
