//! What a message asks for.
//!
//! A parameter that is not known is refused, not passed over: who asks for
//! something that this program cannot do wants to hear that before anything is
//! replaced.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// A request.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) call: Call,
    /// The client wants as many answers as there are.
    pub(crate) more: bool,
    /// It wants none.
    pub(crate) oneway: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Call {
    Info,
    Description(&'static str),
    List,
    Plan(Ask),
    Replace(Ask),
    Rollback { interface: String, timeout: Option<Duration> },
    History,
    Watch,
}

/// A replacement that is asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Ask {
    pub(crate) interfaces: Vec<One>,
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct One {
    pub(crate) interface: String,
    pub(crate) file: Option<PathBuf>,
    pub(crate) version: Option<i32>,
}

/// Why a message is no request.
#[derive(Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) error: String,
    pub(crate) parameters: Value,
    pub(crate) oneway: bool,
    /// What comes behind it cannot be trusted to be a message.
    pub(crate) close: bool,
}

impl Refused {
    pub(crate) fn new(error: &str, parameters: Value) -> Refused {
        Refused { error: error.to_owned(), parameters, oneway: false, close: false }
    }

    pub(crate) fn closing(error: &str, parameters: Value) -> Refused {
        Refused { close: true, ..Refused::new(error, parameters) }
    }
}

fn malformed(reason: impl std::fmt::Display) -> Refused {
    Refused::closing("io.lcr.Control.Malformed", json!({"reason": reason.to_string()}))
}

fn invalid(parameter: &str) -> Refused {
    Refused::new("org.varlink.service.InvalidParameter", json!({"parameter": parameter}))
}

/// What every Varlink service offers, in Varlink's language.
const SERVICE: &str = include_str!("org.varlink.service.varlink");

/// Whoever waits longer than a day for callers to leave does not wait for them.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Request {
    pub(crate) fn parse(message: &[u8]) -> Result<Request, Refused> {
        let message: Value = serde_json::from_slice(message).map_err(malformed)?;
        let Value::Object(mut message) = message else { return Err(malformed("not an object")) };
        let flag = |message: &Map<String, Value>, name: &str| match message.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(malformed(format!("`{name}` is neither true nor false"))),
        };
        let oneway = flag(&message, "oneway")?;
        let more = flag(&message, "more")?;
        if flag(&message, "upgrade")? {
            return Err(malformed("`upgrade` is not supported"));
        }
        let Some(Value::String(method)) = message.remove("method") else {
            return Err(malformed("no `method`"));
        };
        let parameters = match message.remove("parameters") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(parameters)) => parameters,
            Some(_) => return Err(malformed("`parameters` is not an object")),
        };
        let call = call(&method, Parameters(parameters));
        let call = call.map_err(|refused| Refused { oneway, ..refused })?;
        if call == Call::Watch && !more {
            return Err(Refused { oneway, ..Refused::new("org.varlink.service.ExpectedMore", json!({})) });
        }
        Ok(Request { call, more, oneway })
    }
}

fn call(method: &str, mut parameters: Parameters) -> Result<Call, Refused> {
    let (interface, name) = method.rsplit_once('.').unwrap_or(("", method));
    let unknown_method = || Refused::new("org.varlink.service.MethodNotFound", json!({"method": name}));
    let unknown_interface = |interface: &str| {
        Refused::new("org.varlink.service.InterfaceNotFound", json!({"interface": interface}))
    };
    let call = match (interface, name) {
        ("org.varlink.service", "GetInfo") => Call::Info,
        ("org.varlink.service", "GetInterfaceDescription") => {
            match parameters.text("interface")?.ok_or_else(|| invalid("interface"))?.as_str() {
                crate::INTERFACE => Call::Description(crate::DESCRIPTION),
                "org.varlink.service" => Call::Description(SERVICE),
                other => return Err(unknown_interface(other)),
            }
        }
        (crate::INTERFACE, "List") => Call::List,
        (crate::INTERFACE, "Plan") => Call::Plan(parameters.ask()?),
        (crate::INTERFACE, "Replace") => Call::Replace(parameters.ask()?),
        (crate::INTERFACE, "Rollback") => {
            Call::Rollback { interface: parameters.interface()?, timeout: parameters.timeout()? }
        }
        (crate::INTERFACE, "History") => Call::History,
        (crate::INTERFACE, "Watch") => Call::Watch,
        ("org.varlink.service" | crate::INTERFACE, _) => return Err(unknown_method()),
        (other, _) => return Err(unknown_interface(other)),
    };
    parameters.end()?;
    Ok(call)
}

struct Parameters(Map<String, Value>);

impl Parameters {
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Refused> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(name)),
        }
    }

    fn interface(&mut self) -> Result<String, Refused> {
        self.text("interface")?.filter(|name| !name.is_empty()).ok_or_else(|| invalid("interface"))
    }

    fn timeout(&mut self) -> Result<Option<Duration>, Refused> {
        let Some(value) = self.take("timeout_ms") else { return Ok(None) };
        let timeout = value.as_u64().map(Duration::from_millis).filter(|timeout| *timeout <= LONGEST);
        timeout.map(Some).ok_or_else(|| invalid("timeout_ms"))
    }

    fn one(&mut self) -> Result<One, Refused> {
        let interface = self.interface()?;
        let file = self.text("file")?.map(PathBuf::from);
        // Relative to what? The client's directory is not this program's.
        if file.as_ref().is_some_and(|file| !file.is_absolute()) {
            return Err(invalid("file"));
        }
        let version = match self.take("version") {
            None => None,
            Some(value) => {
                let version = value.as_i64().and_then(|version| version.try_into().ok());
                Some(version.ok_or_else(|| invalid("version"))?)
            }
        };
        Ok(One { interface, file, version })
    }

    fn ask(&mut self) -> Result<Ask, Refused> {
        let timeout = self.timeout()?;
        let mut interfaces = vec![self.one()?];
        match self.take("also") {
            None => {}
            Some(Value::Array(also)) => {
                for value in also {
                    let Value::Object(fields) = value else { return Err(invalid("also")) };
                    let mut fields = Parameters(fields);
                    interfaces.push(fields.one()?);
                    fields.end()?;
                }
            }
            Some(_) => return Err(invalid("also")),
        }
        Ok(Ask { interfaces, timeout })
    }

    /// Nothing must be left.
    fn end(self) -> Result<(), Refused> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(invalid(&name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(message: &str) -> Result<Request, Refused> {
        Request::parse(message.as_bytes())
    }

    #[test]
    fn a_replacement_is_read_with_all_that_it_says() {
        let request = parse(
            r#"{"method": "io.lcr.Control.Replace", "parameters": {"interface": "a", "file": "/b.so", "version": -1,
                "timeout_ms": 250, "also": [{"interface": "c", "file": null}]}}"#,
        );
        let one = |name: &str| One { interface: name.into(), file: None, version: None };
        let first = One { file: Some("/b.so".into()), version: Some(-1), ..one("a") };
        let ask = Ask { interfaces: vec![first, one("c")], timeout: Some(Duration::from_millis(250)) };
        assert_eq!(request, Ok(Request { call: Call::Replace(ask), more: false, oneway: false }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (r#"{"interface": ""}"#, "interface"),
            (r#"{"interface": 5}"#, "interface"),
            (r#"{}"#, "interface"),
            (r#"{"interface": "a", "file": "b.so"}"#, "file"),
            (r#"{"interface": "a", "version": 4294967296}"#, "version"),
            (r#"{"interface": "a", "version": 1.5}"#, "version"),
            (r#"{"interface": "a", "timeout_ms": -1}"#, "timeout_ms"),
            (r#"{"interface": "a", "timeout_ms": 18446744073709551615}"#, "timeout_ms"),
            (r#"{"interface": "a", "also": [1]}"#, "also"),
            (r#"{"interface": "a", "also": [{"interface": "b", "force": true}]}"#, "force"),
            (r#"{"interface": "a", "versoin": 2}"#, "versoin"),
        ];
        for (parameters, wrong) in cases {
            let message = format!(r#"{{"method":"io.lcr.Control.Replace","parameters":{parameters}}}"#);
            assert_eq!(parse(&message), Err(invalid(wrong)), "{message}");
        }
    }

    #[test]
    fn what_is_no_request_ends_the_connection_and_what_is_unknown_does_not() {
        for message in ["", "[]", "{}", "{", "\u{0}", r#"{"method":1}"#, r#"{"method":"a","parameters":[]}"#]
        {
            assert!(parse(message).unwrap_err().close, "{message}");
        }
        let deep =
            format!(r#"{{"method":"a.b","parameters":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&deep).unwrap_err().close);
        let error = |message: &str| parse(message).unwrap_err();
        let unknown = error(r#"{"method":"io.lcr.Control.Stop"}"#);
        assert_eq!((unknown.error.as_str(), unknown.close), ("org.varlink.service.MethodNotFound", false));
        assert_eq!(error(r#"{"method":"List"}"#).error, "org.varlink.service.InterfaceNotFound");
        assert_eq!(error(r#"{"method":"io.lcr.Control.Watch"}"#).error, "org.varlink.service.ExpectedMore");
    }
}
