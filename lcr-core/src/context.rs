//! What a reference gives to a constructor: typed parameters, a raw pointer for
//! C tables, and the interfaces that it requires.

use std::ffi::c_void;
use std::fmt;
use std::ptr;

use crate::abi::{RawSlice, RawStr};
use crate::contract::{Contract, Mismatch};
use crate::gate::GateHead;
use crate::handle::Handle;
use crate::services::{self, Message};

/// A parameter's value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A signed integer.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// Text.
    Text(String),
    /// Any bytes.
    Bytes(Vec<u8>),
    /// A UUID: sixteen bytes in the order in which they are printed.
    Uuid([u8; 16]),
}

impl Value {
    /// The kind as a word: `integer`, `float`, `text`, `bytes`, `uuid`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Int(_) => "integer",
            Value::Float(_) => "float",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::Uuid(_) => "uuid",
        }
    }
}

macro_rules! value_from {
    ($($ty:ty => $variant:ident: $how:expr),* $(,)?) => { $(
        impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                let how: fn($ty) -> _ = $how;
                Value::$variant(how(value))
            }
        }
    )* };
}

value_from! {
    i64 => Int: |v| v,
    i32 => Int: i64::from,
    u32 => Int: i64::from,
    u16 => Int: i64::from,
    u8 => Int: i64::from,
    f64 => Float: |v| v,
    String => Text: |v| v,
    &str => Text: str::to_owned,
    Vec<u8> => Bytes: |v| v,
    &[u8] => Bytes: <[u8]>::to_vec,
    [u8; 16] => Uuid: |v| v,
}

/// What a constructor is told.
///
/// The caller fills one and passes it to
/// [`reference_with`](crate::reference_with); the constructor reads it.
///
/// ```
/// use lcr_core::Context;
///
/// let cx = Context::new().with("name", "vm1").with("pid", 4711);
/// assert_eq!(cx.text("name")?, "vm1");
/// assert_eq!(cx.int("pid")?, 4711);
/// assert_eq!(
///     cx.int("name").unwrap_err().to_string(),
///     "parameter `name` is text, and an integer was wanted",
/// );
/// # Ok::<(), lcr_core::ContextError>(())
/// ```
#[derive(Debug)]
pub struct Context {
    parameters: Vec<(String, Value)>,
    pointer: *mut c_void,
    interface: String,
    version: i32,
    /// Gates of what the interface requires; the factory keeps them alive until
    /// the constructor has returned.
    dependencies: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    gate: *const GateHead,
    table: *const c_void,
}

/// A parameter or a dependency that is not there, or is another kind of thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// No parameter of that name was given.
    #[error("parameter `{name}` is missing{}", given_names(.given))]
    Missing {
        /// The name.
        name: String,
        /// The names of those that were given.
        given: Vec<String>,
    },
    /// The parameter has another type.
    #[error("parameter `{name}` is {}{found}, and {wanted} was wanted", article(.found))]
    Kind {
        /// The name.
        name: String,
        /// What was wanted, with its article.
        wanted: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// The interface does not say that it requires this one.
    #[error(
        "interface `{interface}` does not require `{name}`: add `requires(\"{name}\" as dyn …)` to its \
         `#[interface(…)]`, so that `{name}` is constructed before it"
    )]
    NotRequired {
        /// The interface under construction.
        interface: String,
        /// What it asked for.
        name: String,
    },
    /// What is required has another contract.
    #[error("of what interface `{interface}` requires, {message}")]
    Contract {
        /// The interface under construction.
        interface: String,
        /// What it asked for.
        name: String,
        /// The difference.
        message: String,
    },
    /// What is required is no raw table.
    #[error("`{name}`, which interface `{interface}` requires, is a typed interface: use `require`")]
    Typed {
        /// The interface under construction.
        interface: String,
        /// What it asked for.
        name: String,
    },
}

fn given_names(names: &[String]) -> String {
    if names.is_empty() { " (none was given)".to_owned() } else { format!(" (given: {})", names.join(", ")) }
}

fn article(kind: &str) -> &'static str {
    match kind {
        "integer" => "an ",
        "text" | "bytes" => "",
        _ => "a ",
    }
}

impl Context {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Context {
            parameters: Vec::new(),
            pointer: ptr::null_mut(),
            interface: String::new(),
            version: 0,
            dependencies: Vec::new(),
        }
    }

    /// The same parameters and pointer, for a successor.
    pub(crate) fn again(&self) -> Self {
        Context { parameters: self.parameters.clone(), pointer: self.pointer, ..Context::new() }
    }

    /// With this parameter; one of the same name is replaced.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.parameters.retain(|(n, _)| n != name);
        self.parameters.push((name.to_owned(), value.into()));
        self
    }

    /// With the pointer that a C constructor gets. A Rust constructor reads it
    /// with [`pointer`](Self::pointer); what it means is between the two.
    #[must_use]
    pub fn with_pointer(mut self, pointer: *mut c_void) -> Self {
        self.pointer = pointer;
        self
    }

    /// The parameter `name`, if it was given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// All parameters, in the order in which they were given.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.parameters.iter().map(|(n, v)| (n.as_str(), v))
    }

    fn want<'a, T>(
        &'a self,
        name: &str,
        wanted: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, ContextError> {
        let value = self.get(name).ok_or_else(|| ContextError::Missing {
            name: name.to_owned(),
            given: self.parameters.iter().map(|(n, _)| n.clone()).collect(),
        })?;
        read(value).ok_or_else(|| ContextError::Kind { name: name.to_owned(), wanted, found: value.kind() })
    }

    /// The integer `name`.
    ///
    /// # Errors
    ///
    /// It was not given, or is no integer. So for the other kinds below.
    pub fn int(&self, name: &str) -> Result<i64, ContextError> {
        self.want(name, "an integer", |v| if let Value::Int(n) = v { Some(*n) } else { None })
    }

    /// The number `name`; an integer is taken too.
    ///
    /// # Errors
    ///
    /// As for [`int`](Self::int).
    #[allow(clippy::cast_precision_loss, reason = "the nearest number is what is wanted")]
    pub fn float(&self, name: &str) -> Result<f64, ContextError> {
        self.want(name, "a float", |v| match v {
            Value::Float(n) => Some(*n),
            Value::Int(n) => Some(*n as f64),
            _ => None,
        })
    }

    /// The text `name`.
    ///
    /// # Errors
    ///
    /// As for [`int`](Self::int).
    pub fn text(&self, name: &str) -> Result<&str, ContextError> {
        self.want(name, "text", |v| if let Value::Text(t) = v { Some(t.as_str()) } else { None })
    }

    /// The bytes `name`.
    ///
    /// # Errors
    ///
    /// As for [`int`](Self::int).
    pub fn bytes(&self, name: &str) -> Result<&[u8], ContextError> {
        self.want(name, "bytes", |v| if let Value::Bytes(b) = v { Some(b.as_slice()) } else { None })
    }

    /// The UUID `name`.
    ///
    /// # Errors
    ///
    /// As for [`int`](Self::int).
    pub fn uuid(&self, name: &str) -> Result<[u8; 16], ContextError> {
        self.want(name, "a uuid", |v| if let Value::Uuid(u) = v { Some(*u) } else { None })
    }

    /// The raw pointer; null where none was given.
    #[must_use]
    pub fn pointer(&self) -> *mut c_void {
        self.pointer
    }

    /// The name of the interface under construction; empty in a caller's context.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The version under construction.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.version
    }

    /// A handle to something that this interface requires. It was constructed
    /// before, and stays until this interface has been released.
    ///
    /// # Errors
    ///
    /// The interface does not say that it requires `name`, or `name` does not fit
    /// the contract `C`.
    pub fn require<C: Contract + ?Sized>(&self, name: &str) -> Result<Handle<C>, ContextError> {
        let required = self.dependency(name)?;
        let unfit = |message: String| ContextError::Contract {
            interface: self.interface.clone(),
            name: name.to_owned(),
            message,
        };
        if required.gate.is_null() {
            return Err(unfit(format!(
                "`{name}` does not fit: {}",
                Mismatch::Raw { expected: C::NAME.to_owned() }
            )));
        }
        // SAFETY: the factory keeps the gate alive until the constructor has returned.
        let message = unsafe { (services::current().gate_accepts)(required.gate, C::SIGNATURE) };
        if !message.is_null() {
            // SAFETY: the host made the message for us.
            return Err(unfit(unsafe { Message::take(message) }));
        }
        // SAFETY: the gate is alive (the factory holds it until the constructor
        // has returned) and its signature was compared above.
        Ok(unsafe { Handle::retain(required.gate) })
    }

    /// The raw C table of something that this interface requires. It stays valid
    /// until this interface has been released.
    ///
    /// # Errors
    ///
    /// The interface does not say that it requires `name`, or `name` is a typed
    /// interface: use [`require`](Self::require).
    ///
    /// # Safety
    ///
    /// `T` must be the `#[repr(C)]` struct of `extern "C"` function pointers that
    /// the provider's table really is; nothing can check that.
    pub unsafe fn require_raw<T>(&self, name: &str) -> Result<ptr::NonNull<T>, ContextError> {
        let required = self.dependency(name)?;
        ptr::NonNull::new(required.table.cast_mut().cast::<T>())
            .ok_or_else(|| ContextError::Typed { interface: self.interface.clone(), name: name.to_owned() })
    }

    fn dependency(&self, name: &str) -> Result<&Dependency, ContextError> {
        self.dependencies.iter().find(|d| d.name == name).ok_or_else(|| ContextError::NotRequired {
            interface: self.interface.clone(),
            name: name.to_owned(),
        })
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: the raw pointer is only carried, and reading through it is the
// constructor's own unsafe business; gates are shared by all threads.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// A [`Context`] as it crosses a border: borrowed, until the constructor returns.
#[repr(C)]
#[derive(Debug)]
pub struct ContextWire {
    size: usize,
    interface: RawStr,
    version: i32,
    parameters: RawSlice<ParameterWire>,
    pointer: *mut c_void,
    dependencies: RawSlice<DependencyWire>,
}

/// A parameter as it crosses.
#[repr(C)]
#[derive(Debug)]
pub struct ParameterWire {
    name: RawStr,
    /// 0 integer, 1 float, 2 text, 3 bytes, 4 uuid.
    kind: u32,
    /// The integer, or the float's bits.
    word: u64,
    /// Text, bytes or uuid.
    bytes: RawSlice<u8>,
}

/// A dependency as it crosses.
#[repr(C)]
#[derive(Debug)]
pub struct DependencyWire {
    /// Its name.
    pub name: RawStr,
    /// Its gate; null for a raw table.
    pub gate: *const GateHead,
    /// The raw table; null for a typed interface.
    pub table: *const c_void,
}

impl Context {
    /// Lends the context to `f` in the form in which it crosses.
    pub(crate) fn lend<R>(
        &self,
        interface: &str,
        version: i32,
        dependencies: &[DependencyWire],
        f: impl FnOnce(*const ContextWire) -> R,
    ) -> R {
        let parameters: Vec<ParameterWire> = self
            .parameters
            .iter()
            .map(|(name, value)| {
                let (kind, word, bytes): (u32, u64, &[u8]) = match value {
                    Value::Int(n) => (0, n.cast_unsigned(), &[]),
                    Value::Float(n) => (1, n.to_bits(), &[]),
                    Value::Text(t) => (2, 0, t.as_bytes()),
                    Value::Bytes(b) => (3, 0, b),
                    Value::Uuid(u) => (4, 0, u),
                };
                ParameterWire { name: RawStr::new(name), kind, word, bytes: RawSlice::new(bytes) }
            })
            .collect();
        f(&ContextWire {
            size: size_of::<ContextWire>(),
            interface: RawStr::new(interface),
            version,
            parameters: RawSlice::new(&parameters),
            pointer: self.pointer,
            dependencies: RawSlice::new(dependencies),
        })
    }

    /// A copy of what `wire` says, in this module's memory.
    ///
    /// # Safety
    ///
    /// `wire` must be [`lend`](Self::lend)'s, still lent, and the gates in it must
    /// live until the context is dropped.
    pub(crate) unsafe fn from_wire(wire: *const ContextWire) -> Context {
        // SAFETY: `wire` is still lent, by the caller's word, and so is all in it.
        unsafe {
            let wire = &*wire;
            Context {
                parameters: wire
                    .parameters
                    .as_slice()
                    .iter()
                    .map(|p| {
                        let bytes = p.bytes.as_slice();
                        let value = match p.kind {
                            0 => Value::Int(p.word.cast_signed()),
                            1 => Value::Float(f64::from_bits(p.word)),
                            2 => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
                            4 if bytes.len() == 16 => Value::Uuid(bytes.try_into().unwrap_or_default()),
                            _ => Value::Bytes(bytes.to_vec()),
                        };
                        (p.name.as_str().to_owned(), value)
                    })
                    .collect(),
                pointer: wire.pointer,
                interface: wire.interface.as_str().to_owned(),
                version: wire.version,
                dependencies: wire
                    .dependencies
                    .as_slice()
                    .iter()
                    .map(|d| Dependency { name: d.name.as_str().to_owned(), gate: d.gate, table: d.table })
                    .collect(),
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Int(n) => write!(f, "{n}"),
            Value::Float(n) => write!(f, "{n}"),
            Value::Text(t) => f.write_str(t),
            Value::Bytes(b) => write!(f, "{} bytes", b.len()),
            Value::Uuid(u) => {
                for (i, byte) in u.iter().enumerate() {
                    if matches!(i, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_parameter_crosses_and_comes_back() {
        let uuid = *b"0123456789abcdef";
        let cx = Context::new()
            .with("id", 7)
            .with("rate", 0.25)
            .with("name", "vm1")
            .with("key", vec![1_u8, 0, 255])
            .with("uuid", uuid)
            .with("id", 8)
            .with_pointer(0xaaaa_0000_usize as *mut c_void);
        // SAFETY: the wire is used while it is lent, and holds no gate.
        let back = cx.lend("store", 3, &[], |wire| unsafe { Context::from_wire(wire) });
        assert_eq!((back.interface(), back.version()), ("store", 3));
        assert_eq!(back.int("id"), Ok(8));
        assert_eq!(back.float("rate"), Ok(0.25));
        assert_eq!(back.float("id"), Ok(8.0));
        assert_eq!(back.text("name"), Ok("vm1"));
        assert_eq!(back.bytes("key"), Ok(&[1, 0, 255][..]));
        assert_eq!(back.uuid("uuid"), Ok(uuid));
        assert_eq!(back.pointer() as usize, 0xaaaa_0000);
        assert_eq!(back.parameters().count(), 5);
    }

    #[test]
    fn a_missing_parameter_is_named_with_those_that_are_there() {
        let cx = Context::new().with("pid", 1).with("name", "x");
        assert_eq!(cx.text("uri").unwrap_err().to_string(), "parameter `uri` is missing (given: pid, name)");
        assert_eq!(
            Context::new().int("pid").unwrap_err().to_string(),
            "parameter `pid` is missing (none was given)"
        );
    }

    #[test]
    fn a_uuid_prints_as_people_write_it() {
        assert_eq!(Value::Uuid([0x12; 16]).to_string(), "12121212-1212-1212-1212-121212121212");
    }
}
