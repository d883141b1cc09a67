//! `#[contract]`: a trait that can be called across a border.
//!
//! Beside the trait stand, in an anonymous constant so that nothing of it can
//! meet a name of the user's:
//!
//! * the table of the methods, a `#[repr(C)]` struct of function pointers;
//! * the thunks, which fill it for a type that implements the trait;
//! * the proxy, which implements the trait by calling through such a table;
//! * for each method with a default body a wrapper of the proxy that implements
//!   all the other methods: where a provider is older than the method, the call
//!   goes to the wrapper and so to the trait's own body, whose calls of other
//!   methods come back to the provider;
//! * the trait for `Handle` and `Instance`;
//! * the text of the signature, and the note that the file carries.
//!
//! Types are checked as they are written, before the compiler knows what they
//! are: only lifetimes, `dyn`, `impl` and `Self` are refused here. The rest is
//! `Abi`'s business, asked for at the user's token.

mod expansion;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::visit::{self, Visit};
use syn::{
    Attribute, FnArg, GenericArgument, GenericParam, Ident, ItemTrait, Lifetime, Pat, PathArguments,
    PathSegment, ReceiverKind, ReturnType, Safety, TraitItem, TraitItemFn, Type, TypeParamBound,
};

use crate::refusal::{Refusals, beside};

/// Expands the attribute.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item: ItemTrait = match syn::parse2(item.clone()) {
        Ok(item) => item,
        Err(error) => {
            let error = syn::Error::new(
                error.span(),
                format!("`#[contract]` stands on a trait, and this is none: {error}"),
            );
            return beside(item, &error);
        }
    };
    let mut refusals = Refusals::default();
    if !arguments.is_empty() {
        refusals.at(arguments, "`#[contract]` takes no arguments: what it needs to know stands in the trait");
    }
    check_trait(&item, &mut refusals);
    let methods: Vec<Method> = item.items.iter().filter_map(|item| method(item, &mut refusals)).collect();
    match refusals.settle() {
        Ok(()) => {
            let generated = expansion::generate(&item, &methods);
            quote! { #item #generated }
        }
        Err(error) => beside(item, &error),
    }
}

/// A method that can be called across a border.
struct Method<'a> {
    item: &'a TraitItemFn,
    cfg: Vec<&'a Attribute>,
    arguments: Vec<Argument>,
    /// What it returns; none for `()` that was not written.
    returns: Option<&'a Type>,
}

struct Argument {
    name: Ident,
    ty: Type,
}

impl Method<'_> {
    fn ident(&self) -> &Ident {
        &self.item.sig.ident
    }

    fn name(&self) -> String {
        self.ident().unraw().to_string()
    }

    fn has_default(&self) -> bool {
        self.item.default.is_some()
    }

    /// The type that it returns, for use anywhere.
    fn returned(&self) -> TokenStream {
        self.returns.map_or_else(|| quote! { () }, |ty| quote! { #ty })
    }
}

fn check_trait(item: &ItemTrait, refusals: &mut Refusals) {
    if let Some(token) = &item.unsafety {
        refusals.at(
            token,
            "a contract is a safe trait: the other side's promises cannot be checked. Remove `unsafe`, and \
             let the methods check what they are given",
        );
    }
    if !item.generics.params.is_empty() {
        refusals.at(
            &item.generics.params,
            "a contract has no parameters: the two sides are compiled apart, and only what is named is in both. \
             Write a contract for each type",
        );
    }
    if let Some(clause) = &item.generics.where_clause {
        refusals.at(clause, "a contract has no `where` clause: the only bounds are `: Send + Sync`");
    }
    let (mut send, mut sync) = (false, false);
    for bound in &item.supertraits {
        match bound {
            TypeParamBound::Trait(bound) => match bound.path.segments.last() {
                Some(last) if last.ident == "Send" => send = true,
                Some(last) if last.ident == "Sync" => sync = true,
                _ => refusals.at(
                    bound,
                    "a contract's only supertraits are `Send` and `Sync`: another trait's methods are in no table. \
                     Write its methods into this trait",
                ),
            },
            TypeParamBound::Lifetime(lifetime) if lifetime.ident == "static" => {}
            other => refusals.at(other, "a contract's only bounds are `Send` and `Sync`"),
        }
    }
    if !(send && sync) {
        let ident = &item.ident;
        refusals.at(
            ident,
            format!(
                "a contract is called from any thread: write `trait {ident}: Send + Sync`, and give what changes \
                 interior mutability (a `Mutex`, an atomic)"
            ),
        );
    }
}

fn method<'a>(item: &'a TraitItem, refusals: &mut Refusals) -> Option<Method<'a>> {
    let item = match item {
        TraitItem::Fn(item) => item,
        TraitItem::Type(item) => {
            refusals.at(
                &item.ident,
                "a contract has no associated types: the caller does not know which type provides it. \
                 Name a type, a struct under `#[derive(lcr_core::Abi)]` for instance",
            );
            return None;
        }
        TraitItem::Const(item) => {
            refusals.at(
                &item.ident,
                "a contract has no constants: two versions of a component could differ in it. \
                 Write a method that returns the value",
            );
            return None;
        }
        other => {
            refusals.at(other, "a contract holds methods only, written out: a macro's are not seen here");
            return None;
        }
    };
    check_signature(item, refusals);
    let mut arguments = Vec::new();
    for input in item.sig.inputs.iter().skip(usize::from(item.sig.receiver().is_some())) {
        let FnArg::Typed(input) = input else { continue };
        if let Some(attribute) = input.attrs.iter().find(|a| a.path().is_ident("cfg")) {
            refusals.at(
                attribute,
                "an argument is there or it is not: put the `#[cfg]` on the method, or on another one",
            );
        }
        let name = match &*input.pat {
            Pat::Ident(pat) if pat.subpat.is_none() && pat.by_ref.is_none() => pat.ident.clone(),
            Pat::Wild(_) => format_ident!("a{}", arguments.len(), span = Span::mixed_site()),
            pat => {
                refusals
                    .at(pat, "a contract's argument is a name: take the value apart in the body, with `let`");
                continue;
            }
        };
        check_type(&input.ty, refusals);
        ArgumentLifetimes(refusals).visit_type(&input.ty);
        arguments.push(Argument { name, ty: (*input.ty).clone() });
    }
    let returns = match &item.sig.output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => {
            check_type(ty, refusals);
            check_returned(ty, refusals);
            Some(&**ty)
        }
    };
    let cfg = item.attrs.iter().filter(|a| a.path().is_ident("cfg")).collect();
    Some(Method { item, cfg, arguments, returns })
}

fn check_signature(item: &TraitItemFn, refusals: &mut Refusals) {
    let sig = &item.sig;
    let name = &sig.ident;
    if let Some(token) = &sig.constness {
        refusals.at(token, "a method that is called through a table cannot be `const`: remove it");
    }
    if let Some(token) = &sig.asyncness {
        refusals.at(
            token,
            "a future has no layout that both sides know. Write a method that starts the work and one that asks \
             for its result, or block, and let the caller await in a thread of its own",
        );
    }
    match &sig.safety {
        Safety::Default => {}
        token => refusals.at(
            token,
            "a contract's methods are safe: the caller cannot know what another version asks for. \
             Remove this, and let the method check what it is given",
        ),
    }
    if let Some(abi) = &sig.abi {
        refusals.at(abi, "the macro chooses how a method is called: remove this");
    }
    for param in &sig.generics.params {
        match param {
            GenericParam::Lifetime(_) => {}
            param => refusals.at(
                param,
                "a contract's method has no type parameters: one function stands in the table, and the two sides \
                 are compiled apart. Write the type, or a method for each",
            ),
        }
    }
    if let Some(clause) = &sig.generics.where_clause {
        refusals.at(
            clause,
            format!(
                "a contract's method has no `where` clause: every method is in the table. \
                 Write `{name}` as a function beside the trait, which takes `&dyn` of it"
            ),
        );
    }
    if let Some(variadic) = &sig.variadic {
        refusals.at(variadic, "a contract's method has a fixed number of arguments: take a slice, `&[T]`");
    }
    match sig.inputs.first() {
        Some(FnArg::Receiver(receiver)) => match &receiver.kind {
            ReceiverKind::Reference(_, lifetime, None) => {
                if let Some(lifetime) = lifetime.as_ref().filter(|l| l.ident == "static") {
                    refusals.at(lifetime, "an instance can be replaced: write `&self`");
                }
            }
            ReceiverKind::Reference(_, _, Some(mutability)) => refusals.at(
                mutability,
                "a contract's methods take `&self`: many threads call one instance. Write `&self`, and put what \
                 changes behind a `Mutex` or an atomic",
            ),
            _ => refusals.at(
                receiver,
                "a contract's methods take `&self`: the instance stays where it is. Write `&self`",
            ),
        },
        _ => refusals.at(
            name,
            format!(
                "`{name}` takes no `self`, and is called through an instance: write `fn {name}(&self, …)`, or a \
                 function beside the trait"
            ),
        ),
    }
}

/// What no type in a contract may hold.
fn check_type(ty: &Type, refusals: &mut Refusals) {
    struct Unfit<'a>(&'a mut Refusals);
    impl<'ast> Visit<'ast> for Unfit<'_> {
        fn visit_type_impl_trait(&mut self, ty: &'ast syn::TypeImplTrait) {
            self.0.at(
                ty,
                "`impl Trait` is another type on the other side: write the type itself, `Vec<T>` for what iterates",
            );
        }

        fn visit_type_trait_object(&mut self, ty: &'ast syn::TypeTraitObject) {
            self.0.at(ty, NO_TRAIT_OBJECT);
        }

        fn visit_type_reference(&mut self, ty: &'ast syn::TypeReference) {
            if let Some(mutability) = &ty.mutability {
                self.0.at(
                    mutability,
                    "what is lent to the other side is read only: take the value, and return it changed",
                );
            }
            visit::visit_type_reference(self, ty);
        }

        fn visit_path(&mut self, path: &'ast syn::Path) {
            if path.segments.first().is_some_and(|s| s.ident == "Self") {
                self.0.at(
                    path,
                    "`Self` is another type on the other side: write a type that both sides know, or \
                     `Handle<dyn …>` for a component",
                );
            }
            visit::visit_path(self, path);
        }

        fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
            visit_but_contracts(self, segment);
        }
    }
    Unfit(refusals).visit_type(ty);
}

/// What is said of a trait object in a type that crosses.
pub(crate) const NO_TRAIT_OBJECT: &str = "a trait object has no layout that both sides know. Make the trait a contract \
                                          and pass `Handle<dyn …>`, or a struct under `#[derive(lcr_core::Abi)]`";

/// Visits what is in a segment, but for the contract in `Handle<dyn Clock>`: there the
/// trait object is only a name.
pub(crate) fn visit_but_contracts<'ast>(visitor: &mut impl Visit<'ast>, segment: &'ast PathSegment) {
    if let PathArguments::AngleBracketed(arguments) = &segment.arguments {
        let is_reference = segment.ident == "Handle" || segment.ident == "Instance";
        for argument in &arguments.args {
            match argument {
                GenericArgument::Type(Type::TraitObject(_)) if is_reference => {}
                argument => visitor.visit_generic_argument(argument),
            }
        }
    } else {
        visit::visit_path_segment(visitor, segment);
    }
}

/// An argument lives as long as its call, so nothing in it is `'static`.
struct ArgumentLifetimes<'a>(&'a mut Refusals);

impl<'ast> Visit<'ast> for ArgumentLifetimes<'_> {
    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident == "static" {
            self.0.at(
                lifetime,
                "an argument lives as long as its call, on the other side too: remove `'static`, or take an \
                 owned type (`String` for `&'static str`)",
            );
        }
    }
}

/// What is returned is owned.
fn check_returned(ty: &Type, refusals: &mut Refusals) {
    struct Borrows<'a>(&'a mut Refusals);
    impl<'ast> Visit<'ast> for Borrows<'_> {
        fn visit_type_reference(&mut self, ty: &'ast syn::TypeReference) {
            let instead = match &*ty.elem {
                Type::Path(path) if path.path.is_ident("str") => "`String`".to_owned(),
                Type::Path(path) if path.path.is_ident("Path") => "`PathBuf`".to_owned(),
                Type::Slice(slice) => {
                    let elem = &slice.elem;
                    format!("`Vec<{}>`", quote! { #elem })
                }
                elem => format!("`{}`", quote! { #elem }),
            };
            self.0.at(
                ty,
                format!(
                    "what a contract's method returns is owned: the component may be replaced while the caller \
                     still has it. Return {instead}"
                ),
            );
        }

        fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
            self.0.at(
                lifetime,
                "what a contract's method returns is owned, so its type has no lifetime: the component may be \
                 replaced while the caller still has it",
            );
        }
    }
    Borrows(refusals).visit_type(ty);
}
