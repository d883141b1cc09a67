//! The same references from libraries: one that is loaded, and two that are refused.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use greeter_api::Greeter;
use lcr_core::registry::{self, Registration};
use lcr_core::{Factory, Handle, ReferenceError};

use super::checkout::Built;
use super::story::{Story, took};
use crate::output::path;
use crate::refusal::Refusal;

pub(super) fn show(story: &mut Story<'_>, built: &Built) -> crate::Result {
    loaded(story, &built.english)?;
    writable(story, &built.english)?;
    changed(story, &built.changed)
}

/// A factory that has the clock alone compiled in, and may take this library into
/// account: what the sample program `greeter_dynamic` is.
fn factory(library: &Path) -> Factory {
    let is_clock = |registration: &&'static Registration| registration.name() == "clock";
    let clock = registry::registrations().into_iter().filter(is_clock);
    Factory::builder().without_environment().components(clock).path(library).build()
}

/// A reference and a greeting, and how long the reference took.
fn greet(library: &Path) -> Result<(String, Duration), Box<ReferenceError>> {
    let start = Instant::now();
    let greeter: Handle<dyn Greeter> = factory(library).reference("greeter", 2)?;
    let took = start.elapsed();
    Ok((greeter.greet("Ada"), took))
}

fn loaded(story: &mut Story<'_>, english: &Path) -> crate::Result {
    story.step("The same reference, answered by a library");
    story.say(
        "Without `english` compiled in, the factory searches. It reads what libraries say of themselves, and opens \
         the one that offers `greeter` 2. The clock that the library's component requires is this program's.",
    );
    story.call("reference::<dyn Greeter>(\"greeter\", 2)?.greet(\"Ada\")");
    let (greeting, took_loading) = greet(english).map_err(Refusal::new)?;
    story.answer(greeting);
    let kept = lcr_core::factory::sweep();
    let afterwards = match kept.iter().find(|kept| kept.path == english) {
        None => "released, and unloaded".into(),
        Some(kept) => format!("released, and kept: {}", kept.reason),
    };
    story.facts([
        ("library", path(english)),
        ("loaded from", "a verified copy in memory: to overwrite the file now hurts nobody".into()),
        ("first reference", took(took_loading)),
        ("afterwards", afterwards),
    ]);
    Ok(())
}

fn writable(story: &mut Story<'_>, english: &Path) -> crate::Result {
    story.step("Refused: a file that anybody could have written");
    story.say(
        "To load a library is to let its author be this program. So a library that others can write is not loaded, \
         whatever it holds.",
    );
    let scratch = Scratch::new()?;
    let copy = scratch.0.join("libenglish.so");
    let cannot = |error: std::io::Error| Refusal::new(format!("{}: {error}", copy.display()));
    fs::copy(english, &copy).map_err(cannot)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o666)).map_err(cannot)?;
    story.call(format!("chmod 0666 {}", path(&copy)));
    story.call("reference::<dyn Greeter>(\"greeter\", 2)?");
    refused(story, &copy, "load")?;
    story.pause();
    fs::set_permissions(&copy, Permissions::from_mode(0o644)).map_err(cannot)?;
    story.call(format!("chmod 0644 {}, and once more", path(&copy)));
    story.answer(greet(&copy).map_err(Refusal::new)?.0);
    Ok(())
}

fn changed(story: &mut Story<'_>, changed: &Path) -> crate::Result {
    story.step("Refused: a library that was built against another contract");
    story.say(
        "Its author has changed a method: `who` is an `Option<String>` now, and the caller would pass a `&str`. Names \
         and types of both sides stand in the files, so this is found before any code of the library runs.",
    );
    story.call("reference::<dyn Greeter>(\"greeter\", 2)?");
    refused(story, changed, "contract")
}

/// Shows a refusal of this kind.
fn refused(story: &mut Story<'_>, library: &Path, kind: &str) -> crate::Result {
    match greet(library) {
        Err(error) if error.kind() == kind => {
            story.refused(&error);
            Ok(())
        }
        Err(error) => Err(Refusal::new(error)),
        Ok(_) => {
            Err(Refusal::new(format!("{}: it was loaded, and should have been refused", library.display()))
                .detail("this is a defect of lcr: please report it"))
        }
    }
}

/// A directory of this user's alone, removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> crate::Result<Scratch> {
        let parent = std::env::temp_dir();
        for number in 0..100 {
            let path = parent.join(format!("lcr-demo-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Scratch(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Refusal::new(format!(
                        "cannot make a directory in {}: {error}",
                        parent.display()
                    )));
                }
            }
        }
        Err(Refusal::new(format!("{} is full of lcr-demo directories: remove them", parent.display())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
