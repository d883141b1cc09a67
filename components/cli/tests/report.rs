//! What `lcr inspect` reads from a program's file is what the running program reports.
//!
//! The program is this test itself, with typed and raw components compiled in.

use std::process::Command;

use lcr_core::Factory;
use lcr_core::metadata::{FileKind, Metadata};
use serde_json::Value;

lcr_core::link!(clock_component, english_component, lcr_sample_a, lcr_sample_b);

/// A component of this very crate: singleton and not, with a default method.
#[lcr_core::component]
mod own {
    /// A contract with a little of everything.
    #[lcr_core::contract]
    pub(crate) trait Store: Send + Sync {
        fn get(&self, key: &str) -> Option<Vec<u8>>;
        fn limits(&self) -> (u32, Result<String, u8>) {
            (0, Err(1))
        }
    }

    #[derive(lcr_core::Interface)]
    #[interface(name = "store", version = 7, replaces(3, 5), contract = dyn Store, requires("clock" as dyn greeter_api::Clock), per_reference)]
    pub(crate) struct Memory;

    impl Construct for Memory {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Memory)
        }
    }

    impl Store for Memory {
        fn get(&self, _: &str) -> Option<Vec<u8>> {
            None
        }
    }
}

#[test]
fn the_file_and_the_running_program_say_the_same() {
    let program = std::env::current_exe().unwrap();
    let reported = Factory::process().compiled_in();
    let names: Vec<&str> = reported.iter().map(|component| component.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "clock", "english", "own"]);

    // Everything, hashes of methods included.
    let read = Metadata::read(&program).unwrap();
    assert_eq!(read.components, reported);

    // And what the command prints of it.
    let output =
        Command::new(env!("CARGO_BIN_EXE_lcr")).args(["inspect", "--json"]).arg(&program).output().unwrap();
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let running = Metadata {
        kind: FileKind::Executable,
        components: reported,
        contracts: Vec::new(),
        library: None,
        core: None,
    };
    assert_eq!(printed[0], running.to_json(&program));
}
