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

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Attribute, FnArg, GenericArgument, GenericParam, Ident, ItemTrait, Lifetime, Pat, PathArguments,
    ReceiverKind, ReturnType, Safety, TraitItem, TraitItemFn, Type, TypeParamBound,
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
            let generated = generate(&item, &methods);
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
                refusals.at(
                    pat,
                    "a contract's argument is a name: take the value apart in the body, with `let`",
                );
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
            self.0.at(
                ty,
                "a trait object has no layout that both sides know. Make the trait a contract and pass \
                 `Handle<dyn …>`, or a struct under `#[derive(lcr_core::Abi)]`",
            );
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
            // `Handle<dyn Clock>`: here the trait object is only a name.
            if let PathArguments::AngleBracketed(arguments) = &segment.arguments {
                for argument in &arguments.args {
                    match argument {
                        GenericArgument::Type(Type::TraitObject(_)) if is_reference(&segment.ident) => {}
                        argument => self.visit_generic_argument(argument),
                    }
                }
            } else {
                visit::visit_path_segment(self, segment);
            }
        }
    }
    Unfit(refusals).visit_type(ty);
}

fn is_reference(ident: &Ident) -> bool {
    ident == "Handle" || ident == "Instance"
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

/// Writes one lifetime in the place of all that a type has, elided ones too.
fn with_lifetime(ty: &Type, lifetime: &str) -> Type {
    struct Write<'a>(&'a str);
    impl VisitMut for Write<'_> {
        fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
            *lifetime = Lifetime::new(self.0, lifetime.span());
        }

        fn visit_type_reference_mut(&mut self, ty: &mut syn::TypeReference) {
            ty.lifetime = Some(Lifetime::new(self.0, ty.and_token.span()));
            visit_mut::visit_type_mut(self, &mut ty.elem);
        }
    }
    let mut ty = ty.clone();
    Write(lifetime).visit_type_mut(&mut ty);
    ty
}

/// Text and constants of the package that is being compiled, as pieces of a note.
pub(crate) fn package_pieces() -> TokenStream {
    quote! {
        ::lcr_core::text::Piece::Str(r#","package":""#),
        ::lcr_core::text::Piece::Str(::lcr_core::__private::known(::core::option_env!("CARGO_PKG_NAME"))),
        ::lcr_core::text::Piece::Str(r#"","package_version":""#),
        ::lcr_core::text::Piece::Str(::lcr_core::__private::known(::core::option_env!("CARGO_PKG_VERSION"))),
        ::lcr_core::text::Piece::Str(r#"","rustc":""#),
        ::lcr_core::text::Piece::Str(::lcr_core::__private::RUSTC),
        ::lcr_core::text::Piece::Str(r#"""#),
    }
}

/// The static that puts `pieces`, an expression, into the file as a note.
pub(crate) fn note(pieces: &TokenStream) -> TokenStream {
    quote! {
        const NOTE_PIECES: &'static [::lcr_core::text::Piece] = &[#pieces];
        #[used]
        #[unsafe(link_section = ".note.lcr")]
        static NOTE: ::lcr_core::note::Note<
            { ::lcr_core::note::pad4(::lcr_core::text::len(NOTE_PIECES)) },
        > = ::lcr_core::note::Note::new(NOTE_PIECES);
    }
}

fn generate(item: &ItemTrait, methods: &[Method<'_>]) -> TokenStream {
    let name = item.ident.unraw().to_string();
    // What the macro writes of the user's names stands where the macro was called:
    // errors at a type of the user's are then all at that type, and said once.
    let contract = &here(&item.ident);
    let cfg: Vec<_> = item.attrs.iter().filter(|a| a.path().is_ident("cfg")).collect();
    let own = |what: &str| Ident::new(&format!("__{name}{what}"), Span::call_site());
    let names = Names {
        contract: contract.clone(),
        methods: own("Methods"),
        thunks: own("Thunks"),
        proxy: own("Proxy"),
        provider: own("Provider"),
    };
    let Names { methods: table, thunks, proxy, provider, .. } = &names;

    let checks = methods.iter().filter_map(check_owned);
    let fields = methods.iter().map(field);
    let thunk_functions = methods.iter().map(|m| thunk(m, &names));
    let entries = methods.iter().map(|m| {
        let (cfg, ident) = (&m.cfg, m.ident());
        quote! { #(#cfg)* #ident: #thunks::<#provider>::#ident, }
    });
    let shapes = methods.iter().enumerate().map(|(at, m)| shape(m, at));
    let signatures = methods.iter().enumerate().map(|(at, m)| {
        let (cfg, text, pieces) = (&m.cfg, text_name(at), shape_name(at));
        let (name, default) = (m.name(), m.has_default());
        quote! {
            #(#cfg)*
            ::lcr_core::contract::Method::new(#name, #text, ::lcr_core::text::hash(#pieces), #default),
        }
    });
    let method_notes = methods.iter().enumerate().map(|(at, m)| {
        let (cfg, pieces) = (&m.cfg, shape_name(at));
        let head = format!(r#"{{"name":"{}","signature":""#, m.name());
        let tail = format!(r#"","default":{}}}"#, m.has_default());
        quote! {
            #(#cfg)*
            &[
                ::lcr_core::text::Piece::Str(#head),
                ::lcr_core::text::Piece::List(#pieces),
                ::lcr_core::text::Piece::Str(r#"","hash":""#),
                ::lcr_core::text::Piece::Hex(::lcr_core::text::hash(#pieces)),
                ::lcr_core::text::Piece::Str(#tail),
            ],
        }
    });
    let proxy_methods = methods.iter().enumerate().map(|(at, m)| {
        let body = proxied(m, at, &names);
        implemented(m, body)
    });
    let fallbacks = methods
        .iter()
        .enumerate()
        .filter(|(_, m)| m.has_default())
        .map(|(at, m)| fallback(m, at, methods, &names));
    let through = |enter: TokenStream| {
        let methods = methods.iter().map(move |m| {
            let (ident, arguments) = (m.ident(), m.arguments.iter().map(|a| &a.name));
            let entered = Ident::new("entered", Span::mixed_site());
            implemented(
                m,
                quote! {
                    let #entered = #enter;
                    <#proxy as #contract>::#ident(&*#entered #(, #arguments)*)
                },
            )
        });
        quote! { #(#methods)* }
    };
    let handle_methods = through(quote! { ::lcr_core::Handle::enter(self) });
    let instance_methods = through(quote! { self });
    let package = package_pieces();
    let note_head = format!(r#"{{"lcr":1,"kind":"contract","contract":"{name}""#);
    let note = note(&quote! {
        ::lcr_core::text::Piece::Str(#note_head),
        #package
        ::lcr_core::text::Piece::Str(r#","methods":["#),
        ::lcr_core::text::Piece::List(<dyn #contract as ::lcr_core::Contract>::NOTE),
        ::lcr_core::text::Piece::Str("]}"),
    });
    let methods_doc = format!("The methods of `{name}` as functions of C.");
    let proxy_doc = format!("The caller's side of `{name}`.");

    quote! {
        #(#cfg)*
        #[allow(
            deprecated,
            non_snake_case,
            non_upper_case_globals,
            non_camel_case_types,
            dead_code,
            unused_imports,
            unreachable_pub,
            private_interfaces,
            improper_ctypes_definitions,
        )]
        const _: () = {
            #(#checks)*

            #[doc = #methods_doc]
            #[repr(C)]
            pub struct #table {
                #(#fields)*
            }

            impl ::core::clone::Clone for #table {
                fn clone(&self) -> Self {
                    *self
                }
            }

            impl ::core::marker::Copy for #table {}

            // SAFETY: functions belong to no thread.
            unsafe impl ::core::marker::Send for #table {}
            // SAFETY: as above.
            unsafe impl ::core::marker::Sync for #table {}

            struct #thunks<#provider>(::core::marker::PhantomData<#provider>);

            impl<#provider: #contract + 'static> #thunks<#provider> {
                #(#thunk_functions)*
            }

            // SAFETY: the thunks of a type take a pointer to it.
            unsafe impl<#provider: #contract + 'static> ::lcr_core::contract::Provide<#provider> for dyn #contract {
                const METHODS: #table = #table { #(#entries)* };
            }

            #(#shapes)*

            static METHODS: &'static [::lcr_core::contract::Method] = &[#(#signatures)*];
            static SIGNATURE: ::lcr_core::contract::Signature =
                ::lcr_core::contract::Signature::new(#name, METHODS);
            const METHOD_NOTES: &'static [&'static [::lcr_core::text::Piece]] = &[#(#method_notes)*];

            // SAFETY: the table's fields and the signature's methods are written from one
            // list, and the proxy is transparent.
            unsafe impl ::lcr_core::Contract for dyn #contract {
                type Methods = #table;
                type Proxy = #proxy;
                const NAME: &'static str = #name;
                const SIGNATURE: &'static ::lcr_core::contract::Signature = &SIGNATURE;
                const NOTE: &'static [::lcr_core::text::Piece] =
                    &::lcr_core::__private::listed::<{ 2 * METHOD_NOTES.len() }>(METHOD_NOTES);
            }

            #[doc = #proxy_doc]
            #[repr(transparent)]
            pub struct #proxy(::lcr_core::gate::InstanceHead);

            impl #contract for #proxy {
                #(#proxy_methods)*
            }

            #(#fallbacks)*

            impl #contract for ::lcr_core::Handle<dyn #contract> {
                #handle_methods
            }

            impl #contract for ::lcr_core::Instance<dyn #contract> {
                #instance_methods
            }

            #note
        };
    }
}

/// What the generated items are called.
struct Names {
    contract: Ident,
    methods: Ident,
    thunks: Ident,
    proxy: Ident,
    provider: Ident,
}

/// The same name where the macro was called.
fn here(ident: &Ident) -> Ident {
    let mut ident = ident.clone();
    ident.set_span(Span::call_site().resolved_at(ident.span()));
    ident
}

fn text_name(at: usize) -> Ident {
    format_ident!("TEXT_{at}")
}

fn shape_name(at: usize) -> Ident {
    format_ident!("SHAPE_{at}")
}

/// What only the compiler can find out about a method's types: an alias may hide
/// a lifetime in what is returned. (An argument's is taken from it by `Abi::At`.)
fn check_owned(m: &Method<'_>) -> Option<TokenStream> {
    let cfg = &m.cfg;
    m.returns.map(|ty| {
        quote_spanned! { ty.span() =>
            #(#cfg)*
            const _: () = ::core::assert!(
                !<#ty as ::lcr_core::Abi>::BORROWS,
                "what a contract's method returns is owned, and this type borrows: return an owned one",
            );
        }
    })
}

/// The wire of a type, written where no lifetime is in scope.
fn wire(ty: &Type) -> TokenStream {
    let ty = with_lifetime(ty, "'static");
    quote_spanned! { ty.span() => <#ty as ::lcr_core::Abi>::Wire }
}

/// What the wires of the arguments are called.
fn wire_names(m: &Method<'_>) -> Vec<Ident> {
    (0..m.arguments.len()).map(|i| Ident::new(&format!("wire{i}"), Span::mixed_site())).collect()
}

fn reply(m: &Method<'_>) -> TokenStream {
    let returned = m.returned();
    let wire = quote_spanned! { returned.span() => <#returned as ::lcr_core::Abi>::Wire };
    quote! { ::lcr_core::call::Reply<#wire> }
}

fn field(m: &Method<'_>) -> TokenStream {
    let (cfg, ident, reply) = (&m.cfg, m.ident(), reply(m));
    let doc = format!("`{}`.", m.name());
    let wires = m.arguments.iter().map(|a| wire(&a.ty));
    quote! {
        #(#cfg)*
        #[doc = #doc]
        pub #ident: unsafe extern "C" fn(*const () #(, #wires)*) -> #reply,
    }
}

fn shape(m: &Method<'_>, at: usize) -> TokenStream {
    let (cfg, pieces, text) = (&m.cfg, shape_name(at), text_name(at));
    let arguments = m.arguments.iter().enumerate().map(|(i, a)| {
        let ty = with_lifetime(&a.ty, "'static");
        let comma = (i > 0).then(|| quote! { ::lcr_core::text::Piece::Str(", "), });
        let list = quote_spanned! { ty.span() => <#ty as ::lcr_core::Abi>::SHAPE };
        quote! { #comma ::lcr_core::text::Piece::List(#list), }
    });
    let returned = m.returns.filter(|ty| !is_unit(ty)).map(|ty| {
        let list = quote_spanned! { ty.span() => <#ty as ::lcr_core::Abi>::SHAPE };
        quote! { ::lcr_core::text::Piece::Str(" -> "), ::lcr_core::text::Piece::List(#list), }
    });
    quote! {
        #(#cfg)*
        const #pieces: &'static [::lcr_core::text::Piece] = &[
            ::lcr_core::text::Piece::Str("fn("),
            #(#arguments)*
            ::lcr_core::text::Piece::Str(")"),
            #returned
        ];
        #(#cfg)*
        const #text: &'static str = {
            static TEXT: [u8; ::lcr_core::text::len(#pieces)] = ::lcr_core::text::write(#pieces);
            ::lcr_core::__private::utf8(&TEXT)
        };
    }
}

fn is_unit(ty: &Type) -> bool {
    matches!(ty, Type::Tuple(tuple) if tuple.elems.is_empty())
}

/// The component's end of a call.
fn thunk(m: &Method<'_>, names: &Names) -> TokenStream {
    let Names { contract, provider, .. } = names;
    let (cfg, ident, reply, returned) = (&m.cfg, m.ident(), reply(m), m.returned());
    let this = Ident::new("this", Span::mixed_site());
    let frame = Ident::new("frame", Span::mixed_site());
    let value = Ident::new("value", Span::mixed_site());
    let ident = here(ident);
    let arguments: Vec<Ident> = wire_names(m);
    let wires = m.arguments.iter().map(|a| wire(&a.ty));
    let values = m.arguments.iter().zip(&arguments).map(|(a, name)| {
        let ty = with_lifetime(&a.ty, "'_");
        let from_wire = quote_spanned! { ty.span() => <#ty as ::lcr_core::Abi>::from_wire };
        quote! {
            // SAFETY: the caller made the wire for this call, and keeps what it borrows.
            let #name = unsafe { #from_wire(#name, &#frame) };
        }
    });
    let into_wire = quote_spanned! { returned.span() => <#returned as ::lcr_core::Abi>::into_wire };
    quote! {
        #(#cfg)*
        unsafe extern "C" fn #ident(#this: *const () #(, #arguments: #wires)*) -> #reply {
            ::lcr_core::call::answer(move || {
                let #frame = ::lcr_core::abi::Frame::new();
                #(#values)*
                // SAFETY: the caller passes the object that this table belongs to, and
                // keeps it alive for the call.
                let #this = unsafe { &*#this.cast::<#provider>() };
                let #value = <#provider as #contract>::#ident(#this #(, #arguments)*);
                #into_wire(#value, &#frame)
            })
        }
    }
}

/// A method of an implementation of the trait, with this body.
fn implemented(m: &Method<'_>, body: TokenStream) -> TokenStream {
    let (cfg, ident, output) = (&m.cfg, m.ident(), &m.item.sig.output);
    let (generics, _, _) = m.item.sig.generics.split_for_impl();
    let receiver = m.item.sig.inputs.first();
    let arguments = m.arguments.iter().map(|Argument { name, ty }| quote! { #name: #ty });
    quote! {
        #(#cfg)*
        #[inline]
        fn #ident #generics(#receiver #(, #arguments)*) #output {
            #body
        }
    }
}

/// The caller's end of a call.
fn proxied(m: &Method<'_>, at: usize, names: &Names) -> TokenStream {
    let Names { contract, methods: table, .. } = names;
    let (ident, returned) = (m.ident(), m.returned());
    let (contract_name, name) = (contract.unraw().to_string(), m.name());
    let head = Ident::new("head", Span::mixed_site());
    let frame = Ident::new("frame", Span::mixed_site());
    let answered = Ident::new("reply", Span::mixed_site());
    let wire = Ident::new("wire", Span::mixed_site());
    let caught = Ident::new("caught", Span::mixed_site());
    let arguments: Vec<&Ident> = m.arguments.iter().map(|a| &a.name).collect();
    let wire_names = wire_names(m);
    let wires = m.arguments.iter().zip(&wire_names).map(|(a, wire)| {
        let (name, ty) = (&a.name, with_lifetime(&a.ty, "'_"));
        let into_wire = quote_spanned! { ty.span() => <#ty as ::lcr_core::Abi>::into_wire };
        quote! { let #wire = #into_wire(#name, &#frame); }
    });
    let from_wire = quote_spanned! { returned.span() => <#returned as ::lcr_core::Abi>::from_wire };
    let older = m.has_default().then(|| {
        let without = fallback_name(contract, at);
        quote! {
            // The provider was built before this method was appended.
            if ::core::mem::offset_of!(#table, #ident) / ::core::mem::size_of::<*const ()>() >= #head.method_count {
                // SAFETY: both are transparent over the same head.
                let #head = unsafe { &*::core::ptr::from_ref(#head).cast::<#without>() };
                return <#without as #contract>::#ident(#head #(, #arguments)*);
            }
        }
    });
    quote! {
        use ::lcr_core::call::Resume as _;
        let #head = &self.0;
        #older
        let #frame = ::lcr_core::abi::Frame::new();
        #(#wires)*
        // SAFETY: whoever lends a proxy has compared the provider's signature with this
        // contract's, and keeps the instance alive; the wires live as long as the frame
        // and the arguments, which is longer than the call.
        let #answered = unsafe {
            ((*#head.methods.cast::<#table>()).#ident)(#head.object #(, #wire_names)*)
        };
        // SAFETY: the reply is a thunk's, and taken once.
        match unsafe { #answered.take() } {
            // SAFETY: the thunk made the wire of a value of this type, and gave it up.
            ::core::result::Result::Ok(#wire) => unsafe { #from_wire(#wire, &#frame) },
            ::core::result::Result::Err(#caught) => {
                ::lcr_core::call::OnPanic::<#returned>::new().settle(#caught.into_error(#contract_name, #name))
            }
        }
    }
}

fn fallback_name(contract: &Ident, at: usize) -> Ident {
    format_ident!("__{}Without{at}", contract.unraw(), span = Span::call_site())
}

/// The wrapper that lacks the method at `at`, so that the trait's body answers.
fn fallback(m: &Method<'_>, at: usize, methods: &[Method<'_>], names: &Names) -> TokenStream {
    let Names { contract, proxy, .. } = names;
    let cfg = &m.cfg;
    let without = fallback_name(contract, at);
    let others = methods.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, other)| {
        let ident = other.ident();
        let arguments = other.arguments.iter().map(|a| &a.name);
        let provided = Ident::new("provided", Span::mixed_site());
        implemented(
            other,
            quote! {
                // SAFETY: both are transparent over the same head.
                let #provided = unsafe { &*::core::ptr::from_ref(&self.0).cast::<#proxy>() };
                <#proxy as #contract>::#ident(#provided #(, #arguments)*)
            },
        )
    });
    quote! {
        #(#cfg)*
        #[repr(transparent)]
        struct #without(::lcr_core::gate::InstanceHead);

        #(#cfg)*
        impl #contract for #without {
            #(#others)*
        }
    }
}
