//! What a macro says about code that it does not take.
//!
//! A message names the thing, says why it cannot be, and what to write instead.
//! It stands at the user's own token, and all of an item's messages come at once.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use std::fmt::Display;

/// The refusals that an item has collected.
#[derive(Default)]
pub(crate) struct Refusals(Option<syn::Error>);

impl Refusals {
    /// Refuses what `tokens` stand for.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.add(syn::Error::new_spanned(tokens, message));
    }

    /// Takes over an error.
    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// The value of `result`, or none and its error is taken over.
    pub(crate) fn take<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    /// Nothing was refused, or all that was.
    pub(crate) fn settle(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// The item as it was written beside the errors: what follows from its absence
/// would only hide them.
pub(crate) fn beside(item: impl ToTokens, error: &syn::Error) -> TokenStream {
    let error = error.to_compile_error();
    quote! { #item #error }
}
