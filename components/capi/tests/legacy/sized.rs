//! Sized tables: C components that are replaced under their callers.

use std::process::Command;

use lcr_tests::{Profile, build};

use crate::offered::{Running, alone_with_the_socket, uic};
use crate::world::{Link, World, each_link, sample};

/// Versions of the counter, each in a library of its own; it replaces all others.
#[track_caller]
fn version(world: &World, file: &str, version: u32, flags: &[&str]) -> String {
    let version = format!("-DVERSION={version}");
    let all = [&[&*version, "-DREPLACES=0,1,2,3"], flags].concat();
    world.library(file, "counter.c", &all).display().to_string()
}

/// What the host says to each of these replacements of a counter that it holds once, or the
/// plan of it; and that the counter goes on.
#[track_caller]
fn refused(world: &World, link: Link, old: &[&str], new: &[(&str, &str)]) {
    let host = world.host(link, &["counter.c"], old);
    let mut asked = vec!["r:counter:0".to_owned(), "n:0:3".to_owned()];
    let mut wanted = String::from("0: counter\n");
    for (file, sentence) in new {
        asked.extend([format!("R:counter:any:{file}:0"), "n:0:1".into(), "m".into()]);
        wanted += &format!("R -1: `counter` was not replaced ({sentence}\nmapped 0\n");
    }
    asked.push("c:0:1".into());
    wanted += &format!("counter 0: {}\n", 3 + new.len());
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    assert_eq!(world.says(&host, &asked), wanted);
}

#[test]
fn a_table_is_replaced_under_its_callers_and_its_state_goes_along() {
    each_link(|world, link| {
        let host = world.host(link, &["counter.c"], &["-DTALKS"]);
        let one = version(world, "new/one.so", 1, &["-DTALKS"]);
        let two = version(world, "new/two.so", 2, &["-DTALKS", "-DEXTRA"]);
        let plan = format!("p:counter:1:{one}:0");
        let (to_one, to_two) = (format!("R:counter:1:{one}:0"), format!("R:counter:2:{two}:0"));
        let asked = [
            "r:counter:0",
            "n:0:3",
            "c:0:1",
            &plan,
            &to_one,
            "c:0:1",
            "n:0:2",
            "c:0:1",
            "r:counter:0",
            "e:0:1",
            "i:counter",
            "m",
            &to_two,
            "n:1:1",
            "c:0:1",
            "r:counter:2",
            "e:0:2",
            "c:2:2",
            "x:2",
            "b:counter:0",
            "c:1:1",
            "m",
            "t:counter",
            "m",
            "c:0:1",
            "x:0",
            "x:1",
        ];
        let moved = |from: u32, to: u32| {
            format!(
                "counter {from} pauses\ncounter {from} saves\ncounter {to} pauses\ncounter {to} restores\n\
                 counter {to} serves\ncounter {from} goes on elsewhere\n"
            )
        };
        let (to_one, to_two, back) = (moved(0, 1), moved(1, 2), moved(2, 1));
        assert_eq!(
            world.says(&host, &asked),
            format!(
                "counter 0 constructed\n0: counter\ncounter 0: 3\np 0\n\
                 counter 1 constructed\n{to_one}R 0\ncounter 1: 3\ncounter 1: 5\n\
                 counter 1 constructed\n1: counter\nsame\ncounter 1 live one.so counter 2\nmapped 1\n\
                 counter 2 constructed\ncounter 2 constructed\n{to_two}R 0\ncounter 2: 6\n\
                 counter 2 constructed\n2: counter\nother\ncounter 2 extra\n\
                 counter 2 destroyed\nrelease 0\n{back}b 0\ncounter 1: 6\nmapped 2\n\
                 counter 2 destroyed\ncounter 0 destroyed\ncounter 2 destroyed\nretire 0\nmapped 1\ncounter 1: 6\n\
                 counter 1 destroyed\nrelease 0\ncounter 1 destroyed\nrelease 0\n"
            )
        );
    });
}

#[test]
fn no_call_is_lost_or_made_twice_while_versions_alternate() {
    each_link(|world, link| {
        let program = world.program("switched", link, &[sample("switched.c")], &[]);
        let files: Vec<String> =
            [1, 2, 0].iter().map(|v| version(world, &format!("v{v}.so"), *v, &[])).collect();
        let rounds = if crate::world::tool().is_some() { "150" } else { "1000" };
        let mut command = world.command(&program, &["3", rounds, &files[0], &files[1], &files[2]]);
        let output = crate::world::must(command.env("LCR_PATH", &files[2]));
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "failed 0, wrong 0, missing 0, next is right, at most 3 mapped\nretired 0, mapped 1\n\
             released 0, mapped 1\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
}

#[test]
fn a_table_without_state_is_replaced_too() {
    each_link(|world, link| {
        let host = world.host(link, &["counter.c"], &["-DPLAIN"]);
        let one = version(world, "one.so", 1, &["-DPLAIN"]);
        let stateful = version(world, "two.so", 2, &[]);
        let (one, two) = (format!("R:counter:any:{one}:0"), format!("R:counter:any:{stateful}:0"));
        let asked = ["r:counter:0", "n:0:3", &one, "c:0:1", "n:0:1", "c:0:1", &two, "c:0:1", "x:0"];
        assert_eq!(
            world.says(&host, &asked),
            "0: counter\nR 0\ncounter 1: 0\ncounter 1: 1\nR 0\ncounter 2: 0\nrelease 0\n"
        );
    });
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_changes() {
    each_link(|world, link| {
        let new = |file: &str, flags: &[&str]| version(world, &format!("new/{file}"), 1, flags);
        let silent = new("silent.so", &["-DSILENT"]);
        let hole = new("hole.so", &["-DHOLE"]);
        let plain = new("plain.so", &["-DPLAIN"]);
        let lies = new("lies.so", &["-DLIES"]);
        let odd = new("odd.so", &["-DODD"]);
        let half = new("half.so", &["-DHALF"]);
        let construct = new("construct.so", &["-DFAIL_CONSTRUCT"]);
        let restore = new("restore.so", &["-DFAIL_RESTORE"]);
        let pause = new("pause.so", &["-DFAIL_PAUSE"]);
        let form = new("form.so", &["-DFORM=3", "-DOLDEST=2"]);
        let needs = new("needs.so", &["-DNEEDS=\"nothing\""]);
        let older = world.library("new/older.so", "counter.c", &["-DVERSION=1"]).display().to_string();
        let dollar = |file: &str| file.to_owned();
        refused(
            world,
            link,
            &[],
            &[
                (
                    &silent,
                    "prepare): version 1 does not say how long its table is, and 1 reference holds a table whose \
                     entries would become its functions; describe it with LCR_TABLE of lcr.h, or release it first",
                ),
                (
                    &hole,
                    "prepare): the table of version 1 has no function number 1 (from 0), and the one that serves \
                     has: somebody may be about to call it",
                ),
                (
                    &plain,
                    "prepare): version 0 hands its state over and version 1 takes none: it would be lost; describe \
                     its table with LCR_TABLE_WITH_STATE of lcr.h",
                ),
                (
                    &odd,
                    &format!(
                        "prepare): `counter` version 1 ({}) has no table as it says: its description says that its \
                         table has 12 bytes, and a table is made of functions, 8 bytes each, at most 1048576; write \
                         LCR_TABLE (&iface, struct of functions)",
                        dollar(&odd)
                    ),
                ),
                (
                    &half,
                    &format!(
                        "prepare): `counter` version 1 ({}) has no table as it says: its description has some of \
                         pause, save, restore and resume, and not all: state is handed over by the four together",
                        dollar(&half)
                    ),
                ),
                (
                    &construct,
                    &format!(
                        "build): the constructor of `counter` version 1 ({}) failed: it returned 7",
                        dollar(&construct)
                    ),
                ),
                (
                    &pause,
                    &format!(
                        "restore): the `restore` of version 1 ({}) failed: its `pause` failed: it returned 5",
                        dollar(&pause)
                    ),
                ),
                (
                    &restore,
                    &format!(
                        "restore): the `restore` of version 1 ({}) failed: it returned 3",
                        dollar(&restore)
                    ),
                ),
                (
                    &form,
                    &format!(
                        "restore): the `restore` of version 1 ({}) failed: section `count` was saved with schema \
                         version 1, and this version restores versions 2 to 3",
                        dollar(&form)
                    ),
                ),
                (
                    &older,
                    "prepare): version 1 does not replace version 0: its `replaces` is empty; add the version that \
                     serves to that (in C, to `versions_replace`)",
                ),
            ],
        );
        // What other words come of it depends on the machine, or on where was searched.
        let host = world.host(link, &["counter.c"], &[]);
        let (lies, needs) = (format!("R:counter:1:{lies}:0"), format!("R:counter:1:{needs}:0"));
        let said = world.says(&host, &["r:counter:0", &lies, &needs, "n:0:1", "c:0:1", "m"]);
        let lines: Vec<&str> = said.lines().collect();
        assert!(
            lines[1].contains("its description says that its table has 6 functions, and number "),
            "{said}"
        );
        assert!(lines[1].ends_with("the size is wrong, or the table holds something else than functions"));
        assert!(lines[2].contains("`counter` cannot be constructed, counter → nothing: no component offers"));
        assert_eq!(lines[3..], ["counter 0: 1", "mapped 0"], "{said}");
    });
}

#[test]
fn a_version_that_cannot_pause_or_save_goes_on() {
    each_link(|world, link| {
        let one = version(world, "one.so", 1, &[]);
        refused(
            world,
            link,
            &["-DFAIL_PAUSE"],
            &[(&one, "pause): the old version's `pause` failed: it returned 5")],
        );
        refused(
            world,
            link,
            &["-DFAIL_SAVE"],
            &[(&one, "save): the old version's `save` failed: the disk is full")],
        );
    });
}

#[test]
fn a_table_never_becomes_shorter_under_its_callers() {
    each_link(|world, link| {
        let host = world.host(link, &["counter.c"], &["-DEXTRA"]);
        let one = version(world, "one.so", 1, &[]);
        let two = version(world, "two.so", 2, &["-DEXTRA"]);
        let (plan, one) = (format!("p:counter:1:{one}:0"), format!("R:counter:1:{one}:0"));
        let two = format!("R:counter:2:{two}:0");
        let sentence = "-1: `counter` was not replaced (prepare): the table of version 1 has 2 functions, and 1 reference \
                        holds one of 3: the others would lead nowhere; append functions, and never take one away";
        // Released, it is nobody's any more.
        assert_eq!(
            world.says(
                &host,
                &[
                    "r:counter:0",
                    &plan,
                    &one,
                    "c:0:2",
                    "x:0",
                    &one,
                    "r:counter:0",
                    "c:1:1",
                    &two,
                    "r:counter:2",
                    "c:2:2",
                    "b:counter:0",
                    "x:2",
                    "b:counter:0",
                    "c:1:1"
                ]
            ),
            format!(
                "0: counter\np {sentence}\nR {sentence}\ncounter 0 extra\nrelease 0\nR 0\n1: counter\ncounter 1: 0\n\
                 R 0\n2: counter\ncounter 2 extra\nb {sentence}\nrelease 0\nb 0\ncounter 1: 0\n"
            )
        );
    });
}

#[test]
fn what_a_component_says_of_its_table_is_checked_at_the_first_reference() {
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        let lies = world.library("lies.lcrso", "counter.c", &["-DLIES"]);
        let said = world.says(&host, &["r:counter:0", "m"]);
        let start = format!(
            "-1: `counter` version 0 ({}) has no table as it says: its description says that its table has 6 \
             functions, and number ",
            lies.display()
        );
        assert!(said.starts_with(&start) && said.ends_with("\nmapped 0\n"), "{said}");
    });
}

#[test]
fn to_retire_what_there_is_not_is_refused() {
    each_link(|world, link| {
        let host = world.host(link, &["counter.c"], &[]);
        world.library("plain.lcrso", "plain.c", &[]);
        let said = world.says(&host, &["t:nobody", "t:counter", "t:plain", "r:counter:0", "t:counter"]);
        let start = "retire -1: no component offers any version of `nobody`; searched: the program, ";
        assert!(said.starts_with(start), "{said}");
        // None of these was replaced: there is nothing to do.
        assert!(said.ends_with("\nretire 0\nretire 0\n0: counter\nretire 0\n"), "{said}");
    });
}

#[test]
fn any_version_is_none_below_the_one_that_serves() {
    each_link(|world, link| {
        let host = world.host(link, &["counter.c"], &["-DREPLACES=0,1,2,3"]);
        let (two, three) = (version(world, "two.lcrso", 2, &[]), version(world, "new/three.so", 3, &[]));
        let (plan, any, to) = ("p:counter:any::0", "R:counter:any::0", format!("R:counter:any:{three}:0"));
        let down = format!("R:counter:any:{two}:0");
        let asked =
            ["r:counter:0", any, "c:0:1", &to, plan, any, "c:0:1", "R:counter:0::0", "c:0:1", &to, &down];
        let refused = "-1: `counter` was not replaced (prepare): version 3 of `counter` serves, and what could replace \
                       it, compiled in or in the directories that are searched, is older: version 2 at most; to go \
                       down, name that version, or the file";
        assert_eq!(
            world.says(&host, &asked),
            format!(
                "0: counter\nR 0\ncounter 2: 0\nR 0\np {refused}\nR {refused}\ncounter 3: 0\n\
                 R 0\ncounter 0: 0\nR 0\nR 0\n"
            )
        );
    });
}

#[test]
fn a_destructor_that_is_run_by_a_retirement_is_told_that_it_asks_from_there() {
    each_link(|world, link| {
        let host = world.host(link, &["counter.c"], &["-DASKS"]);
        let one = version(world, "one.so", 1, &[]);
        let asks = "this was asked for by a destructor of a replaced version that is just retired (by `lcr_retire`, in \
                    Rust `Factory::retire`): ask when that has returned";
        assert_eq!(
            world.says(&host, &["r:counter:0", &format!("R:counter:1:{one}:0"), "t:counter", "t:counter"]),
            format!(
                "0: counter\nR 0\nthe destructor: `counter` was not replaced (prepare): {asks}\n\
                 the destructor: {asks}\nretire 0\nretire 0\n"
            )
        );
    });
}

#[test]
fn what_cannot_be_true_of_an_interface_that_is_not_registered_is_said_at_once() {
    const REASON: &str = "has no table as it says: its description says that its table has 12 bytes, and a table is made \
                          of functions, 8 bytes each, at most 1048576; write LCR_TABLE (&iface, struct of functions)";
    let says = |output: std::process::Output| {
        assert!(output.status.success());
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    each_link(|world, link| {
        // In a library that is loaded for what it registers.
        let host = world.host(link, &[], &[]);
        let file = world.library("described.lcrso", "described.c", &[]).display().to_string();
        let asked = ["r:described:0", "c:0:0", "r:forgotten:3"];
        let (said, complained) = says(lcr_tests::run(&mut world.command(&host, &asked)));
        let subject = "`forgotten` version 3, which no component registers,";
        assert_eq!(complained, format!("lcr: {subject} {REASON}\n"));
        assert!(said.starts_with("0: described\ndescribed\n-1: no component offers `forgotten`"), "{said}");
        assert!(said.ends_with(&format!("; passed over: {file}: {subject} {REASON}\n")), "{said}");
        // In the program itself.
        let host = world.host(link, &["described.c"], &[]);
        let (said, complained) = says(lcr_tests::run(&mut world.command(&host, &["r:described:0", "c:0:0"])));
        assert_eq!(complained, format!("lcr: `forgotten` version 3 {REASON}\n"));
        assert_eq!(said, "0: described\ndescribed\n");
    });
}

#[test]
fn a_version_that_serves_again_without_its_state_begins_anew() {
    each_link(|world, link| {
        let host = world.host(link, &["counter.c"], &["-DTALKS"]);
        let one = version(world, "one.so", 1, &["-DTALKS"]);
        let one = format!("R:counter:1:{one}:0");
        let asked = ["r:counter:0", &one, "x:0", "b:counter:0", "r:counter:0", "n:1:1", "c:1:1"];
        let said = world.says(&host, &asked);
        assert!(
            said.ends_with(
                "release 0\nb 0\ncounter 0 constructed\ncounter 0 pauses\ncounter 0 serves\n1: counter\ncounter 0: 1\n"
            ),
            "{said}"
        );
    });
}

#[test]
fn whoever_asks_for_a_version_gets_a_table_of_its_length() {
    each_link(|world, link| {
        let host = world.host(link, &["counter.c"], &[]);
        let two = version(world, "two.so", 2, &["-DEXTRA"]);
        let two = format!("R:counter:2:{two}:0");
        // Version 0 is asked for, and answered by 2: that is no reason not to go back.
        let asked = ["r:counter:0", &two, "r:counter:0", "e:0:1", "b:counter:0", "c:1:1"];
        assert_eq!(world.says(&host, &asked), "0: counter\nR 0\n1: counter\nsame\nb 0\ncounter 0: 0\n");
    });
}

#[test]
fn a_constructor_that_references_what_it_replaces_is_refused() {
    each_link(|world, link| {
        let itself = version(world, "itself.so", 1, &["-DREFERENCES"]);
        refused(
            world,
            link,
            &[],
            &[(
                &itself,
                &format!("build): the constructor of `counter` version 1 ({itself}) failed: it returned 9"),
            )],
        );
    });
}

#[test]
fn what_requires_it_does_not_keep_it_from_being_replaced() {
    each_link(|world, link| {
        let host = world.host(link, &["counter.c"], &["-DTALKS"]);
        world.library("dependent.lcrso", "needs.c", &[]);
        let one = version(world, "new/one.so", 1, &["-DTALKS"]);
        let one = format!("R:counter:1:{one}:0");
        let said = world.says(&host, &["r:needs:0", "n:0:2", &one, "n:0:1", "c:0:1", "x:0"]);
        assert_eq!(
            said,
            "counter 0 constructed\ncounter 0 constructed\n0: needs\ncounter 1 constructed\ncounter 1 constructed\n\
             counter 0 pauses\ncounter 0 saves\ncounter 1 pauses\ncounter 1 restores\ncounter 1 serves\n\
             counter 0 goes on elsewhere\nR 0\ncounter 1: 3\ncounter 1 destroyed\ncounter 0 destroyed\n\
             counter 1 destroyed\ncounter 0 destroyed\nrelease 0\n"
        );
    });
}

#[test]
fn two_versions_that_serve_do_not_give_their_states_to_one() {
    each_link(|world, link| {
        let host = world.host(link, &["counter.c"], &[]);
        world.library("one.lcrso", "counter.c", &["-DVERSION=1"]);
        let three = version(world, "three.so", 3, &[]);
        let three = format!("R:counter:3:{three}:0");
        assert_eq!(
            world.says(
                &host,
                &[
                    "r:counter:0",
                    "r:counter:1",
                    "n:0:1",
                    "n:1:2",
                    &three,
                    "c:0:1",
                    "c:1:1",
                    "x:1",
                    &three,
                    "c:0:1"
                ]
            ),
            "0: counter\n1: counter\nR -1: `counter` was not replaced (prepare): versions 0 and 1 both serve and \
             both hand their state over, and version 3 has room for one; replace one of them first\n\
             counter 0: 1\ncounter 1: 2\nrelease 0\nR 0\ncounter 3: 1\n"
        );
    });
}

#[test]
fn the_command_and_the_originals_client_replace_it_too() {
    // There is one such socket in a network namespace.
    alone_with_the_socket(|| {
        each_link(|world, link| {
            let host = world.host(link, &["counter.c"], &[]);
            let one = version(world, "one.so", 1, &[]);
            version(world, "two.lcrso", 2, &[]);
            let go = world.path().join("go");
            let wait = format!("w:{}", go.display());
            let asked = ["r:counter:0", "n:0:5", "k:1", &wait, "c:0:1", "i:counter"];
            let host = Running::start(world, &host, &asked);
            let pid = host.pid().to_string();
            let lcr = build(&["lcr-cli"], Profile::Dev).program("lcr");
            let command = |arguments: &[&str]| {
                let mut lcr = Command::new(&lcr);
                lcr.args(arguments).env("LCR_RUNTIME_DIR", world.path());
                crate::world::said(&mut lcr)
            };
            let replaced = command(&["replace", &pid, "counter", "--with", &one]);
            assert!(replaced.starts_with("counter replaced: version 0 → 1, from"), "{replaced}");
            let back = command(&["rollback", &pid, "counter"]);
            assert!(back.contains("version 1 → 0, compiled in"), "{back}");
            uic("livereplace counter version2").unwrap();
            let done = |history: &str| history.matches("\"result\":\"done\"").count() == 3;
            let history = loop {
                let history = host.asks("History", "{}");
                if done(&history) {
                    break history;
                }
            };
            for version in ["\"from\":0,", "\"to\":1,", "\"to\":0,", "\"to\":2,"] {
                assert!(history.contains(version), "{history}");
            }
            std::fs::write(&go, "").unwrap();
            let said = host.ends();
            assert!(said.ends_with("waits\ncounter 2: 5\ncounter 2 live two.lcrso counter 1\n"), "{said}");
        });
    });
}

#[test]
fn the_manuals_counter_is_replaced() {
    let manual =
        std::fs::read_to_string(crate::world::include().parent().unwrap().join("man/lcr.3")).unwrap();
    let mut examples = manual.split("\n.EX\n").filter_map(|rest| rest.split("\n.EE\n").next());
    let example = examples.find(|example| example.starts_with("static pthread_mutex_t lock")).unwrap();
    let text = format!(
        "#include <pthread.h>\n#include <stdio.h>\n#include <string.h>\n#include <lcr.h>\n\
         struct counter {{ long (*next)(void); }};\nstatic struct lcr_iface iface;\n{example}\n\
         static struct counter functions = {{ next }};\nstatic int replaces[] = {{ 0, 1 }};\n\
         static struct lcr_iface iface = {{ \"counter\", VERSION, replaces, 2, NULL, 0, NULL, NULL,\n\
         (void **)(void *)&functions }};\nstatic struct lcr_comp comp = {{ &iface, 1 }};\n\
         __attribute__((constructor)) static void load(void)\n\
         {{\n\tlcr_table_describe(&said);\n\tlcr_component_register(&comp);\n}}\n"
    );
    each_link(|world, link| {
        let source = world.path().join("manual.c");
        std::fs::write(&source, &text).unwrap();
        let files = [0, 1].map(|v| {
            world.library_of(&format!("v{v}.so"), &source, &[&format!("-DVERSION={v}")]).display().to_string()
        });
        let program = world.program("switched", link, &[sample("switched.c")], &[]);
        let mut command = world.command(&program, &["2", "50", &files[1], &files[0]]);
        let output = crate::world::must(command.env("LCR_PATH", &files[0]));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.starts_with("failed 0, wrong 0, missing 0, next is right, at most 2 mapped\n"),
            "{said}"
        );
    });
}

#[test]
fn it_is_there_under_every_linker_and_after_strip() {
    let Some(world) = World::new() else { return };
    for linker in ["bfd", "gold"] {
        let flags = [&format!("-fuse-ld={linker}"), "-s", "-Wl,--gc-sections", "-ffunction-sections"];
        let one = version(&world, &format!("{linker}.so"), 1, &flags);
        let host = world.host(Link::Static, &["counter.c"], &flags[..1]);
        let (plan, replace) = (format!("p:counter:1:{one}:0"), format!("R:counter:1:{one}:0"));
        let said = world.says(&host, &["r:counter:0", "n:0:2", &plan, &replace, "c:0:1"]);
        assert_eq!(said, "0: counter\np 0\nR 0\ncounter 1: 2\n", "{linker}");
    }
}

#[test]
fn a_component_in_cplusplus_describes_its_table() {
    let Some(world) = World::new() else { return };
    let source = world.path().join("counter.cpp");
    std::fs::copy(sample("counter.c"), &source).unwrap();
    let flags = ["-std=c++17", "-DPLAIN", "-DVERSION=1", "-DREPLACES=0"];
    let one = world.library_of("one.so", &source, &flags).display().to_string();
    let host = world.host(Link::Shared, &["counter.c"], &["-DPLAIN"]);
    let replace = format!("R:counter:1:{one}:0");
    assert_eq!(world.says(&host, &["r:counter:0", &replace, "c:0:1"]), "0: counter\nR 0\ncounter 1: 0\n");
}
