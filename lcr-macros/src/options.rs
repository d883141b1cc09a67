//! `#[interface(…)]`: what is said of an interface, typed or raw.
//!
//! Everything is a literal: names and versions are compared while the macro
//! runs, and stand in the file as text.

use std::ffi::CString;

use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Ident, Lit, LitInt, LitStr, Token, Type, parenthesized};

use crate::refusal::Refusals;

const TYPED: &str = "name, version, replaces, contract, requires, per_reference, state";
const RAW: &str = "name, version, replaces, requires";

/// What kind of table the interface has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A contract's, with a prologue.
    Typed,
    /// C functions in a row.
    Raw,
}

/// What `#[interface(…)]` says.
pub(crate) struct Options {
    pub(crate) name: LitStr,
    pub(crate) version: Version,
    pub(crate) replaces: Vec<Version>,
    pub(crate) contract: Option<Type>,
    pub(crate) requires: Vec<Requirement>,
    pub(crate) per_reference: bool,
    pub(crate) state: bool,
}

/// A version and where it stands.
pub(crate) struct Version {
    pub(crate) number: i32,
    literal: LitInt,
}

/// An interface that is constructed before, and its contract if it was written.
pub(crate) struct Requirement {
    pub(crate) name: LitStr,
    pub(crate) contract: Option<Type>,
}

impl Parse for Version {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let minus: Option<Token![-]> = input.parse()?;
        let literal = match input.parse::<Lit>() {
            Ok(Lit::Int(literal)) => literal,
            Ok(other) => return Err(syn::Error::new(other.span(), not_a_version())),
            Err(error) => return Err(syn::Error::new(error.span(), not_a_version())),
        };
        if let Some(minus) = minus {
            return Err(syn::Error::new_spanned(minus, "a version is not negative: the first one is 0"));
        }
        let number = literal.base10_parse().map_err(|_| syn::Error::new(literal.span(), not_a_version()))?;
        Ok(Version { number, literal })
    }
}

fn not_a_version() -> String {
    format!("a version is a number from 0 to {}, written out: the file's metadata holds it", i32::MAX)
}

impl Parse for Requirement {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name = input.parse().map_err(|error| {
            syn::Error::new(
                error.span(),
                "what is required is an interface's name, with its contract if it has one: \
                 `requires(\"clock\" as dyn Clock, \"raw.thing\")`",
            )
        })?;
        let contract = input.parse::<Option<Token![as]>>()?.map(|_| contract(input)).transpose()?;
        Ok(Requirement { name, contract })
    }
}

fn contract(input: ParseStream<'_>) -> syn::Result<Type> {
    let ty: Type = input.parse()?;
    match ty {
        Type::TraitObject(_) => Ok(ty),
        ty => {
            let text = ty.to_token_stream();
            Err(syn::Error::new_spanned(ty, format!("a contract is written as a trait object: `dyn {text}`")))
        }
    }
}

/// What is wrong with a name that is written into descriptors and notes.
pub(crate) fn check_name(what: &str, name: &LitStr) -> syn::Result<()> {
    let text = name.value();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let wrong = match text.chars().find(|c| !fits(*c)) {
        _ if text.is_empty() => "it is empty".to_owned(),
        Some(c) => format!("{c:?} is not one of them"),
        None if text.len() > 255 => format!("it has {}", text.len()),
        None => return Ok(()),
    };
    Err(syn::Error::new(
        name.span(),
        format!("{what} is 1 to 255 letters, digits, `_`, `-` and `.` of ASCII: {wrong}"),
    ))
}

/// The text as the literal of a C string. The name has been checked.
fn c_string(name: &LitStr) -> Literal {
    let text = CString::new(name.value()).unwrap_or_default();
    let mut literal = Literal::c_string(&text);
    literal.set_span(name.span());
    literal
}

#[derive(Default)]
struct Said {
    name: Option<LitStr>,
    version: Option<Version>,
    replaces: Option<Vec<Version>>,
    contract: Option<Type>,
    requires: Option<Vec<Requirement>>,
    per_reference: Option<Ident>,
    state: Option<Ident>,
}

/// Fills `slot` once.
fn once<T>(slot: &mut Option<T>, key: &Ident, value: T) -> syn::Result<()> {
    if slot.replace(value).is_some() {
        return Err(syn::Error::new(key.span(), format!("`{key}` is said twice: remove one")));
    }
    Ok(())
}

fn in_parentheses<T: Parse>(key: &Ident, input: ParseStream<'_>) -> syn::Result<Vec<T>> {
    if !input.peek(syn::token::Paren) {
        let example = if key == "replaces" { "replaces(0, 1)" } else { "requires(\"clock\" as dyn Clock)" };
        return Err(syn::Error::new(key.span(), format!("`{key}` has a list: `{example}`")));
    }
    let content;
    parenthesized!(content in input);
    Ok(Punctuated::<T, Token![,]>::parse_terminated(&content)?.into_iter().collect())
}

fn assigned<T>(
    key: &Ident,
    input: ParseStream<'_>,
    value: fn(ParseStream<'_>) -> syn::Result<T>,
) -> syn::Result<T> {
    if !input.peek(Token![=]) {
        let example = match key.to_string().as_str() {
            "name" => "name = \"greeter\"",
            "version" => "version = 0",
            _ => "contract = dyn Greeter",
        };
        return Err(syn::Error::new(key.span(), format!("`{key}` has a value: `{example}`")));
    }
    input.parse::<Token![=]>()?;
    value(input)
}

impl Said {
    fn parse(kind: Kind, input: ParseStream<'_>) -> syn::Result<Self> {
        let mut said = Said::default();
        while !input.is_empty() {
            let key: Ident = input.parse().map_err(|error| {
                syn::Error::new(error.span(), format!("here a key was expected, one of: {}", keys(kind)))
            })?;
            match key.to_string().as_str() {
                "name" => once(&mut said.name, &key, assigned(&key, input, |input| input.parse())?)?,
                "version" => once(&mut said.version, &key, assigned(&key, input, Version::parse)?)?,
                "replaces" => once(&mut said.replaces, &key, in_parentheses(&key, input)?)?,
                "requires" => once(&mut said.requires, &key, in_parentheses(&key, input)?)?,
                "contract" if kind == Kind::Typed => {
                    once(&mut said.contract, &key, assigned(&key, input, contract)?)?;
                }
                "per_reference" if kind == Kind::Typed => once(&mut said.per_reference, &key, key.clone())?,
                "state" if kind == Kind::Typed => once(&mut said.state, &key, key.clone())?,
                "per_reference" => {
                    return Err(syn::Error::new(
                        key.span(),
                        "an interface with a raw table is constructed at each reference anyway: remove this",
                    ));
                }
                "contract" | "state" => {
                    return Err(syn::Error::new(
                        key.span(),
                        format!(
                            "`{key}` is for typed interfaces, and a module of `extern \"C\"` functions is a raw \
                             table: use a struct under `#[derive(Interface)]`"
                        ),
                    ));
                }
                _ => {
                    return Err(syn::Error::new(
                        key.span(),
                        format!("there is no key `{key}`: the keys are {}", keys(kind)),
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(said)
    }
}

fn keys(kind: Kind) -> &'static str {
    match kind {
        Kind::Typed => TYPED,
        Kind::Raw => RAW,
    }
}

impl Options {
    /// Reads the `#[interface(…)]` among `attributes`; `item` is what it stands on.
    pub(crate) fn read(kind: Kind, attributes: &[Attribute], item: &Ident) -> syn::Result<Options> {
        let mut of_interface = attributes.iter().filter(|a| a.path().is_ident("interface"));
        let Some(attribute) = of_interface.next() else {
            return Err(syn::Error::new(
                item.span(),
                format!(
                    "`{item}` derives Interface and does not say which: add \
                     `#[interface(name = \"…\", version = 0, contract = dyn …)]`"
                ),
            ));
        };
        if let Some(second) = of_interface.next() {
            return Err(syn::Error::new_spanned(
                second,
                "one `#[interface(…)]` describes an interface: put all keys into the first",
            ));
        }
        let said = attribute.parse_args_with(|input: ParseStream<'_>| Said::parse(kind, input))?;
        said.checked(kind, attribute.path().span(), item)
    }
}

impl Said {
    fn checked(self, kind: Kind, word: Span, item: &Ident) -> syn::Result<Options> {
        let mut refusals = Refusals::default();
        let mut missing = |key: &str, example: &str| {
            refusals
                .add(syn::Error::new(word, format!("`{item}`: `{key}` is missing, for example `{example}`")));
        };
        if self.name.is_none() {
            missing("name", "name = \"greeter\"");
        }
        if self.version.is_none() {
            missing("version", "version = 0");
        }
        if kind == Kind::Typed && self.contract.is_none() {
            missing("contract", "contract = dyn Greeter");
        }
        let replaces = self.replaces.unwrap_or_default();
        let requires = self.requires.unwrap_or_default();
        if let Some(name) = &self.name {
            refusals.take(check_name("an interface's name", name));
        }
        for (i, version) in replaces.iter().enumerate() {
            let number = version.number;
            if self.version.as_ref().is_some_and(|own| own.number == number) {
                refusals.at(
                    &version.literal,
                    format!("this is version {number}: list the other versions that it can stand in for"),
                );
            }
            if replaces[..i].iter().any(|earlier| earlier.number == number) {
                refusals.at(&version.literal, format!("version {number} is listed twice: remove one"));
            }
        }
        for (i, required) in requires.iter().enumerate() {
            let text = required.name.value();
            refusals.take(check_name("an interface's name", &required.name));
            if self.name.as_ref().is_some_and(|own| own.value() == text) {
                refusals.at(&required.name, "an interface cannot be constructed before itself: remove this");
            }
            if requires[..i].iter().any(|earlier| earlier.name.value() == text) {
                refusals.at(&required.name, format!("`{text}` is listed twice: remove one"));
            }
        }
        refusals.settle()?;
        let (Some(name), Some(version)) = (self.name, self.version) else {
            // What is missing was refused above.
            return Err(syn::Error::new(word, "name and version are missing"));
        };
        Ok(Options {
            name,
            version,
            replaces,
            contract: self.contract,
            requires,
            per_reference: self.per_reference.is_some(),
            state: self.state.is_some(),
        })
    }
}

impl Options {
    /// `REPLACES` and `REQUIRES`, as a descriptor points to them.
    pub(crate) fn statics(&self) -> TokenStream {
        let replaces = self.replaces.iter().map(|v| v.number);
        let replaces_count = self.replaces.len();
        let requires = self.requires.iter().map(|r| c_string(&r.name));
        let requires_count = self.requires.len();
        quote! {
            static REPLACES: [::core::ffi::c_int; #replaces_count] = [#(#replaces),*];
            static REQUIRES: ::lcr_core::descriptor::Names<#requires_count> =
                ::lcr_core::descriptor::Names::new([#(#requires),*]);
        }
    }

    /// Asks whether the contracts of what is required are contracts.
    pub(crate) fn checks(&self) -> TokenStream {
        let contracts = self.requires.iter().filter_map(|r| r.contract.as_ref()).map(|ty| {
            quote_spanned! { ty.span() =>
                const _: () = ::lcr_core::__private::assert_contract::<#ty>();
            }
        });
        quote! { #(#contracts)* }
    }

    pub(crate) fn c_name(&self) -> Literal {
        c_string(&self.name)
    }

    /// The interface as JSON, up to the value of `contract`.
    pub(crate) fn json(&self) -> String {
        let list = |items: Vec<String>| items.join(",");
        format!(
            r#"{{"name":"{}","version":{},"replaces":[{}],"requires":[{}],"per_reference":{},"state":{},"contract":"#,
            self.name.value(),
            self.version.number,
            list(self.replaces.iter().map(|v| v.number.to_string()).collect()),
            list(self.requires.iter().map(|r| format!("\"{}\"", r.name.value())).collect()),
            self.per_reference,
            self.state,
        )
    }
}
