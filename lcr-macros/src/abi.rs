//! `#[derive(Abi)]`: how a struct or an enum of the user's crosses.
//!
//! A struct's wire is a `#[repr(C)]` struct of its fields' wires. An enum's is a
//! tag, the variant's position, and a `#[repr(C)]` union of such structs, one for
//! each variant that has fields.
//!
//! The wire types take one type parameter for each field, and are named with the
//! fields' wires for arguments. So they need no bounds, know no lifetimes, and a
//! generic struct is no special case.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Data, DeriveInput, Error, Fields, GenericParam, Generics, Ident, Index, Lifetime, Member, Meta,
    PathSegment, Result, Token, Type, TypePath, TypeReference, TypeTraitObject, WherePredicate,
    parse_quote_spanned,
};

use crate::contract::{NO_TRAIT_OBJECT, visit_but_contracts};
use crate::place::{Place, abi, is_builtin};

/// The impl, or the errors.
pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    expand(input).unwrap_or_else(|error| error.to_compile_error())
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    check_generics(&input.generics)?;
    let repr = Repr::of(input)?;
    let (wires, body) = match &input.data {
        Data::Struct(data) => {
            let fields = FieldList::new(&input.ident, &data.fields, &mut 0)?;
            expand_struct(input, &fields, repr == Repr::Fixed)
        }
        Data::Enum(data) => {
            let mut count = 0;
            let mut variants = Vec::new();
            let mut errors = None;
            for variant in &data.variants {
                match FieldList::new(&input.ident, &variant.fields, &mut count) {
                    Ok(fields) => variants.push((&variant.ident, fields)),
                    Err(error) => combine(&mut errors, error),
                }
            }
            errors.map_or(Ok(()), Err)?;
            if variants.is_empty() {
                return Err(Error::new(
                    input.ident.span(),
                    "an enum without variants has no value that could cross between components",
                ));
            }
            expand_enum(input, &variants)
        }
        Data::Union(data) => {
            return Err(Error::new(
                data.union_token.span,
                "a union cannot cross between components: nothing says which of its fields is there; \
                 use an enum",
            ));
        }
    };

    let mut generics = input.generics.clone();
    for param in generics.type_params_mut() {
        param.bounds.push(syn::parse_quote!(::lcr_core::abi::Abi));
    }
    let mut checks = check_destructor(input);
    // What stands in the `where` is asked for there, at the field, and taken as given in
    // the impl: so what is missing is said once.
    let predicates = &mut generics.make_where_clause().predicates;
    for ty in fields_of(&input.data).map(|field| &field.ty).filter(|ty| is_closed(ty, &input.generics)) {
        let end = Place::of(ty).end;
        predicates.push(parse_quote_spanned!(end=> #ty: ::lcr_core::Abi));
        predicates.push(parse_quote_spanned!(end=> #ty: for<'__f> ::lcr_core::Abi<At<'__f> = #ty>));
        // An alias may hide a lifetime, which could only be `'static`.
        let assertion = quote_spanned! { ty.span() =>
            ::core::assert!(!::lcr_core::__private::Lifetime::<#ty>::IS_THERE, #NOT_STATIC)
        };
        checks.extend(quote! {
            const _: () = {
                use ::lcr_core::__private::NoLifetime as _;
                #assertion
            };
        });
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let ident = &input.ident;
    Ok(quote! {
        #[doc(hidden)]
        #[allow(
            missing_docs, missing_debug_implementations, unreachable_pub, dead_code, unused_variables, unused_imports,
            non_snake_case, trivial_bounds, clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks
        )]
        const _: () = {
            #checks
            #wires

            #[automatically_derived]
            unsafe impl #impl_generics ::lcr_core::abi::Abi for #ident #ty_generics #where_clause {
                #body
            }
        };
    })
}

const NOT_STATIC: &str = "what is borrowed across components lives as long as a call, not `'static`: use an \
                          owned type (`String`, `Vec<T>`), or give the type a lifetime parameter";

/// Says why a type with a destructor is refused, beside the compiler's own message; not
/// of a type with parameters, whose destructor may have bounds.
fn check_destructor(input: &DeriveInput) -> TokenStream {
    let (ident, params) = (&input.ident, &input.generics.params);
    if params.iter().any(|param| !matches!(param, GenericParam::Lifetime(_))) {
        return TokenStream::new();
    }
    let lifetimes = params.iter().map(|_| quote!('static));
    let message = format!(
        "`{ident}` has a destructor of its own, so it cannot be taken apart to cross between components: remove \
         `impl Drop for {ident}`, or move it to a type that does not cross"
    );
    let assertion = quote_spanned! { ident.span() =>
        ::core::assert!(!::lcr_core::__private::Destructor::<#ident<#(#lifetimes),*>>::IS_THERE, #message)
    };
    quote! {
        const _: () = {
            use ::lcr_core::__private::NoDestructor as _;
            #assertion
        };
    }
}

/// The fields of all variants.
fn fields_of(data: &Data) -> impl Iterator<Item = &syn::Field> {
    let each: Vec<&Fields> = match data {
        Data::Struct(data) => vec![&data.fields],
        Data::Enum(data) => data.variants.iter().map(|variant| &variant.fields).collect(),
        Data::Union(_) => Vec::new(),
    };
    each.into_iter().flatten()
}

/// Whether a type could be anything, and holds no parameter of the item's and no
/// lifetime.
fn is_closed(ty: &Type, generics: &Generics) -> bool {
    struct Open<'a>(&'a Generics, bool);
    impl<'ast> Visit<'ast> for Open<'_> {
        fn visit_ident(&mut self, ident: &'ast Ident) {
            self.1 |= self.0.params.iter().any(|param| match param {
                GenericParam::Type(param) => param.ident == *ident,
                GenericParam::Const(param) => param.ident == *ident,
                GenericParam::Lifetime(_) => false,
            });
        }

        fn visit_lifetime(&mut self, _: &'ast Lifetime) {
            self.1 = true;
        }

        fn visit_type_reference(&mut self, _: &'ast TypeReference) {
            self.1 = true;
        }
    }
    let mut open = Open(generics, is_builtin(ty));
    open.visit_type(ty);
    !open.1
}

/// `impl Abi` for a struct: its wire type, and what stands in the impl.
fn expand_struct(input: &DeriveInput, fields: &FieldList, fixed: bool) -> (TokenStream, TokenStream) {
    let ident = &input.ident;
    let wire = format_ident!("__{}Wire", ident.unraw());
    let wire_type = fields.wire_type(&wire);
    let at = at(input);
    let mut shape = Shape::default();
    shape.text(&ident.unraw().to_string());
    shape.fields(fields, "{}");
    let shape = shape.finish();
    let (field_wires, borrows) = (fields.abi("Wire"), fields.abi("BORROWS"));
    let pattern = fields.pattern();
    let into_wire = fields.wire_value(&wire, "into_wire");
    let lend = fields.wire_value(&wire, "lend");
    let (from_wire, borrow) =
        (fields.value(&quote!(#ident), &quote!(wire)), fields.view(&quote!(#ident), &quote!(wire)));
    let plain = if fixed {
        let plain = fields.abi("PLAIN");
        quote!(true #(&& #plain)*)
    } else {
        quote!(false)
    };
    let body = quote! {
        type Wire = #wire<#(#field_wires),*>;
        type At<'__f> = #at;
        const SHAPE: &'static [::lcr_core::text::Piece] = #shape;
        const PLAIN: bool = #plain;
        const BORROWS: bool = false #(|| #borrows)*;

        #[inline]
        fn into_wire(self, frame: &::lcr_core::abi::Frame) -> Self::Wire {
            let Self #pattern = self;
            #into_wire
        }

        #[inline]
        unsafe fn from_wire<'__f>(wire: Self::Wire, frame: &'__f ::lcr_core::abi::Frame) -> Self::At<'__f> {
            #from_wire
        }

        #[inline]
        fn lend(&self, frame: &::lcr_core::abi::Frame) -> Self::Wire {
            let Self #pattern = self;
            #lend
        }

        #[inline]
        unsafe fn borrow<'__f>(
            wire: Self::Wire,
            frame: &'__f ::lcr_core::abi::Frame,
        ) -> ::core::mem::ManuallyDrop<Self::At<'__f>> {
            #borrow
        }
    };
    (wire_type, body)
}

/// `impl Abi` for an enum: its wire types, and what stands in the impl.
fn expand_enum(input: &DeriveInput, variants: &[(&Ident, FieldList)]) -> (TokenStream, TokenStream) {
    let ident = &input.ident;
    let wire = format_ident!("__{}Wire", ident.unraw());
    let payload = format_ident!("__{}Payload", ident.unraw());
    let at = at(input);

    let params: Vec<&Ident> = variants.iter().flat_map(|(_, fields)| &fields.0).map(|f| &f.param).collect();
    let of_each = |item| variants.iter().flat_map(move |(_, fields)| fields.abi(item)).collect::<Vec<_>>();
    let (field_wires, borrows) = (of_each("Wire"), of_each("BORROWS"));
    let with_fields = || variants.iter().filter(|(_, fields)| !fields.0.is_empty());
    let wire_of = |variant: &Ident| format_ident!("__{}{}Wire", ident.unraw(), variant.unraw());

    let mut wires = TokenStream::new();
    for (variant, fields) in with_fields() {
        wires.extend(fields.wire_type(&wire_of(variant)));
    }
    let payload_field = if params.is_empty() {
        None
    } else {
        let members = with_fields().map(|(variant, fields)| {
            let (wire, params) = (wire_of(variant), fields.params());
            quote!(pub #variant: #wire<#(#params),*>)
        });
        wires.extend(quote! {
            #[repr(C)]
            pub union #payload<#(#params: ::core::marker::Copy),*> {
                pub __none: (),
                #(#members),*
            }
            impl<#(#params: ::core::marker::Copy),*> ::core::marker::Copy for #payload<#(#params),*> {}
            impl<#(#params: ::core::marker::Copy),*> ::core::clone::Clone for #payload<#(#params),*> {
                #[inline]
                fn clone(&self) -> Self {
                    *self
                }
            }
        });
        Some(quote!(pub payload: #payload<#(#params),*>))
    };
    wires.extend(quote! {
        #[repr(C)]
        pub struct #wire<#(#params: ::core::marker::Copy),*> {
            pub tag: u32,
            #payload_field
        }
        impl<#(#params: ::core::marker::Copy),*> ::core::marker::Copy for #wire<#(#params),*> {}
        impl<#(#params: ::core::marker::Copy),*> ::core::clone::Clone for #wire<#(#params),*> {
            #[inline]
            fn clone(&self) -> Self {
                *self
            }
        }
    });

    let mut shape = Shape::default();
    shape.text(&format!("enum {}{{", ident.unraw()));
    for (i, (variant, fields)) in variants.iter().enumerate() {
        shape.text(if i == 0 { "" } else { ", " });
        shape.text(&variant.unraw().to_string());
        shape.fields(fields, "");
    }
    shape.text("}");
    let shape = shape.finish();

    // The wire that one of the two methods makes of a variant.
    let arms = |method: &str| -> TokenStream {
        let mut arms = TokenStream::new();
        for (tag, (variant, fields)) in (0u32..).zip(variants) {
            let pattern = fields.pattern();
            let payload_value = if params.is_empty() {
                None
            } else if fields.0.is_empty() {
                Some(quote!(payload: #payload { __none: () }))
            } else {
                let value = fields.wire_value(&wire_of(variant), method);
                Some(quote!(payload: #payload { #variant: #value }))
            };
            arms.extend(quote!(Self::#variant #pattern => #wire { tag: #tag, #payload_value },));
        }
        arms
    };
    let (into_wire, lend) = (arms("into_wire"), arms("lend"));

    let names = variants.iter().map(|(variant, _)| variant.unraw().to_string());
    let name = ident.unraw().to_string();
    let unknown = quote!(__tag => ::lcr_core::abi::unknown_variant(#name, __tag, &[#(#names),*]));
    let back = |view: bool| -> TokenStream {
        let mut arms = TokenStream::new();
        for (tag, (variant, fields)) in (0u32..).zip(variants) {
            let take = (!fields.0.is_empty()).then(|| {
                // The tag says which member is there.
                quote!(let __fields = unsafe { wire.payload.#variant };)
            });
            let (path, from) = (quote!(#ident::#variant), quote!(__fields));
            let value = if view { fields.view(&path, &from) } else { fields.value(&path, &from) };
            arms.extend(quote!(#tag => { #take #value }));
        }
        arms
    };
    let (from_wire, borrow) = (back(false), back(true));

    let body = quote! {
        type Wire = #wire<#(#field_wires),*>;
        type At<'__f> = #at;
        const SHAPE: &'static [::lcr_core::text::Piece] = #shape;
        const BORROWS: bool = false #(|| #borrows)*;

        #[inline]
        fn into_wire(self, frame: &::lcr_core::abi::Frame) -> Self::Wire {
            match self { #into_wire }
        }

        #[inline]
        unsafe fn from_wire<'__f>(wire: Self::Wire, frame: &'__f ::lcr_core::abi::Frame) -> Self::At<'__f> {
            match wire.tag { #from_wire #unknown }
        }

        #[inline]
        fn lend(&self, frame: &::lcr_core::abi::Frame) -> Self::Wire {
            match self { #lend }
        }

        #[inline]
        unsafe fn borrow<'__f>(
            wire: Self::Wire,
            frame: &'__f ::lcr_core::abi::Frame,
        ) -> ::core::mem::ManuallyDrop<Self::At<'__f>> {
            match wire.tag { #borrow #unknown }
        }
    };
    (wires, body)
}

/// A field, and its names in the generated code.
struct Field<'a> {
    /// What it is called in the user's type.
    member: Member,
    named: bool,
    ty: &'a Type,
    /// What it is called in the wire type and as a variable.
    name: Ident,
    /// The wire type's parameter for it.
    param: Ident,
}

/// The fields of a struct or a variant.
struct FieldList<'a>(Vec<Field<'a>>, Kind);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Named,
    Tuple,
    Unit,
}

impl<'a> FieldList<'a> {
    /// Checks the fields of `owner`. `count` is how many wire parameters are taken.
    fn new(owner: &Ident, fields: &'a Fields, count: &mut usize) -> Result<Self> {
        let kind = match fields {
            Fields::Named(_) => Kind::Named,
            Fields::Unnamed(_) => Kind::Tuple,
            Fields::Unit => Kind::Unit,
        };
        let mut list = Vec::new();
        let mut errors = None;
        for (i, field) in fields.iter().enumerate() {
            let mut check = Check { owner, errors: &mut errors };
            check.visit_type(&field.ty);
            list.push(Field {
                member: field.ident.clone().map_or_else(|| Member::Unnamed(Index::from(i)), Member::Named),
                named: field.ident.is_some(),
                ty: &field.ty,
                name: Ident::new(&format!("__{i}"), Span::mixed_site()),
                param: format_ident!("__W{count}"),
            });
            *count += 1;
        }
        errors.map_or(Ok(FieldList(list, kind)), Err)
    }

    fn params(&self) -> Vec<&Ident> {
        self.0.iter().map(|field| &field.param).collect()
    }

    /// `<Type as Abi>::item` for each field.
    fn abi(&self, item: &str) -> Vec<TokenStream> {
        self.0.iter().map(|field| field.abi(item)).collect()
    }

    /// The definition of a wire type with these fields.
    fn wire_type(&self, wire: &Ident) -> TokenStream {
        let params = self.params();
        let names = self.0.iter().map(|field| &field.name);
        quote! {
            #[repr(C)]
            pub struct #wire<#(#params),*> { #(pub #names: #params),* }
            impl<#(#params: ::core::marker::Copy),*> ::core::marker::Copy for #wire<#(#params),*> {}
            impl<#(#params: ::core::marker::Copy),*> ::core::clone::Clone for #wire<#(#params),*> {
                #[inline]
                fn clone(&self) -> Self {
                    *self
                }
            }
        }
    }

    /// `{ member: variable, … }`.
    fn pattern(&self) -> TokenStream {
        let each = self.0.iter().map(|Field { member, name, .. }| quote!(#member: #name));
        quote!({ #(#each),* })
    }

    /// The wire that `method` makes of the variables.
    fn wire_value(&self, wire: &Ident, method: &str) -> TokenStream {
        let each = self.0.iter().map(|field| {
            let (name, convert) = (&field.name, field.abi(method));
            quote!(#name: #convert(#name, frame))
        });
        quote!(#wire { #(#each),* })
    }

    /// The value of `path` that is taken from the wire `from`.
    fn value(&self, path: &TokenStream, from: &TokenStream) -> TokenStream {
        let each = self.0.iter().map(|field| {
            let (member, name, convert) = (&field.member, &field.name, field.abi("from_wire"));
            quote!(#member: unsafe { #convert(#from.#name, frame) })
        });
        quote!(#path { #(#each),* })
    }

    /// The view of a `path` that was lent as the wire `from`: all fields are views
    /// before the first is unwrapped, so that a panic drops none.
    fn view(&self, path: &TokenStream, from: &TokenStream) -> TokenStream {
        let lets = self.0.iter().map(|field| {
            let (name, convert) = (&field.name, field.abi("borrow"));
            quote!(let #name = unsafe { #convert(#from.#name, frame) };)
        });
        let each = self
            .0
            .iter()
            .map(|Field { member, name, .. }| quote!(#member: ::core::mem::ManuallyDrop::into_inner(#name)));
        quote!(#(#lets)* ::core::mem::ManuallyDrop::new(#path { #(#each),* }))
    }
}

impl Field<'_> {
    /// `<Type as Abi>::item`, where the type stands.
    fn abi(&self, item: &str) -> TokenStream {
        abi(self.ty, item)
    }
}

/// A type's shape: text, with the shapes of other types in it.
#[derive(Default)]
struct Shape {
    text: String,
    pieces: Vec<TokenStream>,
}

impl Shape {
    fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn of(&mut self, field: &Field<'_>) {
        self.flush();
        let shape = field.abi("SHAPE");
        self.pieces.push(quote!(::lcr_core::text::Piece::List(#shape)));
    }

    fn flush(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() {
            self.pieces.push(quote!(::lcr_core::text::Piece::Str(#text)));
        }
    }

    /// The fields in their brackets; `unit` where there are neither.
    fn fields(&mut self, fields: &FieldList<'_>, unit: &str) {
        let (open, close) = match fields.1 {
            Kind::Named => ("{", "}"),
            Kind::Tuple => ("(", ")"),
            Kind::Unit => return self.text(unit),
        };
        self.text(open);
        for (i, field) in fields.0.iter().enumerate() {
            self.text(if i == 0 { "" } else { ", " });
            if let (true, Member::Named(name)) = (field.named, &field.member) {
                self.text(&format!("{}: ", name.unraw()));
            }
            self.of(field);
        }
        self.text(close);
    }

    fn finish(mut self) -> TokenStream {
        self.flush();
        let pieces = self.pieces;
        quote!(&[#(#pieces),*])
    }
}

/// Whether the type's layout is one that the user has fixed.
#[derive(PartialEq)]
enum Repr {
    /// `repr(C)` or `repr(transparent)`, and nothing else.
    Fixed,
    Any,
}

impl Repr {
    fn of(input: &DeriveInput) -> Result<Self> {
        let mut words = Vec::new();
        for attr in &input.attrs {
            if !attr.path().is_ident("repr") {
                continue;
            }
            for meta in attr.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)? {
                if meta.path().is_ident("packed") {
                    return Err(Error::new_spanned(
                        &meta,
                        "a packed type cannot cross between components: its fields cannot be lent; \
                         remove `packed`",
                    ));
                }
                words.push(meta.to_token_stream().to_string());
            }
        }
        Ok(if words == ["C"] || words == ["transparent"] { Repr::Fixed } else { Repr::Any })
    }
}

/// The type with `'__f` for each lifetime: what `Abi::At` is.
fn at(input: &DeriveInput) -> TokenStream {
    let ident = &input.ident;
    let args = input.generics.params.iter().map(|param| match param {
        GenericParam::Lifetime(_) => quote!('__f),
        GenericParam::Type(param) => {
            let ident = &param.ident;
            quote!(<#ident as ::lcr_core::abi::Abi>::At<'__f>)
        }
        GenericParam::Const(param) => param.ident.to_token_stream(),
    });
    quote!(#ident<#(#args),*>)
}

/// A bound on a type parameter would have to hold for what the receiver gets too.
fn check_generics(generics: &Generics) -> Result<()> {
    const ADVICE: &str = "a type that crosses between components cannot bound its type parameters: \
                          write the bound on the functions that need it";
    for param in generics.type_params() {
        if !param.bounds.is_empty() {
            return Err(Error::new_spanned(&param.bounds, ADVICE));
        }
    }
    for predicate in generics.where_clause.iter().flat_map(|clause| &clause.predicates) {
        if !matches!(predicate, WherePredicate::Lifetime(_)) {
            return Err(Error::new_spanned(predicate, ADVICE));
        }
    }
    Ok(())
}

/// Looks for what a field must not hold.
struct Check<'a> {
    owner: &'a Ident,
    errors: &'a mut Option<Error>,
}

impl<'ast> Visit<'ast> for Check<'_> {
    fn visit_type_path(&mut self, ty: &'ast TypePath) {
        let segments = &ty.path.segments;
        let own = |i: usize| segments[i].ident == *self.owner;
        let itself = ty.qself.is_none()
            && ty.path.leading_colon.is_none()
            && match segments.len() {
                1 => own(0) || segments[0].ident == "Self",
                2 => own(1) && segments[0].ident == "self",
                _ => false,
            };
        if itself {
            let owner = self.owner;
            let message = format!(
                "`{owner}` holds `{owner}`, and a type that holds itself cannot cross between components: \
                 its shape would have no end; cross a flat `Vec` of nodes that name each other by index"
            );
            combine(self.errors, Error::new_spanned(ty, message));
        }
        visit::visit_type_path(self, ty);
    }

    fn visit_type_reference(&mut self, ty: &'ast TypeReference) {
        if let Some(mutable) = &ty.mutability {
            let message = "`&mut` cannot cross between components: take the value and return the changed one";
            combine(self.errors, Error::new(mutable.span(), message));
        }
        visit::visit_type_reference(self, ty);
    }

    fn visit_type_trait_object(&mut self, ty: &'ast TypeTraitObject) {
        combine(self.errors, Error::new_spanned(ty, NO_TRAIT_OBJECT));
    }

    fn visit_path_segment(&mut self, segment: &'ast PathSegment) {
        visit_but_contracts(self, segment);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident == "static" {
            combine(self.errors, Error::new(lifetime.span(), NOT_STATIC));
        }
    }
}

fn combine(errors: &mut Option<Error>, error: Error) {
    match errors {
        Some(errors) => errors.combine(error),
        None => *errors = Some(error),
    }
}
