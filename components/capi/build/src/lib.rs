//! For the build script of a Rust program that has to do with C components.
//!
//! ```no_run
//! // build.rs
//! // C components in shared objects find `lcr_component_register` and the factory's calls
//! // in the program: it must export them. (In its crate: `lcr_core::export_to_c!();`)
//! lcr_build::export();
//! // Compiled in: they register themselves before `main`.
//! lcr_build::Components::new().file("src/greeter.c").file("src/clock.c").compile("components");
//! ```
//!
//! A component is linked with nothing that refers to it. So [`Components`] has the linker
//! take in every object, and looks at how each registers itself. One that does so in the
//! section `.ctors`, as the original's README says, is never called where the linker leaves
//! that section as it is: rust-lld does, with which rustc links by default, and nobody
//! says a word. Such objects are cured: the section becomes `.init_array`, which every
//! linker knows. (GNU's linkers do the same.)

mod ctors;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// What C components look for in the program that loads them.
const CALLS: [&str; 4] =
    ["lcr_component_register", "lcr_component_describe", "lcr_ifact_reference", "lcr_ifact_release"];

/// The headers, by their names.
const HEADERS: [(&str, &str); 4] = [
    ("lcr.h", include_str!("../include/lcr.h")),
    ("corosync/hdb.h", include_str!("../include/corosync/hdb.h")),
    ("corosync/lcr/lcr_comp.h", include_str!("../include/corosync/lcr/lcr_comp.h")),
    ("corosync/lcr/lcr_ifact.h", include_str!("../include/corosync/lcr/lcr_ifact.h")),
];

/// Has the linker export what C components look for, from all programs of this package.
/// Their crates say `lcr_core::export_to_c!();`.
pub fn export() {
    for call in CALLS {
        println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol={call}");
    }
}

/// The directory with the headers `corosync/lcr/lcr_comp.h`, `corosync/lcr/lcr_ifact.h`,
/// `corosync/hdb.h` and `lcr.h`.
///
/// # Panics
///
/// If it cannot be made, or this is no build script.
#[must_use]
pub fn include() -> PathBuf {
    let directory = out().join("lcr-include");
    for (name, text) in HEADERS {
        let path = directory.join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        if let Err(error) = made.and_then(|()| fs::write(&path, text)) {
            panic!("the header {} cannot be written: {error}", path.display());
        }
    }
    directory
}

fn out() -> PathBuf {
    env::var_os("OUT_DIR").expect("this is called by a build script, which cargo runs").into()
}

/// C components that are compiled into a program, or into a library crate of one.
#[derive(Debug, Default)]
pub struct Components {
    build: Build,
    files: Vec<PathBuf>,
}

/// A `cc::Build`, with what all components need.
#[derive(Debug, Clone)]
struct Build(cc::Build);

impl Default for Build {
    fn default() -> Self {
        Build(cc::Build::new())
    }
}

impl Components {
    /// None yet.
    #[must_use]
    pub fn new() -> Components {
        Components::default()
    }

    /// And this source file.
    #[must_use]
    pub fn file(mut self, source: impl AsRef<Path>) -> Components {
        self.files.push(source.as_ref().to_owned());
        self
    }

    /// Has `change` set what else the compiler is to do: definitions, directories, flags.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut cc::Build)) -> Components {
        change(&mut self.build.0);
        self
    }

    /// Compiles them, and links all of them into whatever this package becomes part of.
    /// `name` is that of the archive, unique in a program.
    ///
    /// # Panics
    ///
    /// If there is no compiler, the compiler refuses a file, or an object registers itself
    /// in a way that the linker would drop.
    pub fn compile(self, name: &str) {
        let Components { build: Build(mut build), files } = self;
        build.include(include()).files(&files);
        for file in &files {
            println!("cargo::rerun-if-changed={}", file.display());
        }
        let mut archive = cc::Build::new();
        archive.cargo_metadata(false);
        for object in build.compile_intermediates() {
            if let Err(reason) = ctors::cure(&object) {
                panic!("{} cannot be made to register itself under every linker: {reason}", object.display());
            }
            archive.object(object);
        }
        archive.compile(name);
        println!("cargo::rustc-link-search=native={}", out().display());
        // Nothing refers to them: all are taken.
        println!("cargo::rustc-link-lib=static:+whole-archive,-bundle={name}");
    }
}
