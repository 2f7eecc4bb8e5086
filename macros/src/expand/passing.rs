//! How a value of a type travels, where that is not what serde would do alone.
//!
//! Looks at the written type only: a user's own type of such a name is the compiler's to complain
//! of.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{GenericArgument, Ident, Path, PathArguments, PathSegment, Type, TypePath};

use crate::signature::{peel, type_arguments};

/// How a value of a type travels: most as serde says; some differently, for speed or so that they
/// can be lent.
pub(super) enum Passing {
    /// As serde says.
    Plain,
    /// `&[u8]`, `Cow<'_, [u8]>`: as bytes, not as a sequence of numbers.
    Bytes,
    /// `Vec<u8>`: the same, and not copied to be sent where it is long.
    Vector,
    /// `Bytes`: the same, and not copied when it is received either.
    Shared,
    /// `Cow<'_, str>`: serde alone would decode it owned.
    Text,
    /// `&str`: borrowed from the frame.
    Borrowed,
    /// `&[T]`: decoded as a vector and lent.
    Slice,
    /// `&T`: decoded as `T` travels, and lent.
    Lent(Box<Passing>),
}

impl Passing {
    /// How a value of the type travels.
    pub(super) fn of(ty: &Type) -> Passing {
        match peel(ty) {
            Type::Reference(reference) => match peel(&reference.elem) {
                Type::Slice(slice) if is_named(&slice.elem, "u8") => Passing::Bytes,
                Type::Slice(_) => Passing::Slice,
                text if is_named(text, "str") => Passing::Borrowed,
                other => Passing::Lent(Box::new(Passing::of(other))),
            },
            Type::Path(TypePath { qself: None, path, .. }) => Passing::of_path(path),
            _ => Passing::Plain,
        }
    }

    fn of_path(path: &Path) -> Passing {
        let Some(segment) = path.segments.last() else {
            return Passing::Plain;
        };
        let arguments = type_arguments(segment);
        match (segment.ident.to_string().as_str(), arguments.as_slice()) {
            ("Vec", [element]) if is_named(element, "u8") => Passing::Vector,
            ("Bytes", []) if may_be_of_bytes(path) => Passing::Shared,
            ("Cow", [borrowed]) if !is_static(segment) => match peel(borrowed) {
                Type::Slice(slice) if is_named(&slice.elem, "u8") => Passing::Bytes,
                text if is_named(text, "str") => Passing::Text,
                _ => Passing::Plain,
            },
            _ => Passing::Plain,
        }
    }

    /// The type that the `Call` holds and encodes.
    pub(super) fn sent_type(&self, root: &Path, ty: &Type) -> TokenStream {
        if self.is_sent_shared() {
            return quote!(#root::__private::AsShared);
        }
        match self.innermost() {
            Passing::Bytes | Passing::Vector => quote!(#root::__private::AsBytes<#ty>),
            _ => quote!(#ty),
        }
    }

    /// The argument as the `Call` holds it.
    pub(super) fn sent_value(&self, root: &Path, name: &Ident) -> TokenStream {
        if self.is_sent_shared() {
            return quote!(#root::__private::AsShared::from(#name));
        }
        match self.innermost() {
            Passing::Bytes | Passing::Vector => quote!(#root::__private::AsBytes(#name)),
            _ => quote!(#name),
        }
    }

    /// The type to decode at the object.
    pub(super) fn received_type(&self, root: &Path, ty: &Type) -> TokenStream {
        match (self, peel(ty)) {
            (Passing::Lent(inner), Type::Reference(reference)) => {
                inner.received_type(root, &reference.elem)
            }
            (Passing::Slice, Type::Reference(reference)) => match peel(&reference.elem) {
                Type::Slice(slice) => {
                    let element = &slice.elem;
                    quote!(#root::__private::Vec<#element>)
                }
                other => quote!(#other),
            },
            (Passing::Bytes | Passing::Vector, _) => quote!(#root::__private::AsBytes<#ty>),
            (Passing::Shared, _) => quote!(#root::__private::AsShared),
            (Passing::Text, _) => quote!(#root::__private::CowStr<'_>),
            _ => quote!(#ty),
        }
    }

    /// What was decoded, as the method takes it.
    pub(super) fn received_value(&self, name: &Ident) -> TokenStream {
        match self {
            Passing::Plain | Passing::Borrowed => quote!(#name),
            Passing::Bytes | Passing::Vector | Passing::Text => quote!(#name.0),
            Passing::Shared => quote!(#name.into_bytes()),
            Passing::Slice => quote!(&#name),
            Passing::Lent(inner) => {
                let inner = inner.received_value(name);
                quote!(&#inner)
            }
        }
    }

    /// Whether a long value is not copied when it is received.
    pub(super) fn is_received_shared(&self) -> bool {
        matches!(self.innermost(), Passing::Shared)
    }

    /// Whether a long value is not copied to be sent: a vector only if it is the call's own.
    pub(super) fn is_sent_shared(&self) -> bool {
        matches!(self, Passing::Vector) || self.is_received_shared()
    }

    fn innermost(&self) -> &Passing {
        match self {
            Passing::Lent(inner) => inner.innermost(),
            other => other,
        }
    }
}

fn is_named(ty: &Type, name: &str) -> bool {
    matches!(peel(ty), Type::Path(path) if path.path.is_ident(name))
}

/// Whether a path that ends in `Bytes` may be that of the crate `bytes`: alone, or with this crate
/// before it. So `self::Bytes` is a type of the user's.
fn may_be_of_bytes(path: &Path) -> bool {
    path.segments.iter().rev().nth(1).is_none_or(|module| module.ident == "bytes")
}

fn is_static(segment: &PathSegment) -> bool {
    let PathArguments::AngleBracketed(generic) = &segment.arguments else {
        return false;
    };
    match generic.args.first() {
        Some(GenericArgument::Lifetime(lifetime)) => lifetime.ident == "static",
        _ => false,
    }
}
