//! Raw tables: a module of `extern "C"` functions in a component.
//!
//! The table holds the functions under `#[function]` in the order of the source;
//! what calls them knows their types from a header, and nothing checks those.
//! Constructor and destructor are ascribed their types, so that the compiler
//! complains at the user's own function.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Attribute, Ident, Item, ItemFn, ItemMod, parse_quote};

use crate::options::{Kind, Options};
use crate::refusal::Refusals;

/// Where the module keeps its descriptor.
pub(crate) fn constant() -> Ident {
    format_ident!("__LCR_INTERFACE")
}

/// Takes the module's attributes and adds its descriptor.
pub(crate) fn expand(module: &mut ItemMod) -> syn::Result<Options> {
    let mut refusals = Refusals::default();
    let options = refusals.take(Options::read(Kind::Raw, &module.attrs, &module.ident));
    module.attrs.retain(|a| !a.path().is_ident("interface"));
    let Some((_, items)) = &mut module.content else {
        refusals.at(
            &module.ident,
            "an interface's functions stand in the same file: write the module inline, `mod … { … }`",
        );
        return refusals.settle().and_then(|()| nothing());
    };

    let (mut constructor, mut destructor) = (None, None);
    let mut functions: Vec<(Vec<Attribute>, Ident)> = Vec::new();
    for item in items.iter_mut() {
        let Item::Fn(function) = item else { continue };
        let roles: Vec<Attribute> = function.attrs.extract_if(.., |a| role(a).is_some()).collect();
        for attribute in &roles {
            if let Some(other) = roles.iter().find(|a| !std::ptr::eq(*a, attribute)) {
                refusals.at(other, "a function has one role: constructor, destructor or function");
                break;
            }
        }
        let Some(attribute) = roles.first() else { continue };
        if let Err(error) = attribute.meta.require_path_only() {
            refusals.add(error);
        }
        check(function, &mut refusals);
        let cfg = function.attrs.iter().filter(|a| a.path().is_ident("cfg")).cloned().collect();
        let ident = function.sig.ident.clone();
        match role(attribute) {
            Some(Role::Function) => functions.push((cfg, ident)),
            Some(Role::Constructor) => single(&mut constructor, "constructor", ident, &mut refusals),
            Some(Role::Destructor) => single(&mut destructor, "destructor", ident, &mut refusals),
            None => {}
        }
    }
    // Last, as the component's prelude is.
    items.push(parse_quote! {
        #[allow(unused_imports)]
        use ::lcr_core::__private::raw_prelude::*;
    });
    if functions.is_empty() {
        refusals.at(
            &module.ident,
            format!(
                "`{}` has no function: mark those of the table, in their order, with `#[function]`",
                module.ident
            ),
        );
    }
    refusals.settle()?;
    let Some(options) = options else { return nothing() };

    let constructor = ascribed(
        constructor.as_ref(),
        &quote! { unsafe extern "C" fn(*mut ::core::ffi::c_void) -> ::core::ffi::c_int },
    );
    let destructor =
        ascribed(destructor.as_ref(), &quote! { unsafe extern "C" fn(*mut ::core::ffi::c_void) });
    let (statics, c_name, version) = (options.statics(), options.c_name(), options.version.number);
    let entries = functions.iter().map(|(cfg, ident)| {
        quote! { #(#cfg)* (#ident as *const ::core::ffi::c_void), }
    });
    let constant = constant();
    items.push(parse_quote! {
        #[doc(hidden)]
        pub(super) const #constant: ::lcr_core::descriptor::Iface = {
            #statics
            const FUNCTIONS: &'static [*const ::core::ffi::c_void] = &[#(#entries)*];
            static TABLE: ::lcr_core::descriptor::RawTable<{ FUNCTIONS.len() }> =
                ::lcr_core::__private::raw_table(FUNCTIONS);
            ::lcr_core::descriptor::Iface::raw(
                #c_name, #version, &REPLACES, &REQUIRES, #constructor, #destructor, &TABLE,
            )
        };
    });
    Ok(options)
}

/// What was refused has been said already.
fn nothing() -> syn::Result<Options> {
    Err(syn::Error::new(Span::call_site(), "an interface without `#[interface(…)]`"))
}

enum Role {
    Constructor,
    Destructor,
    Function,
}

fn role(attribute: &Attribute) -> Option<Role> {
    let path = attribute.path();
    if path.is_ident("constructor") {
        Some(Role::Constructor)
    } else if path.is_ident("destructor") {
        Some(Role::Destructor)
    } else {
        path.is_ident("function").then_some(Role::Function)
    }
}

fn single(slot: &mut Option<Ident>, what: &str, ident: Ident, refusals: &mut Refusals) {
    if let Some(first) = slot {
        refusals.at(&ident, format!("the {what} is `{first}` already: an interface has one"));
    } else {
        *slot = Some(ident);
    }
}

/// `Some(function)` of this type, or `None`; a wrong type is an error at the name.
fn ascribed(function: Option<&Ident>, ty: &TokenStream) -> TokenStream {
    match function {
        None => quote! { ::core::option::Option::None },
        Some(ident) => {
            let value = quote_spanned! { ident.span() => #ident };
            quote! { ::core::option::Option::Some({ const F: #ty = #value; F }) }
        }
    }
}

fn check(function: &ItemFn, refusals: &mut Refusals) {
    let sig = &function.sig;
    let ident = &sig.ident;
    if let Some(token) = &sig.asyncness {
        refusals.at(token, format!("C knows no futures: write `extern \"C\" fn {ident}`"));
    }
    if !sig.generics.params.is_empty() {
        refusals.at(&sig.generics.params, "a raw table holds one function: write the types in");
    }
    match &sig.abi {
        None => refusals.at(
            sig.fn_token,
            format!(
                "`{ident}` has Rust's calling convention, which differs from compiler to compiler: write \
                 `extern \"C\" fn {ident}`"
            ),
        ),
        Some(abi) => {
            let Some(name) = abi.name.as_ref().filter(|n| n.value() != "C") else { return };
            let why = if name.value() == "C-unwind" {
                "; out of this one a panic would leave the library, and no other Rust can catch it"
            } else {
                ""
            };
            refusals.at(
                name,
                format!(
                    "a raw table's functions have C's calling convention: write `extern \"C\" fn {ident}`{why}"
                ),
            );
        }
    }
}
