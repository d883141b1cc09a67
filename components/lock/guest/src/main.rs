//! `lcr-guest`: runs any command as a guest under a lock.
//!
//! A guest is a process with a name, a uuid and disks. `lcr-guest run` takes the locks
//! of its disks, starts it so that it inherits them, and stays as its *supervisor*: it
//! waits for its end, passes signals on, plugs and unplugs disks, hands the guest over
//! to another host, and has its lock driver replaced when an operator asks for that
//! (`lcr replace`). There is no daemon, and nothing needs root.
//!
//! What holds:
//!
//! 1. **A guest never runs without its locks.** They are taken before it starts, and the
//!    kernel ties them to its process. A supervisor that is killed takes nothing along:
//!    the guest runs on, locked, and `attach` makes another supervisor of it. Where a
//!    failed migration cannot have them back, the guest stands still; one that has lost
//!    them by itself is shown as such, and not taken up.
//! 2. **A name is one guest.** In a run directory ([`directory`]) each guest has a
//!    record; records change under the directory's lock, each as a whole. Processes are
//!    known by number *and* start, so that no other process is taken for a guest.
//! 3. **The supervisor is a process like any other**: it serves a Unix socket that only
//!    its own user and root may use ([`serve`]), and ends with its guest.
//! 4. **Migration never leaves two that write**, wherever it breaks off ([`migrate`]).
//! 5. **The driver is not asked at the guest's end.** Locks end with the processes that
//!    have them; and a supervisor has them too, until the last process of its guest has
//!    ended ([`family`]): what a guest leaves behind may write.
//!
//! | module | what |
//! |---|---|
//! | [`run`], [`attach`], [`migrate`] | the three ways to become a guest's supervisor |
//! | [`list`], [`plug`], [`stop`] | what can be asked about a guest, and of it |
//! | [`supervise`], [`serve`] | what a supervisor does, and what it answers |
//! | [`family`] | which processes are a guest's |
//! | [`within`] | drivers that must be asked in the guest's own process |
//! | [`users`] | root, who asks for other users' guests |
//! | [`directory`], [`record`] | what is written down |
//! | [`drivers`] | drivers that are compiled in, and those that are not |
//! | [`wire`], [`signals`], [`process`], [`command`] | sockets, signals, processes, commands |
//! | [`arguments`], [`refusal`] | what is asked for, and why it is not done |
//!
//! Exit codes: `run`, `attach` and `migrate` become supervisors, and exit 125 when that
//! is refused; 126 and 127 when the guest's command cannot be executed, or is not there;
//! else as the guest: with its status, or 128 and the signal that ended it. An adopted
//! guest's status is its parent's alone to know: then it is 0. The others: 0 done, 1
//! refused, 2 usage.

mod arguments;
mod attach;
mod command;
mod directory;
mod drivers;
mod family;
mod list;
mod migrate;
mod plug;
mod process;
mod record;
mod refusal;
mod run;
mod serve;
mod signals;
mod stop;
mod supervise;
mod users;
mod wire;
mod within;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Command, LcrGuest};
use refusal::Refusal;

/// A supervisor that was refused.
const REFUSED: u8 = 125;

fn main() -> ExitCode {
    let supervises = std::env::args_os()
        .nth(1)
        .is_some_and(|first| ["run", "attach", "migrate"].iter().any(|command| first == *command));
    let command = match LcrGuest::try_parse() {
        Ok(LcrGuest { command }) => command,
        Err(error) => {
            // Where nobody listens, the exit code has to say it.
            let _ = error.print();
            return match error.exit_code() {
                0 => ExitCode::SUCCESS,
                _ if supervises => ExitCode::from(REFUSED),
                code => ExitCode::from(u8::try_from(code).unwrap_or(2)),
            };
        }
    };
    let done = match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Attach(arguments) => attach::run(&arguments),
        Command::Migrate(arguments) => migrate::run(arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Plug(arguments) => plug::plug(arguments),
        Command::Unplug(arguments) => plug::unplug(arguments),
        Command::Stop(arguments) => stop::run(&arguments),
        Command::Within(arguments) => within::become_guest(arguments),
    };
    done.unwrap_or_else(|refusal| {
        refusal.print();
        ExitCode::from(refusal.code.unwrap_or(if supervises { REFUSED } else { 1 }))
    })
}

/// What a command comes to.
type Result<T = ExitCode, E = Refusal> = std::result::Result<T, E>;
