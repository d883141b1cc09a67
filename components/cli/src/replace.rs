//! `lcr replace`, `lcr plan` and `lcr rollback`: one transaction in a running program.

use std::path::PathBuf;
use std::str::FromStr;

use lcr_control::client::{Client, Error};
use serde_json::{Value, json};

use crate::output::{GOOD, NAME, Output, styled};
use crate::refusal::Refusal;
use crate::target;

/// What is replaced by what.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A pid, a program's name or a socket.
    target: String,
    /// The interface to replace.
    interface: String,
    /// The library to take the new version from; unless given, what is compiled in
    /// or in the program's search path.
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// The new version; unless given, the highest that replaces the old, and, without FILE, is not below it.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    version: Option<i32>,
    /// How long to wait for callers to leave; 5000 unless given.
    #[arg(long, value_name = "MS")]
    timeout: Option<u64>,
    /// Replaces another interface in the same transaction: all or none.
    #[arg(long, value_name = "INTERFACE[=FILE]")]
    also: Vec<Also>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Another interface of the transaction, and its library.
#[derive(Clone, Debug)]
struct Also {
    interface: String,
    file: Option<PathBuf>,
}

impl FromStr for Also {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Also, Self::Err> {
        let (interface, file) = match text.split_once('=') {
            Some((_, "")) => return Err("no file stands behind the `=`: leave it out, or name a library"),
            Some((interface, file)) => (interface, Some(PathBuf::from(file))),
            None => (text, None),
        };
        if interface.is_empty() {
            return Err("no interface is named");
        }
        Ok(Also { interface: interface.to_owned(), file })
    }
}

/// Which way back.
#[derive(Debug, clap::Args)]
pub(crate) struct Back {
    /// A pid, a program's name or a socket.
    target: String,
    /// The interface to take back.
    interface: String,
    /// How long to wait for callers to leave; 5000 unless given.
    #[arg(long, value_name = "MS")]
    timeout: Option<u64>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(crate) fn plan(arguments: &Arguments, output: &mut Output) -> crate::Result {
    ask("Plan", arguments, output)
}

pub(crate) fn replace(arguments: &Arguments, output: &mut Output) -> crate::Result {
    ask("Replace", arguments, output)
}

fn ask(method: &str, arguments: &Arguments, output: &mut Output) -> crate::Result {
    let Arguments { target, interface, with, version, timeout, also, json } = arguments;
    let named = |file: &Option<PathBuf>| file.as_deref().map(target::absolute).transpose();
    let file = named(with)?;
    let mut others = Vec::new();
    for Also { interface, file } in also {
        others.push(json!({"interface": interface, "file": named(file)?}));
    }
    let parameters = json!({
        "interface": interface,
        "file": file,
        "version": version,
        "timeout_ms": timeout,
        "also": others,
    });
    let asked = json!({"interface": interface, "to": version, "file": file});
    let client = target::connect(target)?;
    finish(client, target, method, parameters, asked, *json, output)
}

pub(crate) fn rollback(arguments: &Back, output: &mut Output) -> crate::Result {
    let Back { target, interface, timeout, json } = arguments;
    let parameters = json!({"interface": interface, "timeout_ms": timeout});
    let asked = json!({"interface": interface, "to": null, "file": null});
    let client = target::connect(target)?;
    finish(client, target, "Rollback", parameters, asked, *json, output)
}

fn finish(
    mut client: Client,
    target: &str,
    method: &str,
    parameters: Value,
    asked: Value,
    json: bool,
    output: &mut Output,
) -> crate::Result {
    match client.call(method, parameters) {
        Ok(report) => {
            if json {
                output.json(&ordered(&report));
            } else {
                print(&report, output);
            }
            Ok(())
        }
        Err(Error::Refused { error, parameters }) => {
            let is_failure = error == "io.lcr.Control.Failed";
            let refused = Error::Refused { error, parameters: parameters.clone() };
            if json {
                let failure =
                    if is_failure { parameters.clone() } else { refusal_as_failure(&asked, &refused) };
                output.json(&ordered(&failure));
            }
            let refusal = Refusal::new(&refused);
            Err(if is_failure { details(refusal, method, &parameters) } else { refusal })
        }
        Err(error) => Err(target::refusal(target, &error)),
    }
}

/// All promised keys, whatever was answered.
fn ordered(report: &Value) -> Value {
    let keys = [
        "interface",
        "from",
        "to",
        "file",
        "prepared_us",
        "held_us",
        "switched_us",
        "drained_us",
        "held_calls",
        "result",
    ];
    let mut all = report.clone();
    for key in keys {
        if all[key].is_null() {
            all[key] = Value::Null;
        }
    }
    all
}

/// A refusal that came before any step.
fn refusal_as_failure(asked: &Value, refused: &Error) -> Value {
    let mut failure = asked.clone();
    failure["result"] = "failed".into();
    failure["step"] = "request".into();
    failure["error"] = refused.to_string().into();
    failure["inside"] = json!([]);
    failure["kept"] = json!([]);
    failure
}

/// What helps whoever reads of a failure.
fn details(refusal: Refusal, method: &str, failure: &Value) -> Refusal {
    let mut refusal = refusal;
    for inside in failure["inside"].as_array().into_iter().flatten() {
        let text = |name: &str| inside[name].as_str().unwrap_or("?").to_owned();
        refusal = refusal.detail(format!(
            "inside: {} in `{}`, for {} ms at least",
            text("thread"),
            text("interface"),
            inside["age_ms"]
        ));
    }
    for kept in kept(failure) {
        refusal = refusal.detail(kept);
    }
    if method != "Plan" {
        refusal = refusal.detail(match failure["from"].as_i64() {
            Some(from) => format!("version {from} serves on"),
            None => "nothing was changed".to_owned(),
        });
    }
    refusal
}

/// Libraries that could not be unloaded.
fn kept(report: &Value) -> Vec<String> {
    let all = report["kept"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |kept: &Value, key: &str| crate::output::plain(kept[key].as_str().unwrap_or("?")).into_owned();
    all.iter().map(|one| format!("kept: {}: {}", text(one, "file"), text(one, "reason"))).collect()
}

fn print(report: &Value, output: &mut Output) {
    let word = if report["result"] == "planned" { "would be replaced" } else { "replaced" };
    let others = report["also"].as_array().map_or(&[][..], Vec::as_slice);
    for one in std::iter::once(report).chain(others) {
        let name = styled(NAME, one["interface"].as_str().unwrap_or("?"));
        let from = one["from"].as_i64().map_or_else(String::new, |from| format!("{from} → "));
        let origin = match one["file"].as_str() {
            Some(file) => format!("from {}", crate::output::plain(file)),
            None => "compiled in".to_owned(),
        };
        output.print(format!("{name} {}: version {from}{}, {origin}\n", styled(GOOD, word), one["to"]));
        if let Some(pinned @ 1..) = one["pinned"].as_i64() {
            output.print(format!("  {pinned} raw references keep the old version until they are released\n"));
        }
    }
    let micros = |key: &str| report[key].as_u64().map(took);
    let prepared = micros("prepared_us").unwrap_or_default();
    if report["result"] == "planned" {
        output.print(format!("  checked in {prepared}; nothing was changed\n"));
        return;
    }
    let held = match report["held_us"].as_u64() {
        Some(0) | None => "no call waited".to_owned(),
        Some(us) => format!("calls held for {} ({} waited)", took(us), report["held_calls"]),
    };
    let drained = match micros("drained_us") {
        Some(drained) => format!("the old version gone {drained} later"),
        None => "the old version stays until its last caller has left it".to_owned(),
    };
    let switched = micros("switched_us").unwrap_or_default();
    output.print(format!("  prepared in {prepared}, {held}, switched in {switched}, {drained}\n"));
    for kept in kept(report) {
        output.print(format!("  {kept}\n"));
    }
}

/// Microseconds for people.
pub(crate) fn took(us: u64) -> String {
    match us {
        0 => "under 1 µs".to_owned(),
        1..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}
