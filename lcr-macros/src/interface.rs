//! `#[derive(Interface)]`: the descriptor of a typed interface.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Data, DeriveInput};

use crate::options::{Kind, Options};
use crate::refusal::Refusals;

/// Expands the derive.
pub(crate) fn expand(input: &DeriveInput) -> TokenStream {
    implemented(input).unwrap_or_else(|error| error.to_compile_error())
}

fn implemented(input: &DeriveInput) -> syn::Result<TokenStream> {
    let ident = &input.ident;
    let mut refusals = Refusals::default();
    match &input.data {
        Data::Struct(_) => {}
        Data::Enum(data) => refusals.at(
            data.enum_token,
            format!(
                "an interface is offered by a struct, whose fields are the instance's state: write \
                 `struct {ident} {{ … }}`, with this enum in a field"
            ),
        ),
        Data::Union(data) => refusals.at(
            data.union_token,
            "an interface is offered by a struct, whose fields are the instance's state: write `struct`",
        ),
    }
    if !input.generics.params.is_empty() {
        refusals.at(
            &input.generics.params,
            format!(
                "an interface has one constructor, so its type has no parameters: write the types in, or keep \
                 `{ident}<…>` in a field of a struct that derives Interface"
            ),
        );
    }
    let options = refusals.take(Options::read(Kind::Typed, &input.attrs, ident));
    refusals.settle()?;
    let (Some(options), generics) = (options, &input.generics.where_clause) else {
        return Ok(TokenStream::new());
    };
    let Some(contract) = &options.contract else { return Ok(TokenStream::new()) };

    let statics = options.statics();
    let checks = options.checks();
    let c_name = options.c_name();
    let (name, version) = (&options.name, options.version.number);
    let flags = u64::from(options.per_reference) | u64::from(options.state) << 1;
    // The one place that knows how a type's state is handed over.
    let handover = if options.state {
        quote_spanned! { ident.span() => ::lcr_core::__private::handover::<#ident>() }
    } else {
        quote! { ::core::ptr::null() }
    };
    let in_component =
        quote_spanned! { ident.span() => ::lcr_core::__private::assert_in_component::<#ident>() };
    let head = format!(r#"{}{{"name":""#, options.json());
    Ok(quote! {
        const _: () = {
            const _: () = #in_component;
            #checks

            // SAFETY: the table is made for this very type.
            unsafe impl ::lcr_core::interface::Interface for #ident #generics {
                type Contract = #contract;
                const NAME: &'static str = #name;
                const VERSION: i32 = #version;
                const IFACE: ::lcr_core::descriptor::Iface = {
                    #statics
                    static TABLE: ::lcr_core::descriptor::TypedTable<<#contract as ::lcr_core::Contract>::Methods> =
                        // SAFETY: null, or the table of this very type.
                        unsafe { ::lcr_core::descriptor::TypedTable::new::<#ident, #contract>(#flags, #handover) };
                    ::lcr_core::descriptor::Iface::typed(#c_name, #version, &REPLACES, &REQUIRES, &TABLE)
                };
                const NOTE: &'static [::lcr_core::text::Piece] = &[
                    ::lcr_core::text::Piece::Str(#head),
                    ::lcr_core::text::Piece::Str(<#contract as ::lcr_core::Contract>::NAME),
                    ::lcr_core::text::Piece::Str(r#"","methods":["#),
                    ::lcr_core::text::Piece::List(<#contract as ::lcr_core::Contract>::NOTE),
                    ::lcr_core::text::Piece::Str("]}}"),
                ];
            }
        };
    })
}
