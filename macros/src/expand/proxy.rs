//! The proxy: one struct whose inherent methods have the user's names, and nothing else inherent.
//!
//! A method starts nothing: it returns a `Call`, which holds the arguments. So that it can outlive
//! the proxy's borrow, arguments that borrow get a lifetime of their own.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::visit_mut::{self, VisitMut};
use syn::{Lifetime, Type, TypeReference};

use super::interface::{for_proxy, proxy_name};
use super::passing::Passing;
use super::{allow_deprecated, allowances, conditions, docs, error_type, local, private, result};
use crate::model::{Interface, Method};

pub(super) fn expand(interface: &Interface) -> TokenStream {
    let Interface { visibility, ident, attributes, .. } = interface;
    let (root, proxy) = (interface.root(), proxy_name(interface));
    let kept: Vec<_> = for_proxy(attributes).collect();
    let conditions: Vec<_> = conditions(attributes).collect();
    let allowances: Vec<_> = allowances(attributes).chain(allow_deprecated(attributes)).collect();
    let docs = docs::of_proxy(interface);
    let inherent = interface.methods.iter().map(|method| {
        calling_method(interface, method, &docs::of_proxy_method(interface, method), ONE)
    });
    let forwarding = interface.methods.iter().map(|method| trait_method(interface, method));
    // A lifetime that is left out, as in `Order` for `Order<'_>`, would be taken for that of `self`:
    // what the compiler says of that helps nobody, and the lint asks for it.
    quote_spanned! {Span::mixed_site()=>
        #docs
        #(#kept)*
        #(#allowances)*
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #visibility struct #proxy {
            remote: #root::__private::Remote,
        }

        #(#conditions)*
        #(#allowances)*
        #[allow(dead_code)]
        #[deny(elided_lifetimes_in_paths)]
        impl #proxy {
            #(#inherent)*
        }

        #(#conditions)*
        #(#allowances)*
        #[automatically_derived]
        #[#root::__private::async_trait]
        impl #ident for #proxy {
            #(#forwarding)*
        }

        #(#conditions)*
        #(#allowances)*
        #[automatically_derived]
        impl #root::Proxy for #proxy {
            type Interface = dyn #ident;

            fn from_remote(remote: #root::__private::Remote) -> Self {
                Self { remote }
            }

            fn as_remote(&self) -> &#root::__private::Remote {
                &self.remote
            }
        }

        #(#conditions)*
        #(#allowances)*
        #[automatically_derived]
        impl #root::__private::Serialize for #proxy {
            fn serialize<S: #root::__private::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                #root::__private::serialize_reference(self, serializer)
            }
        }

        #(#conditions)*
        #(#allowances)*
        #[automatically_derived]
        impl<'de> #root::__private::Deserialize<'de> for #proxy {
            fn deserialize<D: #root::__private::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                #root::__private::deserialize_reference(deserializer)
            }
        }
    }
}

/// What generated methods call through, and what they give.
#[derive(Clone, Copy)]
pub(super) struct Through {
    /// The field that the call goes through.
    pub(super) field: &'static str,
    /// The function of the runtime that makes the call.
    pub(super) function: &'static str,
    /// What that gives, generic over arguments, result and error.
    pub(super) call: &'static str,
}

const ONE: Through = Through { field: "remote", function: "call", call: "Call" };

/// A method with the user's name that makes a call and starts nothing.
pub(super) fn calling_method(
    interface: &Interface,
    method: &Method,
    docs: &TokenStream,
    through: Through,
) -> TokenStream {
    let (root, signature) = (interface.root(), &method.signature);
    let (visibility, trait_name, ident) =
        (&interface.visibility, &interface.ident, &signature.ident);
    let (value, error) = (&signature.value, error_type(signature));
    let kept = for_proxy(&method.attributes);
    let allowances = allowances(&method.attributes);
    let mut lifetimes = NameLifetimes::default();
    let many =
        (signature.arguments.len() > 6).then(|| quote!(#[allow(clippy::too_many_arguments)]));
    let (mut parameters, mut types, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for argument in &signature.arguments {
        let (name, mut ty) = (local(&argument.name), argument.ty.clone());
        lifetimes.visit_type_mut(&mut ty);
        parameters.push(quote!(#name: #ty));
        let passing = Passing::of(&argument.ty);
        types.push(passing.sent_type(&root, &ty));
        values.push(passing.sent_value(&root, &name));
    }
    let generics = lifetimes.found.then(|| {
        let lifetime = lifetime();
        quote!(<#lifetime>)
    });
    let places = signature.places();
    let decode = match Passing::of(value) {
        Passing::Bytes | Passing::Vector => quote!(#root::__private::decode_bytes),
        Passing::Shared => quote!(#root::__private::decode_run),
        _ => {
            let decode = private(&root, "decode", places.value);
            quote_spanned!(places.value=> |bytes| #decode(bytes))
        }
    };
    let id = super::dispatch::id_literal(method);
    let make = private(&root, through.function, places.error);
    let (field, call) = (format_ident!("{}", through.field), format_ident!("{}", through.call));
    let values = quote_spanned!(places.arguments=> (#(#values,)*));
    let body = quote_spanned! {places.error=>
        #make(
            &self.#field,
            const {
                <dyn #trait_name as #root::Interface>::DESCRIPTOR
                    .position(#root::__private::MethodId(#id))
            },
            #values,
            #decode,
        )
    };
    quote_spanned! {Span::mixed_site()=>
        #docs
        #(#kept)*
        #(#allowances)*
        #many
        #visibility fn #ident #generics(
            &self,
            #(#parameters),*
        ) -> #root::#call<(#(#types,)*), #value, #error> {
            #body
        }
    }
}

fn trait_method(interface: &Interface, method: &Method) -> TokenStream {
    let (root, proxy, signature) = (interface.root(), proxy_name(interface), &method.signature);
    let conditions = conditions(&method.attributes);
    let deprecated = allow_deprecated(&method.attributes);
    let ident = &signature.ident;
    let names: Vec<_> = signature.arguments.iter().map(|argument| local(&argument.name)).collect();
    let types = signature.arguments.iter().map(|argument| &argument.ty);
    let result = result(&root, signature);
    // The call can be awaited if the arguments can be encoded; if not, they are to blame.
    let answer = quote_spanned!(signature.places().arguments=>
        #proxy::#ident(self, #(#names),*).await
    );
    quote_spanned! {Span::mixed_site()=>
        #(#conditions)*
        #deprecated
        async fn #ident(&self, #(#names: #types),*) -> #result {
            #answer
        }
    }
}

/// Whether a type borrows for a time that has no name.
pub(super) fn has_elided_lifetimes(ty: &Type) -> bool {
    let mut lifetimes = NameLifetimes::default();
    lifetimes.visit_type_mut(&mut ty.clone());
    lifetimes.found
}

fn lifetime() -> Lifetime {
    Lifetime::new("'a", Span::mixed_site())
}

/// Gives elided lifetimes a name, so that the `Call` holds what the arguments borrow and not the
/// proxy.
#[derive(Default)]
struct NameLifetimes {
    found: bool,
}

impl VisitMut for NameLifetimes {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        if !matches!(ty, Type::FnPtr(_)) {
            visit_mut::visit_type_mut(self, ty);
        }
    }

    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        if reference.lifetime.is_none() {
            (reference.lifetime, self.found) = (Some(lifetime()), true);
        }
        visit_mut::visit_type_reference_mut(self, reference);
    }

    fn visit_lifetime_mut(&mut self, written: &mut Lifetime) {
        if written.ident == "_" {
            (*written, self.found) = (lifetime(), true);
        }
    }
}
