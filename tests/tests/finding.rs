//! What the factory finds: in which order, and when files come, change and go.

#[path = "programs/finding.rs"]
mod libraries;
mod programs;

use std::fs;
use std::path::Path;
use std::process::Command;

use lcr_core::factory::Builder;
use lcr_core::{Factory, Handle, ReferenceError, Version, registry};
use lcr_tests::Scratch;
use libraries::{Thing, library};

/// What is compiled into this test program.
#[lcr_core::component]
mod compiled {
    use super::Thing;

    #[derive(lcr_core::Interface)]
    #[interface(name = "me", version = 1, contract = dyn Thing)]
    pub(crate) struct It;

    impl Construct for It {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(It)
        }
    }

    impl Thing for It {
        fn name(&self) -> String {
            "compiled in".into()
        }
    }
}

/// A factory of libraries alone.
fn searching(places: &[&Path]) -> Factory {
    places.iter().fold(nothing(), |builder, place| builder.path(place)).build()
}

fn nothing() -> Builder {
    Factory::builder().without_environment().components([])
}

/// Who answers; it is released at once.
fn who(factory: &Factory, version: impl Into<Version>) -> String {
    match factory.reference::<dyn Thing>("me", version) {
        Ok(me) => me.name(),
        Err(error) => error.kind().to_owned(),
    }
}

#[test]
fn an_earlier_place_shadows_a_later_one() {
    let (first, second) = (Scratch::new(), Scratch::new());
    first.copy(&library("one"));
    second.copy(&library("other"));
    assert_eq!(who(&searching(&[first.path(), second.path()]), 1), "one");
    assert_eq!(who(&searching(&[second.path(), first.path()]), 1), "other");
    assert_eq!(who(&searching(&[second.path(), first.path()]), Version::any()), "other");
}

#[test]
fn in_one_directory_the_first_name_goes_first_and_that_is_no_duplicate() {
    let directory = Scratch::new();
    directory.copy_as(&library("one"), "b.so");
    directory.copy_as(&library("other"), "a.lcrso");
    directory.copy_as(&library("two"), "0.not-a-library");
    assert_eq!(who(&searching(&[directory.path()]), 1), "other");
    assert_eq!(who(&searching(&[directory.path()]), 2), "not-found", "by its name it is no library");
}

#[test]
fn an_equal_version_in_a_later_place_goes_before_one_that_replaces_it() {
    let (first, second) = (Scratch::new(), Scratch::new());
    first.copy(&library("two"));
    second.copy(&library("one"));
    let factory = searching(&[first.path(), second.path()]);
    assert_eq!(who(&factory, 1), "one");
    assert_eq!(who(&factory, Version::any()), "two");
    assert_eq!(who(&factory, ..=1), "one");
    assert_eq!(who(&factory, 0), "two, version 0");
    assert_eq!(who(&searching(&[first.path()]), 1), "two", "where nothing is equal");
}

#[test]
fn what_is_compiled_in_shadows_what_is_not() {
    let directory = Scratch::new();
    directory.copy(&library("one"));
    directory.copy(&library("two"));
    let own = registry::registrations().into_iter().filter(|r| r.name() == "compiled");
    let factory = nothing().components(own).path(directory.path()).build();
    assert_eq!(who(&factory, 1), "compiled in");
    // It satisfies these, so nothing is searched for a higher one.
    assert_eq!(who(&factory, Version::any()), "compiled in");
    assert_eq!(who(&factory, 1..), "compiled in");
    // These it does not.
    assert_eq!(who(&factory, 2), "two");
    assert_eq!(who(&factory, 2..), "two");
    assert_eq!(who(&factory, 0), "two, version 0");
}

#[test]
fn a_library_that_is_added_after_a_failed_look_up_is_found() {
    let directory = Scratch::new();
    let factory = searching(&[directory.path()]);
    // Again and again, as fast as it goes: a directory's time alone would not show it.
    for _ in 0..20 {
        assert_eq!(who(&factory, 1), "not-found");
        let path = directory.copy(&library("one"));
        assert_eq!(who(&factory, 1), "one");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_place_that_is_made_after_a_failed_look_up_is_searched() {
    let above = Scratch::new();
    let place = above.path().join("later");
    let factory = searching(&[&place]);
    assert_eq!(who(&factory, 1), "not-found");
    fs::create_dir(&place).unwrap();
    fs::copy(library("one"), place.join("lib.so")).unwrap();
    assert_eq!(who(&factory, 1), "one");
}

#[test]
fn a_library_that_is_removed_is_no_longer_found_and_serves_those_who_have_it() {
    let directory = Scratch::new();
    let path = directory.copy(&library("one"));
    let factory = searching(&[directory.path()]);
    let me: Handle<dyn Thing> = factory.reference("me", 1).unwrap();
    fs::remove_file(path).unwrap();
    assert_eq!(me.name(), "one");
    assert_eq!(who(&factory, 1), "one", "it lives: nothing has to be searched");
    drop(me);
    assert_eq!(who(&factory, 1), "not-found");
}

#[test]
fn a_library_that_is_replaced_by_renaming_is_seen_by_the_next_search() {
    let directory = Scratch::new();
    let path = directory.copy_as(&library("one"), "lib.so");
    let factory = searching(&[directory.path()]);
    let me: Handle<dyn Thing> = factory.reference("me", 1).unwrap();
    fs::rename(directory.copy_as(&library("two"), "lib.so.new"), &path).unwrap();
    let two: Handle<dyn Thing> = factory.reference("me", 2).unwrap();
    assert_eq!((me.name(), two.name()), ("one".into(), "two".into()), "both live");
    drop(me);
    assert_eq!(who(&factory, 1), "two", "which replaces it");
}

#[test]
fn a_library_that_is_overwritten_in_place_is_seen_by_the_next_search() {
    let directory = Scratch::new();
    let path = directory.copy_as(&library("one"), "lib.so");
    let age = |path: &Path| {
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        fs::File::open(path).unwrap().set_modified(old).unwrap();
    };
    // Old enough to be trusted; and overwriting a file does not touch its directory.
    age(directory.path());
    let factory = searching(&[directory.path()]);
    let me: Handle<dyn Thing> = factory.reference("me", 1).unwrap();
    fs::copy(library("two"), &path).unwrap();
    assert_eq!(me.name(), "one", "a copy of the old one is mapped");
    assert_eq!(who(&factory, 2), "two");
    drop(me);
    // By the wish, not by the version that was chosen once.
    assert_eq!(who(&factory, 1), "two");
    assert_eq!(who(&factory, Version::any()), "two");
    fs::copy(library("other"), &path).unwrap();
    assert_eq!(who(&factory, Version::any()), "other");
    assert_eq!(who(&factory, 2), "not-found");
    fs::write(&path, "no library at all").unwrap();
    assert_eq!(who(&factory, 1), "not-found");
}

#[test]
fn a_place_may_be_a_single_file_of_any_name() {
    let directory = Scratch::new();
    directory.copy(&library("two"));
    let file = directory.copy_as(&library("one"), "one.plugin");
    let factory = searching(&[&file]);
    assert_eq!(who(&factory, 1), "one");
    assert_eq!(who(&factory, 2), "not-found", "its neighbours are none of our business");
    fs::copy(library("other"), &file).unwrap();
    assert_eq!(who(&factory, 1), "other");
    fs::remove_file(&file).unwrap();
    assert_eq!(who(&factory, 1), "not-found");
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_the_others_and_is_named_when_nothing_is_found() {
    let directory = Scratch::new();
    fs::write(directory.path().join("a.so"), "#!/bin/sh\n").unwrap();
    fs::write(directory.path().join("b.so"), &fs::read(library("one")).unwrap()[..100]).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.path().join("c.so")).unwrap();
    fs::create_dir(directory.path().join("d.so")).unwrap();
    directory.copy_as(&library("two"), "z.so");
    let factory = searching(&[directory.path()]);
    assert_eq!(who(&factory, 2), "two");
    let Err(ReferenceError::NotFound { found, .. }) = factory.reference::<dyn Thing>("me", 7) else {
        panic!("there is no version 7")
    };
    let named: Vec<bool> =
        ["a.so", "b.so"].iter().map(|file| found.unreadable.iter().any(|line| line.contains(file))).collect();
    assert_eq!((named, found.unreadable.len()), (vec![true, true], 2), "{:?}", found.unreadable);
}

#[test]
fn a_thousand_libraries_are_searched_and_one_is_loaded() {
    let directory = Scratch::new();
    let first = directory.copy_as(&library("other"), "0000.so");
    for number in 1..1000 {
        fs::hard_link(&first, directory.path().join(format!("{number:04}.so"))).unwrap();
    }
    directory.copy_as(&library("two"), "0999b.so");
    let factory = searching(&[directory.path()]);
    let me: Handle<dyn Thing> = factory.reference("me", 2).unwrap();
    assert_eq!(me.name(), "two");
}

#[test]
fn a_library_that_does_not_offer_what_is_wanted_is_not_opened() {
    let directory = Scratch::new();
    let mark = directory.path().join("mark");
    for file in ["liblibclocks.so", "liblibgreeters.so"] {
        directory.copy(&programs::DEV.file(file));
    }
    directory.copy_as(&programs::EVOLUTION.file("libgreetings_old.so"), "0.so");
    let mut program = programs::DEV.program("all_dynamic");
    programs::printed(program.arg("typed").env("LCR_PATH", directory.path()).env("MARK", &mark));
    assert!(!mark.exists());
    // And its mark is one: the same directory, and a program that wants it.
    let mut program = programs::EVOLUTION.program("host_old");
    programs::printed(program.env("LCR_PATH", directory.path()).env("MARK", &mark));
    assert!(mark.exists());
}

#[test]
fn lcr_path_is_searched_after_the_builders_places() {
    const PLAYED: &str = "LCR_TESTS_PLAYS_WITH_A_PATH";
    if let Some(place) = std::env::var_os(PLAYED) {
        let factory = || Factory::builder().components([]);
        println!("{}", who(&factory().build(), 1));
        println!("{}", who(&factory().path(&place).build(), 1));
        println!("{}", who(&factory().path(&place).without_environment().build(), 2));
        return;
    }
    let (own, first, second) = (Scratch::new(), Scratch::new(), Scratch::new());
    own.copy(&library("one"));
    first.copy(&library("other"));
    second.copy(&library("two"));
    let path = format!(":/nonexistent:{}::{}", first.path().display(), second.path().display());
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "lcr_path_is_searched_after_the_builders_places", "--nocapture"]);
    let said = lcr_tests::stdout(test.env(PLAYED, own.path()).env("LCR_PATH", path));
    assert!(said.contains("other\none\nnot-found\n"), "{said}");
}
