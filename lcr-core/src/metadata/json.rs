//! The JSON of a note, and of `lcr inspect`.
//!
//! Both are taken apart and put together by hand: a derive would cost every
//! user of the crate more compile time than all of this module, and say less
//! about what is wrong. A reader is told where in the document it stands,
//! so an error names the whole way: `interfaces[0].contract.methods[2].hash`.

use std::fmt;
use std::path::Path;

use serde_json::json;

use super::read::{FORMAT, Item, Problem};
use super::value::{Entries, Value};
use super::{Component, Contract, ContractNote, CoreNote, Interface, LibraryNote, Metadata, Method};

/// The most objects in one note: a quarter of a million methods.
const MAX_OBJECTS: usize = 1 << 18;
/// The most values in one note.
const MAX_VALUES: usize = 1 << 21;

/// What a note's content says; `None` for a kind that is not known here.
pub(super) fn parse(at: u64, content: &[u8]) -> Result<Option<Item>, Problem> {
    // serde_json bounds the depth of a document, not its breadth, and a `{"":0},`
    // of seven bytes takes several hundred in memory.
    if content.len() > MAX_OBJECTS {
        let count = |wanted: &[u8]| content.iter().filter(|b| wanted.contains(b)).count();
        if count(b"{") > MAX_OBJECTS {
            return Err(Problem::Crowded { at, what: "objects", limit: MAX_OBJECTS });
        }
        if count(b",[") > MAX_VALUES {
            return Err(Problem::Crowded { at, what: "values", limit: MAX_VALUES });
        }
    }
    let document: Value<'_> = serde_json::from_slice(content).map_err(|error| Problem::Json { at, error })?;
    read(&document).map_err(|mismatch| match mismatch {
        Mismatch::Format(found) => Problem::Format { at, found },
        Mismatch::Key { key, wanted, found } => Problem::Key { at, key, wanted, found },
    })
}

/// What is wrong with a document.
enum Mismatch {
    Format(String),
    Key { key: String, wanted: &'static str, found: String },
}

fn read(document: &Value<'_>) -> Result<Option<Item>, Mismatch> {
    let note = object(Some(document), &At::Root)?;
    // Before anything else: what another format means by its keys is unknown.
    note.read("lcr", format)?;
    Ok(match note.read("kind", text)?.as_str() {
        "component" => Some(Item::Component(component(&note)?)),
        "contract" => Some(Item::Contract(contract_note(&note)?)),
        "library" => Some(Item::Library(library(&note)?)),
        "core" => Some(Item::Core(core(&note)?)),
        _ => None,
    })
}

fn format(value: Option<&Value<'_>>, at: &At<'_>) -> Result<(), Mismatch> {
    match value {
        Some(Value::Number(n)) if n.as_i64() == Some(FORMAT) => Ok(()),
        Some(Value::Number(n)) => Err(Mismatch::Format(n.to_string())),
        other => Err(mismatch(at, "a number", other)),
    }
}

fn component(note: &Object<'_>) -> Result<Component, Mismatch> {
    Ok(Component {
        name: note.read("component", text)?,
        package: note.read("package", text)?,
        package_version: note.read("package_version", text)?,
        rustc: note.read("rustc", text)?,
        interfaces: note.list("interfaces", interface)?,
    })
}

fn interface(value: Option<&Value<'_>>, at: &At<'_>) -> Result<Interface, Mismatch> {
    let interface = object(value, at)?;
    Ok(Interface {
        name: interface.read("name", text)?,
        version: interface.read("version", version)?,
        replaces: interface.list("replaces", version)?,
        requires: interface.list("requires", text)?,
        per_reference: interface.read("per_reference", flag)?,
        state: interface.read("state", flag)?,
        contract: interface.read("contract", contract)?,
    })
}

fn contract(value: Option<&Value<'_>>, at: &At<'_>) -> Result<Option<Contract>, Mismatch> {
    match value {
        Some(Value::Null) => Ok(None),
        Some(Value::Object(_)) => {
            let contract = object(value, at)?;
            Ok(Some(Contract {
                name: contract.read("name", text)?,
                methods: contract.list("methods", method)?,
            }))
        }
        other => Err(mismatch(at, "an object or null", other)),
    }
}

fn contract_note(note: &Object<'_>) -> Result<ContractNote, Mismatch> {
    Ok(ContractNote {
        name: note.read("contract", text)?,
        package: note.read("package", text)?,
        package_version: note.read("package_version", text)?,
        rustc: note.read("rustc", text)?,
        methods: note.list("methods", method)?,
    })
}

fn library(note: &Object<'_>) -> Result<LibraryNote, Mismatch> {
    Ok(LibraryNote {
        package: note.read("package", text)?,
        package_version: note.read("package_version", text)?,
        rustc: note.read("rustc", text)?,
        own_allocator: note.read("own_allocator", flag)?,
        stay: note.read("stay", flag)?,
    })
}

fn core(note: &Object<'_>) -> Result<CoreNote, Mismatch> {
    Ok(CoreNote {
        package_version: note.read("package_version", text)?,
        rustc: note.read("rustc", text)?,
        dlopen: note.read("dlopen", flag)?,
    })
}

fn method(value: Option<&Value<'_>>, at: &At<'_>) -> Result<Method, Mismatch> {
    let method = object(value, at)?;
    Ok(Method {
        name: method.read("name", text)?,
        signature: method.read("signature", text)?,
        hash: method.read("hash", hash)?,
        has_default: method.read("default", flag)?,
    })
}

fn text(value: Option<&Value<'_>>, at: &At<'_>) -> Result<String, Mismatch> {
    match value {
        Some(Value::String(text)) => Ok(text.as_ref().to_owned()),
        other => Err(mismatch(at, "a string", other)),
    }
}

fn flag(value: Option<&Value<'_>>, at: &At<'_>) -> Result<bool, Mismatch> {
    match value {
        Some(Value::Bool(flag)) => Ok(*flag),
        other => Err(mismatch(at, "true or false", other)),
    }
}

fn version(value: Option<&Value<'_>>, at: &At<'_>) -> Result<i32, Mismatch> {
    let number = match value {
        Some(Value::Number(number)) => number.as_i64().and_then(|n| i32::try_from(n).ok()),
        _ => None,
    };
    number.ok_or_else(|| mismatch(at, "an integer of 32 bits", value))
}

fn hash(value: Option<&Value<'_>>, at: &At<'_>) -> Result<u64, Mismatch> {
    let hash = match value {
        // `from_str_radix` takes a sign too.
        Some(Value::String(digits))
            if digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            u64::from_str_radix(digits, 16).ok()
        }
        _ => None,
    };
    hash.ok_or_else(|| mismatch(at, "16 hexadecimal digits", value))
}

/// The way to a value. It is written down only when something is wrong with it.
enum At<'a> {
    Root,
    Key(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root => f.write_str("."),
            At::Key(At::Root, key) => f.write_str(key),
            At::Key(outer, key) => write!(f, "{outer}.{key}"),
            At::Index(outer, index) => write!(f, "{outer}[{index}]"),
        }
    }
}

fn mismatch(at: &At<'_>, wanted: &'static str, found: Option<&Value<'_>>) -> Mismatch {
    Mismatch::Key { key: at.to_string(), wanted, found: describe(found) }
}

/// A JSON object, and where it stands in its document.
struct Object<'v> {
    at: &'v At<'v>,
    entries: &'v Entries<'v>,
}

fn object<'v>(value: Option<&'v Value<'v>>, at: &'v At<'v>) -> Result<Object<'v>, Mismatch> {
    match value {
        Some(Value::Object(entries)) => Ok(Object { at, entries }),
        other => Err(mismatch(at, "an object", other)),
    }
}

impl Object<'_> {
    /// The value under `key`, as `read` understands it.
    fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(Option<&Value<'_>>, &At<'_>) -> Result<T, Mismatch>,
    ) -> Result<T, Mismatch> {
        read(self.entries.get(key), &At::Key(self.at, key))
    }

    /// The array under `key`, each value as `read` understands it.
    fn list<T>(
        &self,
        key: &str,
        read: impl Fn(Option<&Value<'_>>, &At<'_>) -> Result<T, Mismatch>,
    ) -> Result<Vec<T>, Mismatch> {
        let at = At::Key(self.at, key);
        match self.entries.get(key) {
            Some(Value::Array(values)) => {
                values.iter().enumerate().map(|(i, value)| read(Some(value), &At::Index(&at, i))).collect()
            }
            other => Err(mismatch(&at, "an array", other)),
        }
    }
}

/// A value for a message: what it is, and short ones as they are.
fn describe(value: Option<&Value<'_>>) -> String {
    match value {
        None => "nothing".into(),
        Some(Value::Null) => "null".into(),
        Some(Value::Array(_)) => "an array".into(),
        Some(Value::Object(_)) => "an object".into(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => format!("the number {number}"),
        // Debug escapes what would play tricks with a terminal.
        Some(Value::String(text)) if text.chars().count() <= 40 => format!("the string {text:?}"),
        Some(Value::String(text)) => format!("a string of {} bytes", text.len()),
    }
}

/// The document of `lcr inspect --json` for one file.
pub(super) fn document(metadata: &Metadata, file: &Path) -> serde_json::Value {
    // What the pinned document does not show is named here, so that a new field
    // is not forgotten.
    let Metadata { kind, components, contracts: _, library: _, core: _ } = metadata;
    json!({
        "file": file.to_string_lossy(),
        "kind": kind.to_string(),
        "components": components.iter().map(component_json).collect::<Vec<_>>(),
    })
}

fn component_json(component: &Component) -> serde_json::Value {
    let Component { name, package, package_version, rustc, interfaces } = component;
    json!({
        "name": name,
        "package": package,
        "package_version": package_version,
        "rustc": rustc,
        "interfaces": interfaces.iter().map(interface_json).collect::<Vec<_>>(),
    })
}

fn interface_json(interface: &Interface) -> serde_json::Value {
    let Interface { name, version, replaces, requires, per_reference, state, contract } = interface;
    json!({
        "name": name,
        "version": version,
        "replaces": replaces,
        "requires": requires,
        "per_reference": per_reference,
        "state": state,
        "contract": contract.as_ref().map(|Contract { name, methods }| json!({
            "name": name,
            "methods": methods.iter().map(method_json).collect::<Vec<_>>(),
        })),
    })
}

fn method_json(method: &Method) -> serde_json::Value {
    let Method { name, signature, hash: _, has_default: _ } = method;
    json!({ "name": name, "signature": signature })
}
