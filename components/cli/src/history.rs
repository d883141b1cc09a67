//! `lcr history`: what was replaced in a program since it started.

use anstyle::Style;
use serde_json::{Value, json};

use crate::output::{BAD, GOOD, Output};
use crate::replace::took;
use crate::table::{Cell, Table};
use crate::target;

/// What was replaced, when, by whom, from which file.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A pid, a program's name or a socket.
    target: String,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> crate::Result {
    let Arguments { target, json } = arguments;
    let mut client = target::connect(target)?;
    let mut answer = client.call("History", json!({})).map_err(|error| target::refusal(target, &error))?;
    let entries = answer["entries"].take();
    if *json {
        output.json(&entries);
        return Ok(());
    }
    let entries = entries.as_array().map_or(&[][..], Vec::as_slice);
    if entries.is_empty() {
        output.print("nothing was replaced since the program started\n");
        return Ok(());
    }
    let mut table = Table::new(["TIME", "INTERFACE", "VERSION", "RESULT", "HELD", "BY", "FILE"]);
    for entry in entries {
        table.row(row(entry));
    }
    output.print(table.render(0, output.width()));
    for entry in entries {
        if let Some(error) = entry["error"].as_str() {
            let time = entry["time"].as_str().unwrap_or("?");
            output.print(format!("\n{time}  {}\n", crate::output::plain(error)));
        }
    }
    Ok(())
}

fn row(entry: &Value) -> [Cell; 7] {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let version =
        |key: &str| entry[key].as_i64().map_or_else(|| "?".to_owned(), |version| version.to_string());
    let result = text("result");
    let style = if result == "done" { GOOD } else { BAD };
    let versions =
        if result == "done" { format!("{} → {}", version("from"), version("to")) } else { String::new() };
    // The seconds will do for people.
    let time = text("time").split_once('.').map_or_else(|| text("time"), |(time, _)| time.replace('T', " "));
    let file = match (entry["file"].as_str(), entry["sha256"].as_str()) {
        (Some(file), Some(sha256)) => format!("{file} ({:.12})", sha256),
        (Some(file), None) => file.to_owned(),
        (None, _) if result == "done" => "compiled in".to_owned(),
        (None, _) => String::new(),
    };
    let by = entry["uid"].as_u64().map_or_else(|| "itself".to_owned(), |uid| format!("user {uid}"));
    let held = entry["held_us"].as_u64().filter(|us| *us > 0).map(took).unwrap_or_default();
    [
        time.into(),
        text("interface").into(),
        versions.into(),
        Cell::new(result, style),
        held.into(),
        by.into(),
        Cell::new(file, Style::new()),
    ]
}
