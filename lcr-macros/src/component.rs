//! `#[component]` and `file_component!`: the descriptor of a component, its
//! registration and its note.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Attribute, Ident, Item, ItemMod, ItemStruct, LitStr, Path, Token, parse_quote};

use crate::note::{note, package_pieces};
use crate::options::{Kind, Options, check_name};
use crate::raw;
use crate::refusal::{Refusals, beside};

/// One interface of a component.
struct Offered {
    cfg: Vec<Attribute>,
    /// Its descriptor, an expression.
    iface: TokenStream,
    /// Its part of the note, an expression of type `&[Piece]`.
    note: TokenStream,
    /// Its type, if it is a typed one.
    ty: Option<TokenStream>,
    /// What the compiler is asked about it, in the component's scope.
    checks: TokenStream,
    /// Its name and version as an expression of type `(&str, i32)`.
    identity: TokenStream,
}

impl Offered {
    fn typed(cfg: Vec<Attribute>, ty: TokenStream) -> Self {
        let interface = quote! { <#ty as ::lcr_core::interface::Interface> };
        Offered {
            cfg,
            iface: quote! { #interface::IFACE },
            note: quote! { #interface::NOTE },
            identity: quote! { (#interface::NAME, #interface::VERSION) },
            checks: TokenStream::new(),
            ty: Some(ty),
        }
    }

    fn raw(cfg: Vec<Attribute>, module: &Ident, options: &Options) -> Self {
        let constant = raw::constant();
        let (name, version) = (&options.name, options.version.number);
        let note = format!("{}null}}", options.json());
        Offered {
            cfg,
            iface: quote! { #module::#constant },
            note: quote! { &[::lcr_core::text::Piece::Str(#note)] },
            identity: quote! { (#name, #version) },
            checks: options.checks(),
            ty: None,
        }
    }
}

fn cfg(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes.iter().filter(|a| a.path().is_ident("cfg")).cloned().collect()
}

/// What stands in the parentheses of `#[component(…)]`.
#[derive(Default)]
struct Arguments {
    name: Option<LitStr>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Arguments::default();
        while !input.is_empty() {
            let name = named(input)?;
            if arguments.name.replace(name).is_some() {
                return Err(input.error("`name` is said twice: remove one"));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

/// `name = "…"`.
fn named(input: ParseStream<'_>) -> syn::Result<LitStr> {
    let key: Ident = input.parse()?;
    if key != "name" {
        return Err(syn::Error::new(
            key.span(),
            format!("there is no key `{key}`: a component takes `name = \"…\"`"),
        ));
    }
    input.parse::<Token![=]>()?;
    let name: LitStr = input.parse()?;
    check_name("a component's name", &name)?;
    Ok(name)
}

/// Expands the attribute.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut refusals = Refusals::default();
    let arguments = refusals.take(Arguments::parse.parse2(arguments)).unwrap_or_default();
    let mut module: ItemMod = match syn::parse2(item.clone()) {
        Ok(module) => module,
        Err(error) => {
            let error = syn::Error::new(
                error.span(),
                "`#[component]` stands on a module, and this is none: put what belongs to the component into \
                 `#[lcr_core::component] mod … { … }`",
            );
            return beside(item, &error);
        }
    };
    let name = match arguments.name {
        Some(name) => name,
        None => LitStr::new(&module.ident.unraw().to_string(), module.ident.span()),
    };
    let module_ident = module.ident.clone();
    let Some((_, items)) = &mut module.content else {
        let error = syn::Error::new_spanned(
            &module.ident,
            format!(
                "an attribute does not see into another file: remove it here, and write \
                 `lcr_core::file_component! {{ … }}` with the interfaces' names at the end of that file, or \
                 write the module inline, `mod {module_ident} {{ … }}`"
            ),
        );
        return beside(item, &error);
    };

    let mut offered = Vec::new();
    let mut underived = false;
    let mut seen: Vec<(String, i32, bool)> = Vec::new();
    for item in items.iter_mut() {
        match item {
            Item::Struct(item) if derives_interface(item) => {
                let cfg = cfg(&item.attrs);
                // What is wrong with the options is the derive's to say.
                match Options::read(Kind::Typed, &item.attrs, &item.ident) {
                    Ok(options) if item.generics.params.is_empty() => {
                        twice(&mut seen, &options, !cfg.is_empty(), &mut refusals);
                    }
                    _ => underived = true,
                }
                let ident = &item.ident;
                let mut typed = Offered::typed(cfg, quote! { #ident });
                // The derive refuses parameters, and nothing can be said of the type without.
                typed.ty = typed.ty.filter(|_| item.generics.params.is_empty());
                offered.push(typed);
            }
            Item::Mod(item) if item.attrs.iter().any(|a| a.path().is_ident("interface")) => {
                if let Some(options) = refusals.take(raw::expand(item)) {
                    let cfg = cfg(&item.attrs);
                    twice(&mut seen, &options, !cfg.is_empty(), &mut refusals);
                    offered.push(Offered::raw(cfg, &item.ident, &options));
                } else {
                    // Refused: no second message about an empty component.
                    seen.push((String::new(), 0, true));
                }
            }
            _ => {}
        }
    }
    if offered.is_empty() && seen.is_empty() {
        refusals.at(
            &module_ident,
            format!(
                "component `{module_ident}` offers no interface: put `#[derive(Interface)]` and \
                 `#[interface(name = \"…\", version = 0, contract = dyn …)]` on a struct directly in it"
            ),
        );
    }
    // Behind what the module imports itself: a name that comes from here and from a glob
    // of the user's is then an error that says so, and not this one with a warning.
    items.push(parse_quote! {
        #[allow(unused_imports)]
        use ::lcr_core::prelude::*;
    });
    // Where one of them is refused, the types count as registered all the same, lest each
    // says that it is not.
    let types = offered.iter().filter_map(|o| o.ty.as_ref().map(|ty| (&o.cfg, ty)));
    let types = types.map(|(cfg, ty)| {
        quote! { #(#cfg)* impl ::lcr_core::construct::InComponent for #ty {} }
    });
    let types = Item::Verbatim(quote! { #(#types)* });
    match refusals.settle() {
        Ok(()) if underived => {
            items.push(types);
            quote! { #module }
        }
        Ok(()) => {
            let described = described(&quote! { #name }, &offered);
            items.push(Item::Verbatim(described));
            quote! { #module }
        }
        Err(error) => {
            items.push(types);
            beside(module, &error)
        }
    }
}

/// Is there a `derive` that ends in `Interface`?
fn derives_interface(item: &ItemStruct) -> bool {
    let mut found = false;
    for attribute in item.attrs.iter().filter(|a| a.path().is_ident("derive")) {
        // What cannot be read as a list of paths is the compiler's to refuse.
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.segments.last().is_some_and(|s| s.ident == "Interface");
            Ok(())
        });
    }
    found
}

/// Refuses a name and version that the component has already. Two that are under
/// `#[cfg]` may be alternatives: those the compiler compares later.
fn twice(seen: &mut Vec<(String, i32, bool)>, options: &Options, conditional: bool, refusals: &mut Refusals) {
    let (name, version) = (options.name.value(), options.version.number);
    if seen.iter().any(|(n, v, c)| *n == name && *v == version && !(*c || conditional)) {
        refusals.at(
            &options.name,
            format!(
                "the component offers `{name}` version {version} twice: give one of them another version, and \
                 list in `replaces(…)` what it stands in for"
            ),
        );
    }
    seen.push((name, version, conditional));
}

/// The descriptor, the registration and the note; `name` is an expression.
fn described(name: &TokenStream, offered: &[Offered]) -> TokenStream {
    let types = offered.iter().filter_map(|o| o.ty.as_ref().map(|ty| (&o.cfg, ty))).map(|(cfg, ty)| {
        quote! { #(#cfg)* impl ::lcr_core::construct::InComponent for #ty {} }
    });
    let ifaces = offered.iter().map(|Offered { cfg, iface, .. }| quote! { #(#cfg)* #iface, });
    let notes = offered.iter().map(|Offered { cfg, note, .. }| quote! { #(#cfg)* #note, });
    let identities = offered.iter().map(|Offered { cfg, identity, .. }| quote! { #(#cfg)* #identity, });
    let checks = offered.iter().map(|Offered { checks, .. }| checks);
    let package = package_pieces();
    let note = note(&quote! {
        ::lcr_core::text::Piece::Str(r#"{"lcr":1,"kind":"component","component":""#),
        ::lcr_core::text::Piece::Str(COMPONENT_NAME),
        ::lcr_core::text::Piece::Str(r#"""#),
        #package
        ::lcr_core::text::Piece::Str(r#","interfaces":["#),
        ::lcr_core::text::Piece::List(&::lcr_core::__private::listed::<{ 2 * INTERFACE_NOTES.len() }>(INTERFACE_NOTES)),
        ::lcr_core::text::Piece::Str("]}"),
    });
    quote! {
        const _: () = {
            #(#types)*

            #(#checks)*
            const COMPONENT_NAME: &'static str = #name;
            const _: () = ::lcr_core::__private::assert_all_differ(&[#(#identities)*]);
            const INTERFACES: &'static [::lcr_core::descriptor::Iface] = &[#(#ifaces)*];
            const INTERFACE_NOTES: &'static [&'static [::lcr_core::text::Piece]] = &[#(#notes)*];
            static COMPONENT: ::lcr_core::descriptor::Comp = ::lcr_core::descriptor::Comp::new(INTERFACES);

            // SAFETY: the descriptors are constants that the derive has written.
            ::lcr_core::__register!(unsafe {
                ::lcr_core::registry::Registration::new(
                    &COMPONENT,
                    COMPONENT_NAME,
                    ::lcr_core::__private::known(::core::option_env!("CARGO_PKG_NAME")),
                    ::lcr_core::__private::known(::core::option_env!("CARGO_PKG_VERSION")),
                    ::core::module_path!(),
                )
            });

            #note
        };
    }
}

/// What stands in the braces of `file_component!`.
struct Listed {
    name: Option<LitStr>,
    types: Vec<Path>,
    modules: Vec<ItemMod>,
}

impl Parse for Listed {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut listed = Listed { name: None, types: Vec::new(), modules: Vec::new() };
        if input.peek(Ident) && input.peek2(Token![=]) {
            listed.name = Some(named(input)?);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        while !input.is_empty() {
            let is_module = input.peek(Token![#])
                || input.peek(Token![mod])
                || input.peek(Token![pub]) && input.peek2(Token![mod]);
            if is_module {
                let module: ItemMod = input.parse()?;
                if !module.attrs.iter().any(|a| a.path().is_ident("interface")) {
                    return Err(syn::Error::new_spanned(
                        &module.ident,
                        "a module in here is an interface with a raw table: put \
                         `#[interface(name = \"…\", version = 0)]` on it, or move it out of the braces",
                    ));
                }
                listed.modules.push(module);
                input.parse::<Option<Token![,]>>()?;
            } else {
                listed.types.push(input.call(Path::parse_mod_style)?);
                if !input.is_empty() && !input.peek(Token![#]) {
                    input.parse::<Token![,]>()?;
                }
            }
        }
        Ok(listed)
    }
}

/// Expands the macro at the end of a file.
pub(crate) fn expand_file(input: TokenStream) -> TokenStream {
    let mut listed: Listed = match Listed::parse.parse2(input) {
        Ok(listed) => listed,
        Err(error) => return error.to_compile_error(),
    };
    let mut refusals = Refusals::default();
    if listed.types.is_empty() && listed.modules.is_empty() {
        refusals.add(syn::Error::new(
            Span::call_site(),
            "the component offers no interface: list the structs of this file that derive Interface, \
             `lcr_core::file_component! { English }`",
        ));
    }
    let mut offered: Vec<Offered> =
        listed.types.iter().map(|ty| Offered::typed(Vec::new(), quote! { #ty })).collect();
    let mut seen = Vec::new();
    for module in &mut listed.modules {
        if let Some(options) = refusals.take(raw::expand(module)) {
            let cfg = cfg(&module.attrs);
            twice(&mut seen, &options, !cfg.is_empty(), &mut refusals);
            offered.push(Offered::raw(cfg, &module.ident, &options));
        }
    }
    let modules = &listed.modules;
    if let Err(error) = refusals.settle() {
        return beside(quote! { #(#modules)* }, &error);
    }
    let name = match &listed.name {
        Some(name) => quote! { #name },
        None => quote! { ::lcr_core::__private::last_segment(::core::module_path!()) },
    };
    let described = described(&name, &offered);
    quote! { #(#modules)* #described }
}
