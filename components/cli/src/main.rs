//! The `lcr` command.
//!
//! One file a command, each with its arguments, what it does, and how it is
//! printed for people and as JSON:
//!
//! | module | command |
//! |---|---|
//! | [`inspect`] | what files hold, read without running them |
//! | [`list`] | interfaces, where they come from, what is shadowed |
//! | [`tree`] | what requires what |
//! | [`check`] | will these libraries load into that program |
//! | [`demo`] | the tour |
//! | [`status`] | running programs, and what serves in them |
//! | [`replace`] | `replace`, `plan`, `rollback`: a transaction in a running program |
//! | [`history`], [`watch`] | what was replaced, what is being |
//! | [`uic`] | the original's client |
//! | [`external`] | any other: a program `lcr-*`, as `lcr guest` |
//!
//! Below them: [`target`] finds the running program that is meant, [`files`] finds and reads what was named, [`probe`] looks into a C
//! library in a child process, [`table`] and [`output`] print, [`refusal`] is why
//! a command did not do what was asked.
//!
//! Exit codes: 0 done; 1 refused or failed, with the reason on standard error, one
//! line and then details; 2 wrong usage.

#![deny(unsafe_code)]

mod check;
mod demo;
mod elf;
mod external;
mod files;
mod history;
mod inspect;
mod list;
mod offers;
mod output;
mod probe;
mod refusal;
mod replace;
mod status;
mod table;
mod target;
mod tree;
mod uic;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::Output;
use refusal::Refusal;

/// Components that register themselves, and can be replaced live.
#[derive(Debug, Parser)]
#[command(name = "lcr", version, arg_required_else_help = true, max_term_width = 100)]
struct Lcr {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Arguments),
    List(list::Arguments),
    Tree(tree::Arguments),
    Check(check::Arguments),
    Status(status::Arguments),
    /// Makes every check of a replacement in a running program, and changes nothing.
    Plan(replace::Arguments),
    /// Replaces an interface of a running program: no call is lost.
    Replace(replace::Arguments),
    /// Goes back to the version that served before the last replacement.
    Rollback(replace::Back),
    History(history::Arguments),
    Watch(watch::Arguments),
    Uic(uic::Arguments),
    Demo(demo::Arguments),
    #[command(name = probe::CHILD, hide = true)]
    Probe(probe::child::Arguments),
}

fn main() -> ExitCode {
    let Lcr { command } = Lcr::try_parse().unwrap_or_else(|error| external::or_exit(&error));
    let mut output = Output::new();
    let result = match command {
        Command::Inspect(arguments) => inspect::run(&arguments, &mut output),
        Command::List(arguments) => list::run(&arguments, &mut output),
        Command::Tree(arguments) => tree::run(&arguments, &mut output),
        Command::Check(arguments) => check::run(&arguments, &mut output),
        Command::Status(arguments) => status::run(&arguments, &mut output),
        Command::Plan(arguments) => replace::plan(&arguments, &mut output),
        Command::Replace(arguments) => replace::replace(&arguments, &mut output),
        Command::Rollback(arguments) => replace::rollback(&arguments, &mut output),
        Command::History(arguments) => history::run(&arguments, &mut output),
        Command::Watch(arguments) => watch::run(&arguments, &mut output),
        Command::Uic(arguments) => uic::run(&arguments, &mut output),
        Command::Demo(arguments) => demo::run(&arguments, &mut output),
        Command::Probe(arguments) => probe::child::run(&arguments),
    };
    // What was printed comes before why that was not all.
    match result.and(output.finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            refusal.print();
            ExitCode::from(1)
        }
    }
}

/// Ends the process for wrong usage that clap's own rules cannot express.
fn usage(command: &str, kind: clap::error::ErrorKind, message: &str) -> ! {
    use clap::CommandFactory;
    let mut lcr = Lcr::command();
    lcr.build();
    lcr.find_subcommand_mut(command).expect("a command of ours").error(kind, message).exit()
}

/// What a command comes to.
type Result<T = (), E = Refusal> = std::result::Result<T, E>;
