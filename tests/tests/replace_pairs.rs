//! Every pair of what can be replaced by what: compiled-in versions and libraries,
//! stateless and with state, one and several, with all kinds of references alive.

#![allow(missing_docs, unreachable_pub, reason = "a test, with the fixture of libraries in it")]

#[path = "../fixtures/replace/src/lib.rs"]
#[macro_use]
mod replaced;
mod replacing;

use std::ffi::c_int;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use lcr_core::factory::{Factory, Outcome, ReplaceError, Replacement, Stage, Step, sweep};
use lcr_core::{Handle, Instance};
use replaced::{Script, Store};
use replacing::{Holds, again_without_membarrier, alone, factory, library, no_script, script};

store!(store_0, crate::replaced, 0, [1, 2], 1, 1..=1);
store!(store_1, crate::replaced, 1, [0], 1, 1..=1);
plain!(plain_0, crate::replaced, "plain", 0, [1]);
plain!(plain_1, crate::replaced, "plain", 1, [0]);
plain!(each_0, crate::replaced, "each", 0, [1], per_reference);
plain!(each_1, crate::replaced, "each", 1, [0], per_reference);

/// A raw table.
#[lcr_core::component]
mod raw_0 {
    #[interface(name = "raw", version = 0)]
    mod v0 {
        #[function]
        extern "C" fn answer() -> c_int {
            0
        }
    }
}

#[repr(C)]
struct Raw {
    answer: extern "C" fn() -> c_int,
}

/// Requires what is replaced, and calls it.
#[lcr_core::component]
mod dependant {
    use super::replaced::Store;
    use lcr_core::Handle;

    #[derive(lcr_core::Interface)]
    #[interface(name = "dependant", version = 0, contract = dyn Store, requires("plain" as dyn Store))]
    pub struct It(Handle<dyn Store>);

    impl Construct for It {
        fn construct(cx: &Context) -> Result<Self, BoxError> {
            Ok(It(cx.require("plain")?))
        }
    }

    impl Store for It {
        fn version(&self) -> u32 {
            100 + self.0.version()
        }
        fn add(&self, n: u64) -> u64 {
            self.0.add(n)
        }
        fn ticks(&self) -> u64 {
            0
        }
        fn stay(&self, at: &str) -> Result<String, String> {
            self.0.stay(at)
        }
    }
}

const SOON: Duration = Duration::from_millis(200);

fn store(factory: &Factory, name: &str, version: i32) -> Handle<dyn Store> {
    factory.reference(name, version).unwrap()
}

/// Plans it, which changes nothing.
fn planned(factory: &Factory, replacement: Replacement, to: i32) {
    let seen = || {
        let Holds { descriptors, libraries, threads: _ } = Holds::now();
        (factory.interfaces(), factory.history(), descriptors, libraries)
    };
    let before = seen();
    let report = replacement.plan().unwrap();
    assert_eq!((report.interfaces[0].to, report.held, report.switched), (to, Duration::ZERO, Duration::ZERO));
    assert_eq!(seen(), before);
}

#[test]
fn every_pair_without_state() {
    let _alone = alone();
    let factory = factory();
    let plain = store(&factory, "plain", 0);
    let (zero, one) = (library("plain_0"), library("plain_1"));
    // Static by static, static by library, library by library, library by static.
    for (file, version) in
        [(None, 1), (Some(&zero), 0), (Some(&one), 1), (None, 0), (Some(&one), 1), (None, 1)]
    {
        let replacement = || {
            let replacement = factory.replace("plain").version(version);
            file.iter().fold(replacement, |replacement, file| replacement.with(file))
        };
        planned(&factory, replacement(), version);
        let report = replacement().run().unwrap();
        assert_eq!(report.interfaces[0].file.as_ref(), file);
        assert_eq!(report.interfaces[0].sha256.is_some(), file.is_some());
        assert!(report.drained.is_some(), "{report:?}");
        assert_eq!(report.held, Duration::ZERO);
        assert_eq!(plain.version(), version.cast_unsigned());
        assert_eq!(store(&factory, "plain", 0).version(), version.cast_unsigned());
        assert_eq!(store(&factory, "plain", 1).version(), version.cast_unsigned());
    }
}

#[test]
fn every_pair_with_state() {
    let _alone = alone();
    let factory = factory();
    let held = store(&factory, "store", 0);
    let (zero, one, two) = (library("store_0"), library("store_1"), library("store_2"));
    let mut sum = held.add(5);
    for (file, version) in
        [(None, 1), (Some(&zero), 0), (Some(&one), 1), (Some(&two), 2), (None, 0), (Some(&two), 2)]
    {
        let replacement = || {
            let replacement = factory.replace("store").version(version);
            file.iter().fold(replacement, |replacement, file| replacement.with(file))
        };
        planned(&factory, replacement(), version);
        let report = replacement().run().unwrap();
        assert!(report.drained.is_some(), "{report:?}");
        assert!(report.held > Duration::ZERO);
        sum += 1;
        assert_eq!((held.version(), held.add(1)), (version.cast_unsigned(), sum));
        let before = held.ticks();
        while held.ticks() == before {
            thread::yield_now();
        }
    }
}

#[test]
fn a_version_that_replaces_two_takes_the_place_of_both() {
    let _alone = alone();
    let factory = factory();
    let (zero, one) = (store(&factory, "store", 0), store(&factory, "store", 1));
    assert_eq!((zero.add(10), one.add(20)), (10, 20));
    assert_eq!((zero.version(), one.version()), (0, 1));
    factory.replace("store").with(library("store_2")).run().unwrap();
    assert_eq!((zero.version(), one.version()), (2, 2));
    // Each with its own state, and each version's references find it.
    assert_eq!((zero.add(1), one.add(1)), (11, 21));
    assert_eq!((store(&factory, "store", 0).add(1), store(&factory, "store", 1).add(1)), (12, 22));
}

#[test]
fn several_at_once_or_none() {
    let _alone = alone();
    let factory = factory();
    let (plain, held, each) =
        (store(&factory, "plain", 0), store(&factory, "store", 0), store(&factory, "each", 0));
    held.add(7);
    // The last of them fails: none has changed.
    let failure = factory
        .replace("plain")
        .with(library("plain_1"))
        .also("each")
        .with(library("plain_1"))
        .also("store")
        .with(library("store_newer"))
        .run()
        .unwrap_err();
    assert_eq!((&*failure.interface, failure.step), ("store", Step::Restore));
    assert_eq!((plain.version(), held.version(), each.version()), (0, 0, 0));
    // A pinned instance of one without state is in nobody's way.
    let pinned = Handle::instance(&plain);
    let report = factory
        .replace("plain")
        .with(library("plain_1"))
        .also("each")
        .with(library("plain_1"))
        .also("store")
        .with(library("store_1"))
        .timeout(SOON)
        .run()
        .unwrap();
    assert_eq!(report.interfaces.len(), 3);
    assert_eq!(report.drained, None, "one is pinned");
    assert_eq!((plain.version(), held.version(), each.version()), (1, 1, 1));
    assert_eq!((pinned.version(), held.add(1)), (0, 8));
    // Back together, too: all or none.
    let both = || factory.rollback("plain").also_rollback("store").timeout(SOON);
    let failure = both().also_rollback("nobody").run().unwrap_err();
    assert!(matches!(failure.error, ReplaceError::NothingBefore { .. }), "{failure}");
    assert_eq!((plain.version(), held.version()), (1, 1));
    both().run().unwrap();
    assert_eq!((plain.version(), held.version(), each.version()), (0, 0, 1));
    assert_eq!(held.add(1), 9);
}

#[test]
fn an_interface_that_stands_twice_is_refused() {
    let _alone = alone();
    let factory = factory();
    let _plain = store(&factory, "plain", 0);
    let failure = factory.replace("plain").also("plain").run().unwrap_err();
    assert_eq!(
        failure.to_string(),
        "`plain` was not replaced (prepare): `plain` stands twice in this request; name each interface once"
    );
}

#[test]
fn a_dependants_handle_follows() {
    let _alone = alone();
    let factory = factory();
    let dependant = store(&factory, "dependant", 0);
    assert_eq!(dependant.version(), 101, "names alone take the highest");
    factory.replace("plain").with(library("plain_0")).version(0).run().unwrap();
    assert_eq!(dependant.version(), 100);
    // The last handle is a dependency's: what stands behind it now is released.
    drop(dependant);
    let state = factory.interfaces().into_iter().find(|s| s.name == "plain").unwrap().state;
    assert_eq!(state, Stage::Idle);
}

#[test]
fn instances_of_each_reference_are_all_replaced() {
    let _alone = alone();
    let factory = factory();
    let each: Vec<_> = (0..5).map(|_| store(&factory, "each", 0)).collect();
    for (at, one) in each.iter().enumerate() {
        one.add(at as u64);
    }
    factory.replace("each").with(library("plain_1")).run().unwrap();
    assert!(each.iter().all(|one| one.version() == 1 && one.add(1) == 1), "each has one of its own");
    let newer = store(&factory, "each", 0);
    assert_eq!((newer.version(), newer.add(3)), (1, 3));
    // And back, those that came later too.
    factory.rollback("each").run().unwrap();
    assert!(each.iter().chain([&newer]).all(|one| one.version() == 0));
    assert_eq!(store(&factory, "each", 1).version(), 1, "the version gone back from is what it was");
}

#[test]
fn three_versions_live_at_once() {
    let _alone = alone();
    let factory = factory();
    let plain = store(&factory, "plain", 0);
    let zero: Instance<dyn Store> = Handle::instance(&plain);
    factory.replace("plain").with(library("plain_1")).timeout(SOON).run().unwrap();
    let one: Instance<dyn Store> = Handle::instance(&plain);
    factory.replace("plain").with(library("plain_0")).timeout(SOON).run().unwrap();
    let two: Instance<dyn Store> = Handle::instance(&plain);
    assert_eq!((zero.add(1), one.add(10), two.add(100)), (1, 10, 100));
    assert_eq!((zero.add(1), one.add(10), two.add(100)), (2, 20, 200));
    assert_eq!((zero.version(), one.version(), two.version(), plain.version()), (0, 1, 0, 0));
    let leaving = |s: &lcr_core::factory::Status| s.name == "plain" && s.state == Stage::Leaving;
    assert_eq!(factory.interfaces().iter().filter(|s| leaving(s)).count(), 2);
    // The middle one goes first, and its library with it.
    drop((one, plain));
    while factory.interfaces().iter().filter(|s| leaving(s)).count() > 1 {
        thread::yield_now();
    }
    assert_eq!((zero.add(1), two.add(100)), (3, 300));
    drop((zero, two));
    while factory.interfaces().iter().any(leaving) {
        thread::yield_now();
    }
}

#[test]
fn raw_references_are_pinned_and_counted() {
    let _alone = alone();
    let factory = factory();
    // SAFETY: the tables are of this type, and take no context.
    let reference = |version| unsafe { factory.reference_raw::<Raw>("raw", version, std::ptr::null_mut()) };
    let old = [reference(0).unwrap(), reference(0).unwrap()];
    let report = factory.replace("raw").with(library("raw_1")).run().unwrap();
    assert_eq!(report.interfaces[0].pinned, 2);
    assert!(report.to_string().ends_with("; 2 raw references keep the old version"), "{report}");
    let new = reference(0).unwrap();
    assert_eq!(((old[0].answer)(), (old[1].answer)(), (new.answer)()), (0, 0, 1));
    // Back while a library's is held: the library stays until it is released.
    let report = factory.rollback("raw").run().unwrap();
    assert_eq!(report.interfaces[0].pinned, 1);
    assert_eq!(((new.answer)(), (reference(0).unwrap().answer)()), (1, 0));
    let with_it = Holds::now().libraries;
    drop(new);
    assert!(Holds::now().libraries < with_it, "released, its library goes");
    // A table cannot stand in for a contract.
    let failure = factory.replace("plain").with(library("raw_1")).run().unwrap_err();
    assert!(matches!(failure.error, ReplaceError::NotInFile { .. }), "{failure}");
}

/// The host knows one method more than the library's contract had.
mod later {
    #[lcr_core::contract]
    pub trait Store: Send + Sync {
        fn version(&self) -> u32;
        fn add(&self, n: u64) -> u64;
        fn ticks(&self) -> u64;
        fn stay(&self, at: &str) -> Result<String, String>;
        fn with_default(&self) -> u32 {
            self.version() + 1000
        }
    }

    pub mod strict {
        #[lcr_core::contract]
        pub trait Store: Send + Sync {
            fn version(&self) -> u32;
            fn add(&self, n: u64) -> u64;
            fn ticks(&self) -> u64;
            fn stay(&self, at: &str) -> Result<String, String>;
            fn rename(&self, to: String) -> bool;
        }
    }

    macro_rules! of {
        ($module:ident, $name:literal, $api:path $(, $method:item)?) => {
            #[lcr_core::component]
            pub mod $module {
                use $api as api;
                use api::Store;

                #[derive(lcr_core::Interface)]
                #[interface(name = $name, version = 0, contract = dyn Store)]
                pub struct It;

                impl Construct for It {
                    fn construct(_: &Context) -> Result<Self, BoxError> {
                        Ok(It)
                    }
                }

                impl Store for It {
                    fn version(&self) -> u32 {
                        0
                    }
                    fn add(&self, n: u64) -> u64 {
                        n
                    }
                    fn ticks(&self) -> u64 {
                        0
                    }
                    fn stay(&self, at: &str) -> Result<String, String> {
                        Ok(at.into())
                    }
                    $($method)?
                }
            }
        };
    }
    of!(gently, "gently", super::super::later);
    of!(
        strictly,
        "strictly",
        super::super::later::strict,
        fn rename(&self, to: String) -> bool {
            to.is_empty()
        }
    );
}

#[test]
fn a_method_that_the_successor_lacks_is_refused_by_name_unless_it_has_a_default() {
    let _alone = alone();
    use later::Store as _;
    let factory = factory();
    let gently: Handle<dyn later::Store> = factory.reference("gently", 0).unwrap();
    assert_eq!(gently.with_default(), 1000);
    factory.replace("gently").with(library("plain_1")).run().unwrap();
    assert_eq!(gently.with_default(), 1001, "the default answers for it, by the new version");

    let strictly: Handle<dyn later::strict::Store> = factory.reference("strictly", 0).unwrap();
    let failure = factory.replace("strictly").with(library("plain_1")).run().unwrap_err();
    assert_eq!(
        failure.to_string(),
        "`strictly` was not replaced (prepare): version 1 does not fit the handles that are live: contract `Store`: \
         the provider has no method `rename` (`rename: fn(String) -> bool`), and the trait has no default body for \
         it: rebuild the component against the present contract"
    );
    assert!(later::strict::Store::rename(&strictly, String::new()));
}

#[test]
fn a_library_of_a_later_contract_answers_handles_of_the_earlier_one_and_the_other_way_round() {
    let _alone = alone();
    let factory = factory();
    let earlier = store(&factory, "plain", 0);
    factory.replace("plain").with(library("plain_later")).run().unwrap();
    assert_eq!((earlier.version(), earlier.add(3)), (2, 3));
    let later: Handle<dyn later::Store> = factory.reference("plain", 0).unwrap();
    assert_eq!(later::Store::with_default(&later), 22, "its own");
    // With handles of both times alive, a library of the earlier one.
    factory.replace("plain").version(2).with(library("plain_later")).run().unwrap();
    factory.rollback("plain").run().unwrap();
    assert_eq!((earlier.version(), later::Store::with_default(&later)), (2, 22));
    let failure = factory.replace("plain").with(library("plain_1")).run().unwrap_err();
    assert!(matches!(failure.error, ReplaceError::DoesNotReplace { found: 1, .. }), "{failure}");
}

#[test]
fn a_call_out_of_a_library_is_waited_for_and_named() {
    let _alone = alone();
    let factory = factory();
    let (held, _each) = (store(&factory, "store", 0), store(&factory, "each", 0));
    factory.replace("store").with(library("store_1")).run().unwrap();
    let (inside, is_inside) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    script(move |at| {
        if at == "inside" {
            inside.send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
        }
        String::new()
    });
    thread::scope(|scope| {
        let caller = thread::Builder::new().name("by-library".into());
        let caller = caller.spawn_scoped(scope, || held.stay("inside")).unwrap();
        is_inside.recv().unwrap();
        // The library's component is inside the host's script, through a handle of its own.
        let failure = factory.replace("script").also("each").timeout(SOON).run().unwrap_err();
        let [who] = failure.inside() else { panic!("{failure}") };
        assert_eq!((&*who.thread, who.interface), ("by-library", "script"));
        let report = factory.replace("script").timeout(SOON).run().unwrap();
        assert_eq!(report.drained, None);
        go.send(()).unwrap();
        assert_eq!(caller.join().unwrap(), Ok(String::new()));
    });
    no_script();
    // Its handle follows.
    assert_eq!(held.stay("outside"), Ok(String::new()));
}

#[test]
fn a_library_that_cannot_go_yet_is_reported_with_the_reason() {
    let _alone = alone();
    let factory = factory();
    let plain = store(&factory, "plain", 0);
    script(|at| if at == "construct" { "cling".into() } else { String::new() });
    let clinging = library("plain_scripted");
    let failure = factory.replace("plain").with(&clinging).run().unwrap_err();
    assert_eq!((failure.step, plain.version()), (Step::Build, 0));
    let kept: Vec<String> = failure.kept.iter().map(ToString::to_string).collect();
    assert_eq!(kept, [format!("{}: kept: a thread that it spawned lives", clinging.display())]);
    script(|_| "let go".into());
    while !sweep().is_empty() {
        thread::yield_now();
    }
    no_script();
    let report = factory.replace("plain").with(library("plain_1")).run().unwrap();
    assert_eq!((report.kept, plain.version()), (vec![], 1));
}

#[test]
fn all_of_it_holds_without_membarrier() {
    again_without_membarrier();
}

#[test]
fn plan_makes_all_checks_and_runs_nothing() {
    let _alone = alone();
    let factory = factory();
    let held = store(&factory, "store", 0);
    held.add(1);
    let before = Holds::now();
    let report = factory.replace("store").with(library("store_1")).plan().unwrap();
    assert_eq!((report.interfaces[0].from, report.interfaces[0].to), (Some(0), 1));
    // A library whose ELF constructors cannot even run is fine by its notes.
    factory.replace("store").with(library("store_unresolved")).plan().unwrap();
    for (file, wanted) in [
        ("store_strange", "version 1 does not fit the handles that are live: "),
        (
            "store_needy",
            "`store` cannot be constructed, store → nobody: no component offers any version of `nobody`",
        ),
        ("store_unrelated", "version 9 does not replace version 0"),
        ("store_without_state", "version 0 hands its state over and version 1 takes none"),
        ("plain_1", "offers no `store`"),
    ] {
        let failure = factory.replace("store").with(library(file)).plan().unwrap_err();
        assert!(failure.to_string().contains(wanted), "{failure}");
        assert_eq!(failure.step, Step::Prepare);
    }
    let after = Holds::now();
    assert_eq!((after.descriptors, after.libraries), (before.descriptors, before.libraries));
    assert_eq!((held.version(), held.add(1)), (0, 2));
    assert!(factory.history().is_empty());
}

#[test]
fn what_nobody_uses_is_replaced_for_those_who_come() {
    let _alone = alone();
    let factory = factory();
    let report = factory.replace("store").with(library("store_2")).run().unwrap();
    assert_eq!(report.interfaces[0].to, 2);
    for version in [0, 1, 2] {
        assert_eq!(store(&factory, "store", version).version(), 2);
    }
    // Nobody uses it again, and it is replaced again: nothing of the first remains.
    let report = factory.replace("store").with(library("store_0")).run().unwrap();
    assert_eq!((report.interfaces[0].from, report.interfaces[0].to), (Some(2), 0));
    for version in [0, 1, 2] {
        assert_eq!(store(&factory, "store", version).version(), 0);
    }
    let script: Handle<dyn Script> = factory.reference("script", 0).unwrap();
    assert_eq!(script.at("anything"), "");
}

#[test]
fn a_rollback_replaces_what_was_replaced_and_nothing_else() {
    let _alone = alone();
    let factory = factory();
    let zero = store(&factory, "plain", 0);
    factory.replace("plain").with(library("plain_1")).run().unwrap();
    // Another version of the same name, which was not there then.
    factory.rollback("plain").run().unwrap();
    let one = store(&factory, "plain", 1);
    assert_eq!((zero.version(), one.version()), (0, 1));
    let failure = factory.rollback("nobody").run().unwrap_err();
    assert_eq!(
        failure.to_string(),
        "`nobody` was not replaced (prepare): `nobody` was not replaced since the program started, so there is \
         nothing to go back to"
    );
    let last = factory.history().pop().unwrap();
    assert_eq!((&*last.interface, last.outcome), ("nobody", Outcome::Failed(failure.to_string())));
}

#[test]
fn a_rollback_loads_the_very_file_that_served_or_refuses() {
    let _alone = alone();
    let scratch = lcr_tests::Scratch::new();
    let factory = factory();
    let plain = store(&factory, "plain", 1);
    let zero = scratch.copy_as(&library("plain_0"), "served.so");
    factory.replace("plain").with(&zero).run().unwrap();
    factory.replace("plain").with(library("plain_1")).run().unwrap();
    factory.rollback("plain").run().unwrap();
    assert_eq!(plain.version(), 0);
    factory.replace("plain").with(library("plain_1")).run().unwrap();
    // Another file under that name.
    let other = scratch.copy_as(&library("plain_1"), "other.so");
    std::fs::rename(other, &zero).unwrap();
    let failure = factory.rollback("plain").run().unwrap_err();
    assert!(matches!(failure.error, ReplaceError::Gone { .. }), "{failure}");
    assert_eq!(plain.version(), 1);
}

/// Who is inside what is known in the program alone.
#[test]
fn a_library_has_no_factory_of_its_own() {
    let _alone = alone();
    let factory = Factory::builder().without_environment().path(library("factories")).build();
    script(|at| format!("the program was {at}"));
    let factories = store(&factory, "factories", 0);
    assert_eq!(factories.stay("process"), Ok("the program was asked".to_owned()));
    let built = factories.stay("built").unwrap_err();
    assert!(
        built.starts_with("in-library: `inner` was referenced through a factory that a library"),
        "{built}"
    );
    let replaced = factories.stay("plain").unwrap_err();
    assert!(replaced.starts_with("a library asked for the replacement of `plain`"), "{replaced}");
    no_script();
}
