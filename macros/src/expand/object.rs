//! An impl with `#[remote]`: the user's bodies with results after the one rule, and what makes the
//! type servable.
//!
//! Names only the trait, as the user wrote it: everything else is reached through `dyn Trait`, so
//! the trait may be imported under another name.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse_quote;

use super::proxy::has_elided_lifetimes;
use super::{allow_deprecated, allowances, body, conditions, result};
use crate::model::{Body, Implementation};

pub(super) fn expand(implementation: &Implementation) -> TokenStream {
    let Implementation { attributes, interface, object, .. } = implementation;
    let root = implementation.root();
    let conditions: Vec<_> = conditions(attributes).collect();
    let allowances: Vec<_> = allowances(attributes).chain(allow_deprecated(attributes)).collect();
    let methods = implementation.methods.iter().map(|method| expand_method(implementation, method));
    let (parameters, _, bounds) = implementation.generics.split_for_impl();
    let mut owned = implementation.generics.clone();
    if !owned.params.is_empty() || has_elided_lifetimes(object) {
        // An object is shared with the runtime: a type with parameters is one if they hold nothing
        // borrowed.
        owned.make_where_clause().predicates.push(parse_quote!(Self: 'static));
    }
    let (_, _, owned_bounds) = owned.split_for_impl();
    let user = quote! {
        #(#attributes)*
        #[#root::__private::async_trait]
        impl #parameters #interface for #object #bounds {
            #(#methods)*
        }
    };
    let ours = quote_spanned! {Span::mixed_site()=>
        #(#conditions)*
        #(#allowances)*
        #[automatically_derived]
        impl #parameters #root::Implements<<dyn #interface as #root::Interface>::Marker>
            for #object #bounds {}

        #(#conditions)*
        #(#allowances)*
        #[automatically_derived]
        impl #parameters #root::Object<dyn #interface> for #object #owned_bounds {
            fn into_interface(
                self: #root::__private::Arc<Self>,
            ) -> #root::__private::Arc<dyn #interface> {
                self
            }
        }
    };
    quote!(#user #ours)
}

fn expand_method(implementation: &Implementation, method: &Body) -> TokenStream {
    let root = implementation.root();
    let attributes = &method.attributes;
    let arguments = method.signature.arguments.iter().map(|argument| {
        let (attributes, pattern, ty) = (&argument.attributes, &argument.pattern, &argument.ty);
        parse_quote!(#(#attributes)* #pattern: #ty)
    });
    let signature = method.signature.with(arguments, result(&root, &method.signature));
    // The body of a repaired method is left out, so that it does not complain in turn.
    let unused = method.signature.repaired.then(|| quote!(#[allow(unused)]));
    let body = body(&root, &method.signature, &method.block);
    quote! {
        #(#attributes)*
        #unused
        #signature #body
    }
}
