//! Where the compiler's errors about a type of the user's stand: at that type.
//!
//! An error is placed from the first token of what it is about to the last. So what a
//! macro writes around a type has the places of the type's own first and last token.
//! The compiler says the same of the same place only once: with this, one type that
//! cannot cross is one error, however often it occurs in what is written.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::visit::{self, Visit};
use syn::{Ident, Path, Type, TypeTraitObject};

/// From a first token to a last.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) start: Span,
    pub(crate) end: Span,
}

impl Place {
    /// Where `tokens` stand.
    pub(crate) fn of(tokens: &impl ToTokens) -> Place {
        let mut spans = tokens.to_token_stream().into_iter().map(|token| token.span());
        let start = spans.next().unwrap_or_else(Span::call_site);
        Place { start, end: spans.last().unwrap_or(start) }
    }

    /// Where an error stands that may be any of several types' fault: at those that are
    /// the user's own, at all if there are none.
    pub(crate) fn among<'a>(types: impl Iterator<Item = &'a Type> + Clone) -> Option<Place> {
        let suspects = || types.clone().filter(|ty| !is_builtin(ty));
        let first = suspects().next().or_else(|| types.clone().next())?;
        let last = suspects().last().or_else(|| types.clone().last())?;
        Some(Place { start: Place::of(first).start, end: Place::of(last).end })
    }
}

/// `<ty as Abi>::item`, in the type's place.
pub(crate) fn abi(ty: &impl ToTokens, item: &str) -> TokenStream {
    let Place { start, end } = Place::of(ty);
    let open = quote_spanned! { start => < };
    let item = Ident::new(item, end);
    let close = quote_spanned! { end => as ::lcr_core::Abi>::#item };
    quote! { #open #ty #close }
}

/// Whether a type is spelled in the names of those that can cross.
pub(crate) fn is_builtin(ty: &Type) -> bool {
    const NAMES: &[&str] = &[
        "bool",
        "char",
        "f32",
        "f64",
        "i8",
        "i16",
        "i32",
        "i64",
        "i128",
        "isize",
        "u8",
        "u16",
        "u32",
        "u64",
        "u128",
        "usize",
        "str",
        "String",
        "Vec",
        "Option",
        "Result",
        "Box",
        "Duration",
        "SystemTime",
        "Path",
        "PathBuf",
        "OwnedFd",
        "BorrowedFd",
        "Handle",
    ];

    struct Named(bool);
    impl<'ast> Visit<'ast> for Named {
        fn visit_type(&mut self, ty: &'ast Type) {
            self.0 &= !matches!(ty, Type::Ptr(_) | Type::FnPtr(_) | Type::Never(_));
            visit::visit_type(self, ty);
        }

        fn visit_path(&mut self, path: &'ast Path) {
            self.0 &= path.segments.last().is_some_and(|last| NAMES.iter().any(|name| last.ident == name));
            visit::visit_path(self, path);
        }

        // In `Handle<dyn Clock>`: this is no value that crosses.
        fn visit_type_trait_object(&mut self, _: &'ast TypeTraitObject) {}
    }
    let mut named = Named(true);
    named.visit_type(ty);
    named.0
}
