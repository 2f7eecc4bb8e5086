//! The interface's descriptor, and the table from a method's id to code that decodes, runs and
//! encodes.
//!
//! What a handler borrows is decoded in place from the arguments, which the generated future owns; the reply takes their
//! place.

use std::time::Duration;

use proc_macro2::{Literal, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::Ident;

use super::interface::proxy_name;
use super::passing::Passing;
use super::{allow_deprecated, allowances, conditions, docs, local, private};
use crate::args::Semantics;
use crate::model::{Interface, Method, Promise};
use crate::text;

pub(super) fn expand(interface: &Interface) -> TokenStream {
    let (root, ident, proxy) = (interface.root(), &interface.ident, proxy_name(interface));
    let conditions: Vec<_> = conditions(&interface.attributes).collect();
    let allowances =
        allowances(&interface.attributes).chain(allow_deprecated(&interface.attributes));
    let allowances: Vec<_> = allowances.collect();
    let name = text::plain_name(ident);
    let descriptors = interface.methods.iter().map(|method| descriptor(interface, method));
    let arms = interface.methods.iter().map(|method| arm(interface, method));
    quote_spanned! {Span::mixed_site()=>
        #(#conditions)*
        #(#allowances)*
        #[automatically_derived]
        impl #root::Implements<#proxy> for #proxy {}

        #(#conditions)*
        #(#allowances)*
        #[automatically_derived]
        impl #root::Object<dyn #ident> for #proxy {
            fn into_interface(
                self: #root::__private::Arc<Self>,
            ) -> #root::__private::Arc<dyn #ident> {
                self
            }
        }

        #(#conditions)*
        #(#allowances)*
        #[automatically_derived]
        impl #root::Interface for dyn #ident {
            type Proxy = #proxy;
            type Marker = #proxy;

            const DESCRIPTOR: &'static #root::Descriptor =
                &#root::Descriptor { name: #name, methods: &[#(#descriptors,)*] };

            fn dispatch(
                object: #root::__private::Arc<Self>,
                method: #root::__private::MethodId,
                arguments: #root::__private::Arguments,
                room: #root::__private::Room,
            ) -> #root::__private::Dispatch {
                match method.0 {
                    #(#arms)*
                    _ => #root::__private::no_such_method(arguments, room),
                }
            }
        }
    }
}

fn descriptor(interface: &Interface, method: &Method) -> TokenStream {
    let (root, promise) = (interface.root(), interface.promise(method));
    let Promise { oneway, spawn, .. } = promise;
    let conditions = conditions(&method.attributes);
    let (name, signature) = (method.signature.name(), &method.signature.text);
    let (id, docs) = (id_literal(method), docs::as_written(&method.attributes));
    let semantics = match promise.semantics {
        Semantics::Maybe => quote!(Maybe),
        Semantics::AtLeastOnce => quote!(AtLeastOnce),
        Semantics::AtMostOnce => quote!(AtMostOnce),
        Semantics::ExactlyOnce => quote!(ExactlyOnce),
    };
    let timeout = option(promise.timeout.map(duration));
    let max_reply = option(promise.max_reply.map(|bytes| {
        let bytes = Literal::u32_unsuffixed(bytes);
        quote!(#bytes)
    }));
    quote_spanned! {Span::mixed_site()=>
        #(#conditions)*
        #root::MethodDescriptor {
            name: #name,
            id: #root::__private::MethodId(#id),
            signature: #signature,
            docs: #docs,
            semantics: #root::Semantics::#semantics,
            oneway: #oneway,
            spawn: #spawn,
            timeout: #timeout,
            max_reply: #max_reply,
        }
    }
}

fn arm(interface: &Interface, method: &Method) -> TokenStream {
    let (root, trait_name, signature) = (interface.root(), &interface.ident, &method.signature);
    let conditions = conditions(&method.attributes);
    let deprecated = allow_deprecated(&method.attributes);
    let (id, ident) = (id_literal(method), &signature.ident);
    let (mut types, mut names, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for argument in &signature.arguments {
        let name = local(&argument.name);
        let passing = Passing::of(&argument.ty);
        types.push(passing.received_type(&root, &argument.ty));
        values.push(passing.received_value(&name));
        names.push(name);
    }
    let object = Ident::new("object", Span::mixed_site());
    let places = signature.places();
    let answer = private(&root, "answer", places.error);
    let types = quote_spanned!(places.arguments=> (#(#types,)*));
    let mut result = quote_spanned! {places.value=>
        <dyn #trait_name as #trait_name>::#ident(&*#object, #(#values),*).await
    };
    match Passing::of(&signature.value) {
        Passing::Bytes => {
            result = quote_spanned!(places.value=> #result.map(#root::__private::AsBytes));
        }
        sent if sent.is_sent_shared() => {
            result = quote_spanned!(places.value=> #result.map(#root::__private::AsShared::from));
        }
        _ => {}
    }
    let shares =
        signature.arguments.iter().any(|argument| Passing::of(&argument.ty).is_received_shared());
    let decoded = if shares {
        quote_spanned!(Span::mixed_site()=> arguments.decode_shared::<#types>())
    } else {
        quote_spanned!(Span::mixed_site()=> #root::__private::decode::<#types>(&arguments))
    };
    quote_spanned! {Span::mixed_site()=>
        #(#conditions)*
        #deprecated
        #id => room.put(async move {
            match #decoded {
                ::core::result::Result::Ok((#(#names,)*)) => #answer(#result, arguments),
                ::core::result::Result::Err(error) => #root::__private::bad_arguments(error, arguments),
            }
        }),
    }
}

/// The id in the form in which it is printed elsewhere.
pub(super) fn id_literal(method: &Method) -> Literal {
    let mut literal: Literal = format!("{:#010x}", method.id)
        .parse()
        .unwrap_or_else(|_| Literal::u32_unsuffixed(method.id));
    literal.set_span(Span::mixed_site());
    literal
}

fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

fn duration(duration: Duration) -> TokenStream {
    let (unit, number) = match duration.as_micros() {
        micros if micros % 1_000_000 == 0 => (quote!(from_secs), micros / 1_000_000),
        micros if micros % 1_000 == 0 => (quote!(from_millis), micros / 1_000),
        micros => (quote!(from_micros), micros),
    };
    let number = Literal::u128_unsuffixed(number);
    quote!(::core::time::Duration::#unit(#number))
}
