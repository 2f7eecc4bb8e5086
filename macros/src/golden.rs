//! Whole expansions, compared with files that a person has read; the documentation of `remote`
//! shows one of them.
//!
//! `FARCALL_BLESS=1 cargo test -p farcall-macros` writes the files anew, for that person to read
//! the difference.

use std::fs;
use std::path::Path;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Item, Meta};

use crate::args::is_remote;
use crate::expand;

#[test]
fn one_method() {
    let written = include_str!("golden/one_method.rs");
    compare("one_method", written);
    let page = include_str!("../../runtime/docs/remote.md");
    assert!(page.contains(written), "the documentation of `remote` shows another input");
}

#[test]
fn every_feature() {
    compare("every_feature", include_str!("golden/every_feature.rs"));
}

#[test]
fn one_error() {
    compare("one_error", include_str!("golden/one_error.rs"));
}

fn compare(name: &str, written: &str) {
    let expanded = expand_file(written);
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/docs/expansion"));
    let path = folder.join(name).with_extension("rs");
    if std::env::var_os("FARCALL_BLESS").is_some() {
        fs::write(&path, &expanded).expect("the folder of the expansions can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expanded == kept,
        "the expansion differs from {}; if it is right, FARCALL_BLESS=1 keeps it:\n{expanded}",
        path.display()
    );
    let lines = expanded.lines().count();
    assert!(lines <= 310, "an expansion that nobody can read: {lines} lines");
}

/// The file with every item under `#[remote]` replaced by its expansion.
fn expand_file(written: &str) -> String {
    let mut file = syn::parse_file(written).expect("the input is Rust");
    let items = file.items.iter_mut().map(|item| {
        let Some(attributes) = attributes(item) else {
            return item.to_token_stream();
        };
        let Some(position) = attributes.iter().position(is_remote) else {
            return item.to_token_stream();
        };
        let arguments = match attributes.remove(position).meta {
            Meta::List(list) => list.tokens,
            _ => TokenStream::new(),
        };
        expand::remote(arguments, item.to_token_stream())
    });
    let items: Vec<TokenStream> = items.collect();
    let expanded = syn::parse2(quote!(#(#items)*)).expect("the expansion is Rust");
    prettyplease::unparse(&expanded)
}

fn attributes(item: &mut Item) -> Option<&mut Vec<Attribute>> {
    match item {
        Item::Trait(item) => Some(&mut item.attrs),
        Item::Impl(item) => Some(&mut item.attrs),
        _ => None,
    }
}
