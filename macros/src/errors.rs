//! Collects what is wrong with the user's text, so that all of it is reported in one go, and keeps
//! the words.
//!
//! Every message says what is wrong and, after it, what to write. Nothing here decides what is
//! wrong.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::Error;

/// The mistakes found so far. Must be finished: one that is dropped unread would hide them.
#[derive(Default)]
pub(crate) struct Errors {
    found: Vec<Error>,
    finished: bool,
}

impl Errors {
    /// No mistakes yet.
    pub(crate) fn new() -> Errors {
        Errors::default()
    }

    /// Adds an error that already has its place.
    pub(crate) fn push(&mut self, error: Error) {
        self.found.push(error);
    }

    /// Adds a message at the user's own tokens.
    pub(crate) fn spanned(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.found.push(Error::new_spanned(tokens, message));
    }

    /// How many there are; two counts tell whether a step found anything.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// The errors as items that make the compiler report them.
    pub(crate) fn finish(mut self) -> TokenStream {
        self.finished = true;
        self.found.drain(..).map(|error| error.to_compile_error()).collect()
    }

    /// The messages alone.
    #[cfg(test)]
    pub(crate) fn messages(mut self) -> Vec<String> {
        self.finished = true;
        let errors = self.found.drain(..).flatten();
        errors.map(|error| error.to_string()).collect()
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        assert!(
            self.finished || std::thread::panicking(),
            "the errors of an expansion were dropped without being reported"
        );
    }
}

pub(crate) const NOT_TRAIT_OR_IMPL: &str = "`#[remote]` stands on a trait, or on an impl of such \
    a trait; for a method, write it as `#[remote(…)]` inside a trait that has `#[remote]` itself";
pub(crate) const INHERENT_IMPL: &str = "`#[remote]` on an impl without a trait has no effect; \
    write `#[remote] impl Interface for Type`, where `Interface` is a trait with `#[remote]`";
pub(crate) const BLANKET_IMPL: &str = "a remote trait cannot be implemented for every type at \
    once; implement it for a type of your own, for example `struct Shared<T>(T)`";
pub(crate) const GENERIC_TRAIT: &str = "a remote trait cannot be generic: its methods are found \
    by a fixed signature; write one trait for each type, or take an enum";
pub(crate) const UNSAFE_TRAIT: &str =
    "a remote trait cannot be `unsafe`: the caller may be another process; remove `unsafe`";
pub(crate) const SUPERTRAIT: &str = "a remote trait can have only auto traits above it (`Send`, \
    `Sync`, `Unpin`): a proxy implements nothing else; move the methods into this trait, or ask \
    for the other trait where you need it";
pub(crate) const WHERE_ON_TRAIT: &str = "a remote trait cannot have a `where` clause; write auto \
    traits after its name, as in `trait Account: Unpin`, and leave out the rest";
pub(crate) const PUBLIC_METHOD: &str =
    "a method of a trait is as visible as the trait; remove this, and write `pub trait` if need be";
pub(crate) const ASSOCIATED_ITEM: &str = "a remote trait has only methods: anything else would \
    not exist at the caller; put it outside the trait, or make it a method";
pub(crate) const NOT_ASYNC: &str =
    "a remote method is `async`, since a caller waits for it; write `async fn`";
pub(crate) const QUALIFIER: &str =
    "a remote method has no qualifier but `async`; write plain `async fn`";
pub(crate) const MUTABLE_SELF: &str =
    "`&mut self` cannot be called remotely: objects are shared; take `&self` and lock inside";
pub(crate) const OWNED_SELF: &str =
    "a remote method cannot take the object itself: objects are shared; take `&self`";
pub(crate) const NO_SELF: &str = "a remote method needs an object to be called on; add `&self` \
    as its first argument, or move the function out of the trait";
pub(crate) const GENERIC_METHOD: &str = "a remote method cannot be generic: its arguments are \
    decoded as fixed types; write the types, or one method for each";
pub(crate) const NAMED_LIFETIME: &str = "a remote method has no named lifetimes: arguments live \
    as long as the call, results are owned; write `&T` or `'_`";
pub(crate) const WHERE_CLAUSE: &str = "a remote method cannot have a `where` clause; remove it";
pub(crate) const PATTERN: &str = "an argument of a remote method is a plain name, which is part \
    of its documentation; write `name: Type` and take it apart in the body";
pub(crate) const ARGUMENT_ATTRIBUTE: &str =
    "an argument of a remote method has no attributes; put the attribute on the method";
pub(crate) const TOO_MANY_ARGUMENTS: &str =
    "a remote method has at most 16 arguments; gather them in a struct";
pub(crate) const IMPL_TRAIT: &str =
    "`impl Trait` cannot travel: both sides must know the type; write a concrete type";
pub(crate) const MUTABLE_ARGUMENT: &str =
    "`&mut` arguments cannot travel back: arguments are copies; take `&T` and return the new value";
pub(crate) const STATIC_ARGUMENT: &str = "`&'static` cannot be promised: arguments are decoded \
    from a received frame and live as long as the call; write `&T` or an owned type";
pub(crate) const SELF_TYPE: &str =
    "`Self` has no meaning for a caller, who holds a proxy; write a concrete type";
pub(crate) const BORROWED_RESULT: &str = "a result cannot borrow: it is made anew from the bytes \
    of the reply; return an owned type (`String`, `Vec<T>`, `Cow<'static, str>`)";
pub(crate) const RESULT_ALIAS: &str = "`Result` without both its types is an alias that the \
    macro cannot see through; write both, as in `Result<T, E>`";
pub(crate) const CRATE_ON_METHOD: &str =
    "`crate` holds for the whole trait; write it in `#[remote(…)]` on the trait";
pub(crate) const OPTION_ON_IMPL: &str = "the caller relies on the trait, so its promises stand \
    there; write this in `#[remote(…)]` on the trait or on its method";
pub(crate) const METHOD_OPTION_IN_IMPL: &str = "the caller relies on the trait, so a method's \
    promises stand there; move this attribute to the method of the trait";
pub(crate) const CONDITIONAL_OPTION: &str = "`remote` inside `cfg_attr` is not seen on a method; \
    write the method once for each case, with a `#[cfg(…)]` and a `#[remote(…)]` of its own";
pub(crate) const UNKNOWN_OPTION: &str =
    "expected `semantics`, `timeout`, `spawn`, `oneway`, `max_reply` or `crate`";
pub(crate) const EXACTLY_ONCE: &str = "`exactly_once` needs a store, and so the feature `sqlite` of \
    `farcall`; write `farcall = { version = \"…\", features = [\"sqlite\"] }` in Cargo.toml";
pub(crate) const BAD_TIMEOUT: &str = "a timeout is a text of numbers with units `h`, `m`, `s`, \
    `ms` or `us`, from large to small, and is not zero; write for example `timeout = \"2s\"` or \
    `timeout = \"1m30s\"`";
pub(crate) const BAD_MAX_REPLY: &str = "a size is a number of bytes, or a text with the unit \
    `B`, `KiB`, `MiB` or `GiB`, above zero and below 4 GiB; write for example `max_reply = \
    \"1MiB\"`";
pub(crate) const BAD_CRATE: &str =
    "`crate` takes a path, without quotes; write for example `crate = my::farcall`";
pub(crate) const ONEWAY_RESULT: &str =
    "a `oneway` method has no reply, so it cannot return anything; remove the result, or `oneway`";
pub(crate) const ONEWAY_SEMANTICS: &str = "a `oneway` method has no reply, so nothing but \
    `maybe` can be promised; remove this semantics, or `oneway`";
pub(crate) const SPAWN_SEMANTICS: &str = "an `exactly_once` method runs inside its transaction, on \
    the thread of the store, and never in a task of its own; remove `spawn`, or choose another \
    semantics";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "dropped without being reported")]
    fn errors_that_nobody_reports_are_a_defect() {
        let mut errors = Errors::new();
        errors.spanned(quote::quote!(token), NOT_ASYNC);
    }

    #[test]
    fn every_error_becomes_an_error_of_the_compiler() {
        let mut errors = Errors::new();
        errors.spanned(quote::quote!(token), NOT_ASYNC);
        errors.spanned(quote::quote!(other), NO_SELF);
        let items = errors.finish().to_string();
        assert_eq!(items.matches("compile_error !").count(), 2, "{items}");
    }
}
