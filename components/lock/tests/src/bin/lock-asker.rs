//! `lock-asker start|hold|inquire INTERFACE LIBRARY ASKED [NAME=VALUE]… [-- COMMAND…]`: a
//! guest's process that asks for itself. See `lcr_lock_tests::elsewhere`.
//!
//! `start`: takes the locks, says the state and executes the command. `hold`: takes them,
//! says the state, and gives them up when the standard input ends. `inquire`: attaches to
//! a guest that runs, and says its state.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use lcr_core::{Context, Factory};
use lcr_lock::life::{Plugin, Policy};
use lcr_lock::{Error, Grant};
use lcr_lock_tests::elsewhere::{Asked, record_of};

/// A copy of the standard output, which is closed when the guest's command is executed.
/// An execution that fails has replaced the standard output itself already.
struct Output(File);

impl Output {
    fn say(&self, line: &str) -> std::io::Result<()> {
        (&self.0).write_all(format!("{line}\n").as_bytes())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, interface, library, asked, rest @ ..] = &arguments[..] else {
        return Err("four arguments at least".into());
    };
    let asked = Asked::of_record(&asked.parse()?).ok_or("nothing is asked")?;
    let mut parts = rest.splitn(2, |argument| argument == "--");
    let mut context = Context::new();
    for parameter in parts.next().unwrap_or_default() {
        let (name, value) = parameter.split_once('=').ok_or("a parameter has no `=`")?;
        context = context.with(name, value);
    }
    let mut builder = Factory::builder().without_environment();
    if !library.is_empty() {
        builder = builder.components([]).path(library);
    }
    let plugin = Plugin::load_from(&builder.build(), interface, &context)?;
    let output = Output(std::io::stdout().as_fd().try_clone_to_owned()?.into());
    if let Err(error) = act(what, &plugin, &asked, parts.next().unwrap_or_default(), &output) {
        output.say(&format!("refused {}", record_of(&error)))?;
    }
    Ok(())
}

fn act(what: &str, plugin: &Plugin, asked: &Asked, command: &[String], output: &Output) -> Result<(), Error> {
    let told = |state: &str| output.say(&format!("granted {state}")).expect("a pipe can be written");
    if what == "inquire" {
        let state = asked.request.state.clone().unwrap_or_default();
        let guest = plugin.attach(&asked.guest, Grant::of_state(state))?;
        let guest = guest.child(Policy::default()).map_err(|none| none.error)?;
        told(&guest.state()?);
        return Ok(());
    }
    let mut guest = plugin.new_guest(&asked.guest.clone().with_pid(std::process::id()))?;
    for resource in &asked.resources {
        guest.add(resource)?;
    }
    let guest = guest.acquire(&asked.request)?;
    told(&guest.grant().state);
    if what == "hold" {
        std::io::stdin().read_to_end(&mut Vec::new()).expect("a pipe can be read");
        return Ok(());
    }
    let [program, arguments @ ..] = command else { panic!("there is no command") };
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null());
    Err(guest.exec(command))
}
