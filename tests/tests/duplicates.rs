//! One version of an interface, offered twice in one program or in one library:
//! references to that name fail and name both origins; other names work.

#[path = "programs/finding.rs"]
mod libraries;
mod programs;

use lcr_core::{Factory, Handle, ReferenceError, Version, registry};
use libraries::{Thing, library};

macro_rules! offer {
    ($module:ident $name:literal $version:literal) => {
        #[lcr_core::component]
        mod $module {
            use super::Thing;

            #[derive(lcr_core::Interface)]
            #[interface(name = $name, version = $version, contract = dyn Thing)]
            pub(crate) struct It;

            impl Construct for It {
                fn construct(_: &Context) -> Result<Self, BoxError> {
                    Ok(It)
                }
            }

            impl Thing for It {
                fn name(&self) -> String {
                    stringify!($module).into()
                }
            }
        }
    };
}
offer!(one "doubled" 1);
offer!(another "doubled" 1);
offer!(next "doubled" 2);
offer!(single "single" 1);
offer!(single_next "single" 2);

#[track_caller]
fn duplicate(factory: &Factory, name: &str, version: impl Into<Version>) -> String {
    let error = factory.reference::<dyn Thing>(name, version).unwrap_err();
    assert!(matches!(error, ReferenceError::Duplicate { .. }), "{error}");
    assert_eq!(error.kind(), "duplicate");
    error.to_string()
}

#[test]
fn in_a_program_references_to_the_name_fail_naming_both_and_others_work() {
    // The process's own: what the linker has collected.
    let factory = Factory::process();
    // In the linker's order.
    let names: Vec<&str> = registry::registrations().into_iter().map(|r| r.name()).collect();
    let [first, second]: [&str; 2] = names
        .into_iter()
        .filter(|name| ["one", "another"].contains(name))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let origin = |name| format!("component `{name}` of lcr-tests {}, compiled in", env!("CARGO_PKG_VERSION"));
    let said = format!(
        "`doubled` version 1 is offered twice: by {} and by {}; drop one of them, or give it another version",
        origin(first),
        origin(second)
    );
    assert_eq!(duplicate(factory, "doubled", 1), said);
    assert_eq!(duplicate(factory, "doubled", 2), said, "whatever the version");
    assert_eq!(duplicate(factory, "doubled", Version::any()), said);
    // SAFETY: it is refused.
    let raw = unsafe { factory.reference_raw::<usize>("doubled", 2, std::ptr::null_mut()) };
    assert_eq!(raw.unwrap_err().to_string(), said);
    let single: Handle<dyn Thing> = factory.reference("single", 1).unwrap();
    let next: Handle<dyn Thing> = factory.reference("single", Version::any()).unwrap();
    assert_eq!((single.name(), next.name()), ("single".into(), "single_next".into()));
}

#[test]
fn in_a_library_references_to_the_name_fail_naming_both_and_others_work() {
    let twice = library("twice");
    let factory = Factory::builder().without_environment().components([]).path(&twice).build();
    let said = |first, second| {
        let path = twice.display();
        format!(
            "`twice` version 1 is offered twice: by component `{first}` of {path} and by component `{second}` of \
             {path}; drop one of them, or give it another version"
        )
    };
    let got = duplicate(&factory, "twice", 1);
    assert!(got == said("one", "another") || got == said("another", "one"), "{got}");
    assert_eq!(duplicate(&factory, "twice", 2), got, "whatever the version");
    assert_eq!(duplicate(&factory, "twice", Version::any()), got);
    let fine: Handle<dyn Thing> = factory.reference("fine", 1).unwrap();
    assert_eq!(fine.name(), "fine");
}

#[test]
fn a_program_and_a_library_that_offer_the_same_are_no_duplicates() {
    let own = registry::registrations().into_iter().filter(|r| r.name() == "single");
    let factory = Factory::builder().without_environment().components(own).path(library("one")).build();
    let single: Handle<dyn Thing> = factory.reference("single", 1).unwrap();
    let me: Handle<dyn Thing> = factory.reference("me", 1).unwrap();
    assert_eq!((single.name(), me.name()), ("single".into(), "one".into()));
}
