//! The trait itself: the user's text with results after the one rule, object-safe through
//! async-trait.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Attribute, Ident, Meta, parse_quote};

use super::{allow_deprecated, body, docs, result};
use crate::model::{Interface, Method};
use crate::text;

pub(super) fn expand(interface: &Interface) -> TokenStream {
    let Interface { attributes, visibility, ident, supertraits, .. } = interface;
    let root = interface.root();
    let proxy = proxy_name(interface);
    let auto = ["Send", "Sync"].into_iter().filter(|name| !has_supertrait(interface, name));
    let auto = auto.map(|name| format_ident!("{name}"));
    let methods = interface.methods.iter().map(|method| expand_method(interface, method));
    let deprecated = allow_deprecated(attributes);
    quote! {
        #(#attributes)*
        #deprecated
        #[#root::__private::async_trait]
        #visibility trait #ident:
            #root::Implements<#proxy> #(+ ::core::marker::#auto)* #(+ #supertraits)*
        {
            #(#methods)*
        }
    }
}

fn expand_method(interface: &Interface, method: &Method) -> TokenStream {
    let root = interface.root();
    let attributes = &method.attributes;
    let docs = docs::of_trait_method(interface, method);
    let arguments = method.signature.arguments.iter().map(|argument| {
        let (name, pattern, ty) = (&argument.name, &argument.pattern, &argument.ty);
        if method.body.is_ok() { parse_quote!(#pattern: #ty) } else { parse_quote!(#name: #ty) }
    });
    let signature = method.signature.with(arguments, result(&root, &method.signature));
    let body = match &method.body {
        Ok(block) => body(&root, &method.signature, block),
        Err(semicolon) => quote!(#semicolon),
    };
    quote! {
        #(#attributes)*
        #docs
        #signature #body
    }
}

/// `AccountProxy`; it also stands for the trait in `Implements`, where the trait itself would be a
/// cycle.
pub(super) fn proxy_name(interface: &Interface) -> Ident {
    let name = text::plain_name(&interface.ident);
    Ident::new(&format!("{name}Proxy"), interface.ident.span())
}

fn has_supertrait(interface: &Interface, name: &str) -> bool {
    interface.supertraits.iter().any(|bound| match bound {
        syn::TypeParamBound::Trait(bound) => {
            bound.path.segments.last().is_some_and(|last| last.ident == name)
        }
        _ => false,
    })
}

/// The user's attributes that also hold for the proxy, without the text of the documentation.
pub(super) fn for_proxy(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| match attribute.path().get_ident() {
        Some(name) if name == "doc" => matches!(attribute.meta, Meta::List(_)),
        Some(name) => ["cfg", "cfg_attr", "deprecated"].iter().any(|kept| name == kept),
        None => false,
    })
}
