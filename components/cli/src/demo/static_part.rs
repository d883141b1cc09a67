//! References to what is compiled in.

use std::time::Instant;

use greeter_api::Greeter;
use lcr_core::{Factory, Handle};

use super::story::{Story, took};
use crate::refusal::Refusal;

/// How often a reference is taken and released to see what it costs.
const TIMES: u32 = 10_000;

pub(super) fn show(story: &mut Story<'_>) -> crate::Result {
    story.step("A component that is compiled in");
    story.say(
        "Two annotated modules, `english` and `clock`, are linked into this program. The linker has collected them: \
         nothing ran before main. `english` requires `clock`, so that is constructed first.",
    );
    let factory = Factory::builder().without_environment().build();
    story.call("reference::<dyn Greeter>(\"greeter\", 2)?.greet(\"Ada\")");
    let start = Instant::now();
    let greeter: Handle<dyn Greeter> = factory.reference("greeter", 2).map_err(Refusal::new)?;
    let first = start.elapsed();
    story.answer(greeter.greet("Ada"));
    let start = Instant::now();
    for _ in 0..TIMES {
        let again: Handle<dyn Greeter> = factory.reference("greeter", 2).map_err(Refusal::new)?;
        drop(again);
    }
    let further = start.elapsed() / TIMES;
    let components: Vec<String> = factory.compiled_in().into_iter().map(|component| component.name).collect();
    story.facts([
        ("compiled in", components.join(", ")),
        ("first reference", format!("{}, the index built and both constructed", took(first))),
        ("a further one", format!("{}, with its release", took(further))),
    ]);
    Ok(())
}

/// What a program that has no dynamic linker says to the rest of the tour.
pub(super) fn alone(story: &mut Story<'_>) -> crate::Result {
    story.step("This program is fully static");
    story.say("It has no dynamic linker, so what is not compiled in is refused, with the reason.");
    story.call("reference::<dyn Greeter>(\"greeter\", 1000)?");
    let missing: Result<Handle<dyn Greeter>, _> = Factory::builder().build().reference("greeter", 1000);
    match missing {
        Err(error) => story.refused(&error),
        Ok(_) => return Err(Refusal::new("greeter 1000 was found, and nothing offers it")),
    }
    Ok(())
}
