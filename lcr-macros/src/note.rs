//! The notes that a contract and a component leave in the file.

use proc_macro2::TokenStream;
use quote::quote;

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
