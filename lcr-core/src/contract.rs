//! Contracts: what the two sides of a border agree on.
//!
//! A contract is a Rust trait under [`#[contract]`](macro@crate::contract). The two
//! sides may have been compiled years apart, by different compilers, so nothing
//! of Rust's own layouts crosses. The macro writes three things beside the trait:
//!
//! * a `#[repr(C)]` struct of function pointers, one for each method, in the
//!   order of the trait ([`Contract::Methods`]);
//! * the component's side, [`Provide`]: for every type that implements the trait
//!   such a struct, filled with thunks that turn wire values into Rust's, call
//!   the method, and catch its panic;
//! * the caller's side: `impl Trait for Handle<dyn Trait>` and for
//!   `Instance<dyn Trait>`, which do the reverse.
//!
//! Invariants:
//!
//! * Methods are matched by position. Two versions of a contract are compatible
//!   when, at each position that both have, name and hash of the shape agree.
//!   So only appending is an evolution.
//! * A method that the provider does not have is answered by the trait's default
//!   body on the caller's side; one without a default makes the provider unfit,
//!   and it is refused when it is referenced, not when it is called.
//! * The hash is of the types, not of parameters' names or of spelling.

use crate::abi::{RawSlice, RawStr};
use crate::text::Piece;

/// A trait under [`#[contract]`](macro@crate::contract), as `dyn Trait`.
///
/// Only the macro implements it.
///
/// # Safety
///
/// `Methods` must be `#[repr(C)]` and hold one function pointer for each entry of
/// `SIGNATURE`, in the same order, each of the type that the shape says. `Proxy`
/// must be `#[repr(transparent)]` over `InstanceHead`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a contract",
    note = "a contract is a trait under `#[lcr_core::contract]`, and is written `dyn Trait`"
)]
pub unsafe trait Contract: Send + Sync + 'static {
    /// The table of the methods: one `unsafe extern "C" fn` a method.
    type Methods: Copy + Send + Sync + 'static;
    /// The caller's side: a `#[repr(transparent)]` wrapper of
    /// [`InstanceHead`](crate::gate::InstanceHead) that implements the trait. It is
    /// only ever seen behind a reference whose owner keeps the instance alive.
    type Proxy: Send + Sync + 'static;
    /// The trait's name.
    const NAME: &'static str;
    /// Names and shapes, as they stand in a table's prologue.
    const SIGNATURE: &'static Signature;
    /// The methods as the JSON text of a metadata note, without the brackets:
    /// `{"name":…,"signature":…,"hash":…,"default":…},…`.
    const NOTE: &'static [Piece];
}

/// A contract that `T` can be called through: `T` implements the trait.
///
/// # Safety
///
/// Each function of `METHODS` must be callable with a `*const T`.
pub unsafe trait Provide<T>: Contract {
    /// The thunks for `T`.
    const METHODS: Self::Methods;
}

/// What a contract consists of, as text and hashes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    contract: RawStr,
    methods: RawSlice<Method>,
    hash: u64,
}

/// One method of a contract.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Method {
    name: RawStr,
    shape: RawStr,
    hash: u64,
    has_default: u32,
}

impl Method {
    /// A method called `name` whose `shape` reads like `fn(&str) -> String`, and
    /// has this `hash`.
    #[must_use]
    pub const fn new(name: &'static str, shape: &'static str, hash: u64, has_default: bool) -> Self {
        Method { name: RawStr::new(name), shape: RawStr::new(shape), hash, has_default: has_default as u32 }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        // SAFETY: `new` took it from a `&'static str`; the table that holds this
        // method is mapped as long as `self` can be borrowed.
        unsafe { self.name.as_str() }
    }

    /// The shape: types of the arguments and of the result, as text.
    #[must_use]
    pub fn shape(&self) -> &str {
        // SAFETY: as for `name`.
        unsafe { self.shape.as_str() }
    }

    /// The hash of the shape.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Does the trait have a body for it?
    #[must_use]
    pub fn has_default(&self) -> bool {
        self.has_default != 0
    }
}

impl Signature {
    /// The signature of `contract`.
    #[must_use]
    pub const fn new(contract: &'static str, methods: &'static [Method]) -> Self {
        let mut hash = crate::text::hash(&[Piece::Str(contract)]);
        let mut i = 0;
        while i < methods.len() {
            // Boost's hash_combine, on 64 bits: position matters.
            hash ^= methods[i]
                .hash
                .wrapping_add(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(hash << 6)
                .wrapping_add(hash >> 2)
                .wrapping_add(methods[i].has_default as u64);
            // SAFETY: `methods` is `'static`.
            hash ^= crate::text::hash(&[Piece::Str(unsafe { methods[i].name.as_str() })]).rotate_left(17);
            i += 1;
        }
        Signature { contract: RawStr::new(contract), methods: RawSlice::new(methods), hash }
    }

    /// The contract's name.
    #[must_use]
    pub fn contract(&self) -> &str {
        // SAFETY: as for `Method::name`.
        unsafe { self.contract.as_str() }
    }

    /// The methods, in order.
    #[must_use]
    pub fn methods(&self) -> &[Method] {
        // SAFETY: as for `Method::name`.
        unsafe { self.methods.as_slice() }
    }

    /// One hash over the contract's name and all methods: equal hashes mean
    /// equal signatures.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// A method as one of the sides knows it; metadata notes and tables in memory
/// are compared through this one view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodView<'a> {
    /// The name.
    pub name: &'a str,
    /// The shape as text.
    pub shape: &'a str,
    /// The hash of the shape.
    pub hash: u64,
    /// Does the trait have a body for it?
    pub has_default: bool,
}

impl<'a> From<&'a Method> for MethodView<'a> {
    fn from(m: &'a Method) -> Self {
        MethodView { name: m.name(), shape: m.shape(), hash: m.hash(), has_default: m.has_default() }
    }
}

impl<'a> From<&'a crate::metadata::Method> for MethodView<'a> {
    fn from(m: &'a crate::metadata::Method) -> Self {
        MethodView { name: &m.name, shape: &m.signature, hash: m.hash, has_default: m.has_default }
    }
}

impl From<&Signature> for crate::metadata::Contract {
    fn from(signature: &Signature) -> Self {
        let methods = signature.methods().iter().map(|m| crate::metadata::Method {
            name: m.name().to_owned(),
            signature: m.shape().to_owned(),
            hash: m.hash(),
            has_default: m.has_default(),
        });
        crate::metadata::Contract { name: signature.contract().to_owned(), methods: methods.collect() }
    }
}

impl crate::metadata::Contract {
    /// The contract in the form in which [`compatible`] compares.
    pub fn view(&self) -> (&str, impl Iterator<Item = MethodView<'_>>) {
        (&self.name, self.methods.iter().map(MethodView::from))
    }
}

impl Signature {
    /// The contract in the form in which [`compatible`] compares.
    pub fn view(&self) -> (&str, impl Iterator<Item = MethodView<'_>>) {
        (self.contract(), self.methods().iter().map(MethodView::from))
    }
}

/// Why a provider does not fit what a caller was compiled against.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The two name different contracts.
    #[error("the contract is `{found}`, and `{expected}` was wanted")]
    Contract {
        /// The caller's.
        expected: String,
        /// The provider's.
        found: String,
    },
    /// The provider has a raw C table, which no contract describes.
    #[error("the interface has a raw C table, and the contract `{expected}` was wanted: use `reference_raw`")]
    Raw {
        /// The caller's.
        expected: String,
    },
    /// At this position the two have different methods.
    #[error(
        "method {position} of contract `{contract}` differs: expected `{expected}`, found `{found}`; \
         methods may only be appended to a contract: rebuild the older side"
    )]
    Method {
        /// The contract.
        contract: String,
        /// Where in the trait, from 0.
        position: usize,
        /// The caller's method: name and shape.
        expected: String,
        /// The provider's.
        found: String,
    },
    /// The provider lacks a method for which there is no default body.
    #[error(
        "contract `{contract}`: the provider has no method `{method}` (`{expected}`), and the trait has no default body \
         for it: rebuild the component against the present contract"
    )]
    Missing {
        /// The contract.
        contract: String,
        /// The method's name.
        method: String,
        /// The caller's method: name and shape.
        expected: String,
    },
}

impl Mismatch {
    /// A word for programs: `contract`, `raw`, `method` or `missing`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Mismatch::Contract { .. } => "contract",
            Mismatch::Raw { .. } => "raw",
            Mismatch::Method { .. } => "method",
            Mismatch::Missing { .. } => "missing",
        }
    }

    /// What the caller wanted.
    #[must_use]
    pub fn expected(&self) -> &str {
        match self {
            Mismatch::Contract { expected, .. }
            | Mismatch::Raw { expected }
            | Mismatch::Method { expected, .. }
            | Mismatch::Missing { expected, .. } => expected,
        }
    }

    /// What the provider has.
    #[must_use]
    pub fn found(&self) -> &str {
        match self {
            Mismatch::Contract { found, .. } | Mismatch::Method { found, .. } => found,
            Mismatch::Raw { .. } => "a raw C table",
            Mismatch::Missing { .. } => "no such method",
        }
    }
}

/// Can a caller that was compiled against `wanted` call what provides `offered`?
///
/// # Errors
///
/// The first difference that matters.
pub fn compatible<'w, 'o>(
    wanted: (&str, impl IntoIterator<Item = MethodView<'w>>),
    offered: (&str, impl IntoIterator<Item = MethodView<'o>>),
) -> Result<(), Mismatch> {
    let contract = wanted.0;
    if contract != offered.0 {
        return Err(Mismatch::Contract { expected: contract.into(), found: offered.0.into() });
    }
    let line = |m: &MethodView<'_>| format!("{}: {}", m.name, m.shape);
    let mut offered = offered.1.into_iter();
    for (position, expected) in wanted.1.into_iter().enumerate() {
        match offered.next() {
            Some(found) if found.name == expected.name && found.hash == expected.hash => {}
            Some(found) => {
                return Err(Mismatch::Method {
                    contract: contract.into(),
                    position,
                    expected: line(&expected),
                    found: line(&found),
                });
            }
            None if expected.has_default => {}
            None => {
                return Err(Mismatch::Missing {
                    contract: contract.into(),
                    method: expected.name.into(),
                    expected: line(&expected),
                });
            }
        }
    }
    Ok(())
}

impl Signature {
    /// Can a caller that was compiled against `self` call what provides `offered`?
    ///
    /// # Errors
    ///
    /// The first difference that matters.
    pub fn accepts(&self, offered: &Signature) -> Result<(), Mismatch> {
        if self.hash == offered.hash {
            return Ok(());
        }
        compatible(self.view(), offered.view())
    }
}
