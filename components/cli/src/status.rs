//! `lcr status`: running programs, and what serves in them.

use std::path::Path;

use lcr_control::client::Error;
use serde_json::{Value, json};

use crate::output::{BAD, DIM, GOOD, NAME, ODD, Output, count, styled};
use crate::refusal::Refusal;
use crate::table::{Cell, Table};
use crate::target;

/// Running programs and their interfaces.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A pid, a program's name or a socket; every reachable program unless given.
    target: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> crate::Result {
    let Arguments { target, json } = arguments;
    let mut programs = Vec::new();
    let mut refusals = Vec::new();
    match target {
        Some(target) => {
            let socket = target::socket(target)?;
            let list = target::list(&socket).map_err(|error| target::refusal(target, &error))?;
            programs.push(shown(list, &socket));
        }
        None => {
            for asked in target::all() {
                match asked.answer {
                    Ok(list) => programs.push(shown(list, &asked.found.path)),
                    // Somebody else's, and not what was asked for.
                    Err(Error::Refused { .. }) => {}
                    Err(error) => refusals.push(target::refusal(&asked.found.pid.to_string(), &error)),
                }
            }
        }
    }
    if *json {
        output.json(&Value::Array(programs.clone()));
    } else if programs.is_empty() && refusals.is_empty() {
        output.print(format!("no program can be reached\n  {}\n", target::NONE));
    } else {
        print(&programs, output);
    }
    let total = programs.len() + refusals.len();
    Refusal::of_several(refusals, total, "programs did not answer").map_or(Ok(()), Err)
}

/// What the program said, with the socket that it was asked on.
fn shown(list: Value, socket: &Path) -> Value {
    let interfaces = list["interfaces"].as_array().cloned().unwrap_or_default();
    let keys = ["name", "version", "state", "origin", "component", "references", "calls"];
    let interface = |all: &Value| keys.iter().map(|key| ((*key).to_owned(), all[*key].clone())).collect();
    json!({
        "pid": list["pid"],
        "program": list["program"],
        "socket": socket.to_string_lossy(),
        "interfaces": interfaces.iter().map(interface).collect::<Vec<Value>>(),
    })
}

fn print(programs: &[Value], output: &mut Output) {
    for (at, program) in programs.iter().enumerate() {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let interfaces = program["interfaces"].as_array().map_or(&[][..], Vec::as_slice);
        let gap = if at > 0 { "\n" } else { "" };
        let name = styled(NAME, &text(&program["program"]));
        output.print(format!(
            "{gap}{name}  pid {}, {}  {}\n",
            program["pid"],
            count(interfaces.len(), "interface", "interfaces"),
            styled(DIM, &text(&program["socket"]))
        ));
        // Calls are counted while somebody watches.
        let is_counted = interfaces.iter().any(|interface| !interface["calls"].is_null());
        let mut table = if is_counted {
            Table::new(["INTERFACE", "VERSION", "STATE", "REFERENCES", "CALLS", "ORIGIN"])
        } else {
            Table::new(["INTERFACE", "VERSION", "STATE", "REFERENCES", "ORIGIN"])
        };
        for interface in interfaces {
            let state = text(&interface["state"]);
            let style = match state.as_str() {
                "live" => GOOD,
                "held" => BAD,
                "leaving" => ODD,
                _ => DIM,
            };
            let cell = |key: &str| match &interface[key] {
                Value::Null => Cell::from(""),
                Value::String(text) => Cell::from(text),
                other => Cell::from(other.to_string()),
            };
            let (name, version, references) = (cell("name"), cell("version"), cell("references"));
            let (state, origin) = (Cell::new(state, style), cell("origin"));
            if is_counted {
                table.row([name, version, state, references, cell("calls"), origin]);
            } else {
                table.row([name, version, state, references, origin]);
            }
        }
        output.print(table.render(2, output.width()));
    }
}
