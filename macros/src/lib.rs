//! The attribute `#[remote]` of farcall: reads a trait or an impl of one, and writes what a remote
//! call needs.
//!
//! Entry points only. Users reach the attribute through the crate `farcall`, whose documentation of
//! `remote` is the one to read; this crate cannot depend on it. The way of an item through here:
//! `args` and `signature` parse, `model` keeps what was read beside the user's tokens, `validate`
//! compares methods with each other, `expand` writes.

mod args;
mod errors;
mod expand;
#[cfg(test)]
mod golden;
mod model;
mod signature;
mod text;
mod validate;

use proc_macro::TokenStream;

/// Makes a trait callable from afar, and an impl of it an object that can be served; see
/// `farcall::remote`.
#[proc_macro_attribute]
pub fn remote(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let expansion = expand::remote(arguments.into(), item.into());
    expand::print_if_asked(&expansion);
    expansion.into()
}
