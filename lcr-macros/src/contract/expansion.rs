//! What stands beside a contract that has been found sound.
//!
//! The names of the macro's own locals are hygienic (`mixed_site`), so that they
//! do not meet the arguments'; what is said of a type is spanned over that type.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Ident, ItemTrait, Lifetime, Type};

use super::{Argument, Method};
use crate::note::{note, package_pieces};
use crate::place::{Place, abi};

/// The items beside the trait.
pub(super) fn generate(item: &ItemTrait, methods: &[Method<'_>]) -> TokenStream {
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
        let Place { start, end } = in_method(m);
        let (field, function) = (placed(ident, start), placed(ident, end));
        let thunks = placed(thunks, start);
        let value = quote_spanned! { start => #thunks::<#provider>:: };
        quote! { #(#cfg)* #field: #value #function, }
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
            clippy::type_complexity,
        )]
        const _: () = {
            // By a name of its own, and in one word: it is written at the user's tokens,
            // where lints see what is written.
            use ::lcr_core::call::Reply as __LcrReply;

            #(#checks)*

            #[doc = #methods_doc]
            #[repr(C)]
            pub struct #table {
                #(#fields)*
            }

            #[automatically_derived]
            impl ::core::clone::Clone for #table {
                fn clone(&self) -> Self {
                    *self
                }
            }

            #[automatically_derived]
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

/// The same name in another place.
fn placed(ident: &Ident, place: Span) -> Ident {
    let mut ident = ident.clone();
    ident.set_span(place);
    ident
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
        let borrows = abi(ty, "BORROWS");
        quote_spanned! { ty.span() =>
            #(#cfg)*
            const _: () = ::core::assert!(
                !#borrows,
                "what a contract's method returns is owned, and this type borrows: return an owned one",
            );
        }
    })
}

/// Where an error about a method as a whole stands.
fn in_method(m: &Method<'_>) -> Place {
    Place::among(m.arguments.iter().map(|a| &a.ty).chain(m.returns)).unwrap_or_else(|| Place::of(m.ident()))
}

/// `<ty as Abi>::method(value, &frame)`, in the same place.
fn abi_call(ty: &impl ToTokens, method: &str, value: &Ident, frame: &Ident) -> TokenStream {
    let function = abi(ty, method);
    let Place { start, end } = Place::of(ty);
    // The argument too, whose name stands elsewhere: from its first token to its last.
    let tuple = quote_spanned! { start => (#value,) };
    let value = quote_spanned! { end => #tuple.0 };
    let arguments = quote_spanned! { end => (#value, &#frame) };
    quote! { #function #arguments }
}

/// The wire of a type, written where no lifetime is in scope.
fn wire(ty: &Type) -> TokenStream {
    let ty = with_lifetime(ty, "'static");
    abi(&ty, "Wire")
}

/// What the wires of the arguments are called.
fn wire_names(m: &Method<'_>) -> Vec<Ident> {
    (0..m.arguments.len()).map(|i| Ident::new(&format!("wire{i}"), Span::mixed_site())).collect()
}

fn reply(m: &Method<'_>) -> TokenStream {
    let returned = m.returned();
    let Place { start, end } = Place::of(&returned);
    let wire = abi(&returned, "Wire");
    let open = quote_spanned! { start => __LcrReply< };
    let close = quote_spanned! { end => > };
    quote! { #open #wire #close }
}

fn field(m: &Method<'_>) -> TokenStream {
    let (cfg, ident) = (&m.cfg, m.ident());
    let doc = format!("`{}`.", m.name());
    let wires = m.arguments.iter().map(|a| wire(&a.ty));
    // An error about the whole type stands from its first token to its last.
    let Place { start, end } = in_method(m);
    let function = quote_spanned! { start => unsafe extern "C" fn };
    let wire = abi(&m.returned(), "Wire");
    let reply = quote_spanned! { end => __LcrReply<#wire> };
    quote! {
        #(#cfg)*
        #[doc = #doc]
        pub #ident: #function(*const () #(, #wires)*) -> #reply,
    }
}

fn shape(m: &Method<'_>, at: usize) -> TokenStream {
    let (cfg, pieces, text) = (&m.cfg, shape_name(at), text_name(at));
    let arguments = m.arguments.iter().enumerate().map(|(i, a)| {
        let ty = with_lifetime(&a.ty, "'static");
        let comma = (i > 0).then(|| quote! { ::lcr_core::text::Piece::Str(", "), });
        let list = abi(&ty, "SHAPE");
        quote! { #comma ::lcr_core::text::Piece::List(#list), }
    });
    let returned = m.returns.filter(|ty| !is_unit(ty)).map(|ty| {
        let list = abi(&ty, "SHAPE");
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
        let from_wire = abi_call(&ty, "from_wire", name, &frame);
        quote! {
            // SAFETY: the caller made the wire for this call, and keeps what it borrows.
            let #name = unsafe { #from_wire };
        }
    });
    let into_wire = abi_call(&returned, "into_wire", &value, &frame);
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
                #into_wire
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
    let value = Ident::new("value", Span::mixed_site());
    let caught = Ident::new("caught", Span::mixed_site());
    let arguments: Vec<&Ident> = m.arguments.iter().map(|a| &a.name).collect();
    let wire_names = wire_names(m);
    let wires = m.arguments.iter().zip(&wire_names).map(|(a, wire)| {
        let (name, ty) = (&a.name, with_lifetime(&a.ty, "'_"));
        let into_wire = abi_call(&ty, "into_wire", name, &frame);
        quote! { let #wire = #into_wire; }
    });
    let from_wire = abi_call(&returned, "from_wire", &wire, &frame);
    let Place { start, end } = in_method(m);
    let field = placed(ident, end);
    let methods = quote_spanned! { start => (*#head.methods.cast::<#table>()) };
    let function = quote! { #methods.#field };
    let older = m.has_default().then(|| {
        let without = fallback_name(contract, at);
        let offset = quote_spanned! { start => ::core::mem::offset_of!(#table, #ident) };
        quote! {
            // The provider was built before this method was appended.
            if #offset / ::core::mem::size_of::<*const ()>() >= #head.method_count {
                // SAFETY: both are transparent over the same head.
                let #head = unsafe { &*::core::ptr::from_ref(#head).cast::<#without>() };
                return <#without as #contract>::#ident(#head #(, #arguments)*);
            }
        }
    });
    quote! {
        use ::lcr_core::call::{NoError as _, Resume as _};
        let #head = &self.0;
        #older
        let #frame = ::lcr_core::abi::Frame::new();
        #(#wires)*
        // SAFETY: whoever lends a proxy has compared the provider's signature with this
        // contract's, and keeps the instance alive; the wires live as long as the frame
        // and the arguments, which is longer than the call.
        let #answered = unsafe { (#function)(#head.object #(, #wire_names)*) };
        // SAFETY: the reply is a thunk's, and taken once.
        match unsafe { #answered.take() } {
            ::core::result::Result::Ok(#wire) => {
                // SAFETY: the thunk made the wire of a value of this type, and gave it up.
                let #value: #returned = unsafe { #from_wire };
                if ::lcr_core::call::Returned(&#value).is_error() {
                    #head.note_error();
                }
                #value
            }
            ::core::result::Result::Err(#caught) => {
                ::lcr_core::call::away(move || {
                    #head.note_panic();
                    ::lcr_core::call::OnPanic::<#returned>::new().settle(#caught.into_error(#contract_name, #name))
                })
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
