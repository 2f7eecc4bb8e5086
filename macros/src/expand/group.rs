//! The group: the proxy's methods once more, called at many members.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote_spanned};

use super::interface::for_proxy;
use super::proxy::{Through, calling_method};
use super::{allow_deprecated, allowances, conditions, docs};
use crate::model::Interface;
use crate::text;

const ALL: Through = Through { field: "members", function: "group_call", call: "GroupCall" };

pub(super) fn expand(interface: &Interface) -> TokenStream {
    let Interface { visibility, ident, attributes, .. } = interface;
    let root = interface.root();
    let mut group = format_ident!("{}Group", text::plain_name(ident));
    group.set_span(ident.span());
    let kept: Vec<_> = for_proxy(attributes).collect();
    let conditions: Vec<_> = conditions(attributes).collect();
    let allowances: Vec<_> = allowances(attributes).chain(allow_deprecated(attributes)).collect();
    let docs = docs::of_group(interface);
    let methods = interface.methods.iter().map(|method| {
        calling_method(interface, method, &docs::of_group_method(interface, method), ALL)
    });
    quote_spanned! {Span::mixed_site()=>
        #docs
        #(#kept)*
        #(#allowances)*
        #[allow(dead_code)]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #visibility struct #group {
            members: #root::__private::Members,
        }

        #(#conditions)*
        #(#allowances)*
        #[allow(dead_code)]
        impl #group {
            #(#methods)*
        }

        #(#conditions)*
        #(#allowances)*
        #[automatically_derived]
        impl #root::Group for #group {
            type Interface = dyn #ident;

            fn from_members(members: #root::__private::Members) -> Self {
                Self { members }
            }

            fn as_members(&self) -> &#root::__private::Members {
                &self.members
            }
        }
    }
}
