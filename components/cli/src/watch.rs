//! `lcr watch`: what happens in a program, as it happens.

use serde_json::{Value, json};

use crate::output::{BAD, DIM, GOOD, NAME, Output, plain, styled};
use crate::refusal::Refusal;
use crate::replace::took;
use crate::target;

/// Replacements as they happen, and how often interfaces are called. Calls are
/// counted while somebody watches, which costs each a little.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A pid, a program's name or a socket.
    target: String,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> crate::Result {
    let Arguments { target, json } = arguments;
    let mut client = target::connect(target)?;
    client.stream("Watch", json!({})).map_err(|error| target::refusal(target, &error))?;
    loop {
        match client.answer() {
            Ok((event, continues)) => {
                output.print(if *json { format!("{event}\n") } else { line(&event) });
                if output.is_closed() || !continues {
                    return Ok(());
                }
            }
            Err(lcr_control::client::Error::Lost { .. }) => {
                return Err(Refusal::new(format!("{target} has ended, or answers no more")));
            }
            Err(error) => return Err(target::refusal(target, &error)),
        }
    }
}

/// An event for people.
fn line(event: &Value) -> String {
    let text = |key: &str| plain(event[key].as_str().unwrap_or("?")).into_owned();
    let time = text("time");
    let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time.trim_end_matches('Z'));
    let time = styled(DIM, time);
    let name = styled(NAME, event["interface"].as_str().unwrap_or("?"));
    let rest = match event["event"].as_str() {
        Some("serving") => format!("version {} serves, {}", event["version"], text("origin")),
        Some("calls") => {
            format!("version {}, {} calls a second", event["version"], grouped(&event["calls_per_second"]))
        }
        Some("replaced") => {
            let from = event["from"].as_i64().map_or_else(String::new, |from| format!("{from} → "));
            let held = match event["held_us"].as_u64() {
                Some(us) if us > 0 => format!(", calls held for {}", took(us)),
                _ => String::new(),
            };
            let file = event["file"]
                .as_str()
                .map_or_else(|| "compiled in".into(), |file| format!("from {}", plain(file)));
            format!("{}: version {from}{}, {file}{held}", styled(GOOD, "replaced"), event["to"])
        }
        Some("failed") => format!("{}: {}", styled(BAD, "failed"), text("error")),
        Some("unhealthy") => {
            format!(
                "{}: version {} is taken back: {}",
                styled(BAD, "unhealthy"),
                event["version"],
                text("error")
            )
        }
        _ => plain(&event.to_string()).into_owned(),
    };
    format!("{time}  {name}  {rest}\n")
}

/// 1234567 as 1,234,567.
fn grouped(number: &Value) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
