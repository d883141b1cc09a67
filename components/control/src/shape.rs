//! How answers look in JSON.
//!
//! The names are promised to scripts: keys may be added, never renamed.

use std::path::Path;
use std::time::{Duration, SystemTime};

use lcr_core::factory::{Entry, Event, Failure, KeptLibrary, Outcome, Replaced, Report, Status, Timings};
use serde_json::{Map, Value, json};

/// A time as RFC 3339 has it, in UTC, with milliseconds.
pub(crate) fn time(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years that begin in March have their leap day last: what follows counts in
    // 400 years of such, of 146,097 days, from the first of March of year 0.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!(
        "{:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z",
        era * 400 + year + later,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

fn file(path: Option<&Path>) -> Value {
    path.map(|path| path.to_string_lossy()).into()
}

/// Where an interface comes from.
fn origin(path: Option<&Path>) -> Value {
    path.map_or_else(|| "static".into(), |path| path.to_string_lossy()).into()
}

pub(crate) fn interface(status: &Status) -> Value {
    let Status { name, version, state, file, component, references, calls } = status;
    json!({
        "name": name,
        "version": version,
        "state": state.as_str(),
        "origin": origin(file.as_deref()),
        "component": component,
        "references": references,
        "calls": calls,
    })
}

fn replaced(replaced: &Replaced) -> Map<String, Value> {
    let Replaced { interface, from, to, file: path, sha256, pinned } = replaced;
    object(json!({
        "interface": interface,
        "from": from,
        "to": to,
        "file": file(path.as_deref()),
        "sha256": sha256,
        "pinned": pinned,
    }))
}

/// Libraries that could not be unmapped.
fn kept(kept: &[KeptLibrary]) -> Vec<Value> {
    let one = |one: &KeptLibrary| json!({"file": file(Some(&one.path)), "reason": one.reason.to_string()});
    kept.iter().map(one).collect()
}

/// A report: the first interface's, with the others in `also`.
pub(crate) fn report(report: &Report, result: &str) -> Value {
    let Report { interfaces, prepared, held, switched, drained, held_calls, kept } = report;
    let mut interfaces = interfaces.iter().map(replaced);
    let mut all = interfaces.next().unwrap_or_default();
    all.extend(object(json!({
        "prepared_us": micros(*prepared),
        "held_us": micros(*held),
        "switched_us": micros(*switched),
        "drained_us": drained.map(micros),
        "held_calls": held_calls,
        "result": result,
        "also": interfaces.collect::<Vec<_>>(),
        "kept": self::kept(kept),
    })));
    Value::Object(all)
}

/// A failure. `from` is what serves, `to` and `file` what was asked for.
pub(crate) fn failure(failure: &Failure, from: Option<i32>, to: Option<i32>, path: Option<&Path>) -> Value {
    let inside = failure.inside().iter().map(|inside| {
        json!({
            "thread": inside.thread,
            "age_ms": u64::try_from(inside.age.as_millis()).unwrap_or(u64::MAX),
            "interface": inside.interface,
        })
    });
    json!({
        "interface": failure.interface,
        "from": from,
        "to": to,
        "file": file(path),
        "result": "failed",
        "step": failure.step.to_string(),
        "error": failure.error.to_string(),
        "inside": inside.collect::<Vec<_>>(),
        "kept": kept(&failure.kept),
    })
}

pub(crate) fn entry(entry: &Entry) -> Map<String, Value> {
    let Entry { time: at, interface, from, to, file: path, sha256, uid, outcome, timings } = entry;
    let (result, error) = match outcome {
        Outcome::Done => ("done", None),
        Outcome::Failed(error) => ("failed", Some(error)),
    };
    let timed = |which: fn(&Timings) -> Option<Duration>| timings.as_ref().and_then(which).map(micros);
    object(json!({
        "time": time(*at),
        "interface": interface,
        "from": from,
        "to": to,
        "file": file(path.as_deref()),
        "sha256": sha256,
        "uid": uid,
        "result": result,
        "error": error,
        "prepared_us": timed(|t| Some(t.prepared)),
        "held_us": timed(|t| Some(t.held)),
        "switched_us": timed(|t| Some(t.switched)),
        "drained_us": timed(|t| t.drained),
    }))
}

/// An event, for those who watch. `None` for a kind that this crate does not know.
pub(crate) fn event(event: &Event) -> Option<Value> {
    let word = event.as_str();
    let mut all = match event {
        Event::Replacement(what) => entry(what),
        Event::Unhealthy { interface, version, reason } => object(json!({
            "time": time(SystemTime::now()),
            "interface": interface,
            "version": version,
            "error": reason,
        })),
        _ => return None,
    };
    all.insert("event".into(), word.into());
    Some(Value::Object(all))
}

/// What serves when somebody begins to watch.
pub(crate) fn serving(status: &Status) -> Value {
    json!({
        "event": "serving",
        "time": time(SystemTime::now()),
        "interface": status.name,
        "version": status.version,
        "origin": origin(status.file.as_deref()),
    })
}

/// How often an interface was called.
pub(crate) fn calls(interface: &str, version: i32, total: u64, per_second: u64) -> Value {
    json!({
        "event": "calls",
        "time": time(SystemTime::now()),
        "interface": interface,
        "version": version,
        "calls": total,
        "calls_per_second": per_second,
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |seconds| time(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(951_868_799_999), "2000-02-29T23:59:59.999Z");
        assert_eq!(at(1_704_067_199_500), "2023-12-31T23:59:59.500Z");
        assert_eq!(at(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }
}
