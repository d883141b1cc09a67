//! The sources of lcr, and what cargo builds of them for the tour.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::story::Story;
use crate::output::path;
use crate::refusal::Refusal;

/// A directory that holds the sources.
pub(super) struct Checkout(PathBuf);

/// What was built.
pub(super) struct Built {
    /// `libenglish.so`.
    pub(super) english: PathBuf,
    /// `libchanged.so`.
    pub(super) changed: PathBuf,
    /// `libcounter_one.so` and `libcounter_two.so`.
    pub(super) counters: [PathBuf; 2],
}

/// What cargo is asked for.
const ARGUMENTS: [&str; 17] = [
    "build",
    "--release",
    "--locked",
    "--lib",
    "-p",
    "lcr-sample-greeter-english-library",
    "-p",
    "lcr-sample-greeter-changed",
    "-p",
    "lcr-sample-counter-one",
    "-p",
    "lcr-sample-counter-two",
    "--example=changed",
    "--example=counter_one",
    "--example=counter_two",
    "--message-format=json-render-diagnostics",
    "--quiet",
];

/// What stands in a checkout of lcr, and hardly elsewhere.
const MARKS: [&str; 2] = ["lcr-core/Cargo.toml", "components/samples/greeter-changed/Cargo.toml"];

impl Checkout {
    /// The one that this program was built in, else the one that the user stands in.
    pub(super) fn find() -> Option<Checkout> {
        let above = |path: &Path| {
            let found =
                path.ancestors().find(|directory| MARKS.iter().all(|mark| directory.join(mark).is_file()))?;
            Some(Checkout(found.to_owned()))
        };
        let program = env::current_exe().ok();
        program.as_deref().and_then(above).or_else(|| above(&env::current_dir().ok()?))
    }

    /// Builds the libraries that the tour loads, and says so.
    pub(super) fn show(&self, story: &mut Story<'_>) -> crate::Result<Built> {
        story.step("Libraries, built from the same sources");
        story.say(
            "A library is a crate of one line, `lcr_core::library!(english_component);`, around the very component \
             that is compiled in above.",
        );
        story.call(format!("cargo {}", ARGUMENTS[..ARGUMENTS.len() - 2].join(" ")));
        let built = self.build(false)?;
        for library in [&built.english, &built.changed].into_iter().chain(&built.counters) {
            story.answer(path(library));
        }
        Ok(built)
    }

    /// Builds the libraries that the tour loads; quietly, if that is wanted.
    pub(super) fn build(&self, is_quiet: bool) -> crate::Result<Built> {
        let arguments = &ARGUMENTS[..ARGUMENTS.len() - usize::from(!is_quiet)];
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.0).args(arguments);
        // What `cargo run` tells of the command's own package is not for this build.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&name);
            }
        }
        // Its progress goes to standard error, where the user sees it.
        let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| {
            Refusal::new(format!("cannot run cargo: {error}")).detail("the tour builds its libraries with it")
        })?;
        if !output.status.success() {
            return Err(Refusal::new(format!("cargo could not build the libraries ({})", output.status)));
        }
        let found = |name: &str| {
            artifact(&output.stdout, name)
                .ok_or_else(|| Refusal::new(format!("cargo has built no shared object {name}")))
        };
        Ok(Built {
            english: found("english")?,
            changed: found("changed")?,
            counters: [found("counter_one")?, found("counter_two")?],
        })
    }
}

/// The shared object of a target, from cargo's messages.
fn artifact(messages: &[u8], name: &str) -> Option<PathBuf> {
    messages.split(|&byte| byte == b'\n').find_map(|line| {
        let message: Value = serde_json::from_slice(line).ok()?;
        let is_wanted = message["reason"] == "compiler-artifact" && message["target"]["name"] == name;
        let mut files =
            message["filenames"].as_array().filter(|_| is_wanted)?.iter().filter_map(Value::as_str);
        files.find(|file| file.ends_with(".so")).map(PathBuf::from)
    })
}
