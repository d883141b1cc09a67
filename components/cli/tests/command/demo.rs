//! `lcr demo`.

use crate::world::World;

#[test]
fn outside_a_checkout_the_static_part_is_shown_and_the_rest_explained() {
    let world = World::new();
    // Not in the target directory, which may lie in the checkout.
    let outside = std::env::temp_dir().join(format!("lcr-outside-{}", std::process::id()));
    std::fs::create_dir_all(&outside).unwrap();
    let program = outside.join("lcr");
    lcr_tests::copy_program(env!("CARGO_BIN_EXE_lcr").as_ref(), &program);
    let mut command = std::process::Command::new(&program);
    let done = world.run(
        command
            .args(["demo", "--seconds", "1"])
            .current_dir(&outside)
            .env("COLUMNS", "100")
            .env_remove("LCR_PATH"),
    );
    std::fs::remove_dir_all(&outside).unwrap();
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(
        done.out.contains(", Ada!") && done.out.contains("This is not a checkout of lcr"),
        "{}",
        done.out
    );
    assert!(!done.out.contains("Refused"), "{}", done.out);
    let told = done.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("the compiled-in version, built anew each time"), "{told}");
}

#[test]
fn in_a_checkout_libraries_are_built_loaded_and_refused() {
    let world = World::new();
    let mut command = world.command(&["demo", "--seconds", "1"]);
    let done = world.run(command.current_dir(lcr_tests::workspace()));
    assert_eq!(done.code, Some(0), "{}", done.err);
    let steps: Vec<&str> =
        done.out.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(
        steps,
        [
            "1  A component that is compiled in",
            "2  Libraries, built from the same sources",
            "3  The same reference, answered by a library",
            "4  Refused: a file that anybody could have written",
            "5  Refused: a library that was built against another contract",
            "6  Replaced under load",
            "7  Now yours",
        ]
    );
    // Compiled in, from the library, and after the cure.
    assert_eq!(done.out.matches(", Ada!").count(), 3, "{}", done.out);
    assert!(done.out.contains("has mode 0666") && done.out.contains("chmod o-w"), "{}", done.out);
    let told = done.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("expected `greet: fn(&str) -> String`, found `greet: fn(Option<String>) -> String`"),
        "{told}"
    );
    assert!(told.contains("released, and unloaded"), "{told}");
    assert!(told.contains("lost 0 torn 0 state carried over"), "{told}");
    let threads = match std::thread::available_parallelism().unwrap().get() {
        1 => "one thread calls".to_owned(),
        all => format!("{all} threads call"),
    };
    assert!(told.contains(&threads), "{told}");
    assert!(told.contains("counting calls") && told.contains("ns a call while somebody watches"), "{told}");
    assert!(told.contains("How long calls took") && told.contains("█"), "{told}");
}

#[test]
fn the_report_is_one_object() {
    let world = World::new();
    let mut command = world.command(&["demo", "--json", "--seconds", "1", "--threads", "3"]);
    let done = world.run(command.current_dir(lcr_tests::workspace()));
    assert_eq!(done.code, Some(0), "{}", done.err);
    let report = done.json();
    let number = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report}"));
    assert_eq!((number("lost"), number("torn"), number("threads")), (0, 0, 3), "{report}");
    assert!(number("calls") > 1000 && number("replacements") > 0, "{report}");
    assert!(number("p50_ns") <= number("p99_ns") && number("p99_ns") <= number("max_ns"), "{report}");
}
