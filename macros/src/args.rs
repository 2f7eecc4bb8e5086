//! The text of the attribute: `#[remote(semantics = "at_most_once", timeout = "2s", …)]`.
//!
//! Judges each option by itself; what two of them mean together is for `validate`. A wrong option
//! is reported and left out, so that the rest still counts.

use std::time::Duration;

use proc_macro2::TokenStream;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Lit, LitStr, Meta, MetaNameValue, Path, Token};

use crate::errors::{self, Errors};

/// What stands in one `#[remote(…)]`, or in several on one item.
#[derive(Default)]
pub(crate) struct Args {
    /// The semantics and where it was written.
    pub(crate) semantics: Option<(Semantics, LitStr)>,
    pub(crate) timeout: Option<Duration>,
    /// Largest encoded result, in bytes.
    pub(crate) max_reply: Option<u32>,
    /// The word `spawn`, where it was written.
    pub(crate) spawn: Option<Path>,
    /// The word `oneway`, where it was written.
    pub(crate) oneway: Option<Path>,
    /// Path of the crate `farcall`, if the user gave one.
    pub(crate) root: Option<Path>,
    seen: Vec<String>,
}

/// The words for `semantics`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Semantics {
    Maybe,
    AtLeastOnce,
    AtMostOnce,
    /// Only with the feature.
    ExactlyOnce,
}

/// What the attribute stands on: not every option makes sense everywhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Trait,
    Method,
    Impl,
}

impl Args {
    /// Reads the text between the parentheses.
    pub(crate) fn read(text: TokenStream, place: Place, errors: &mut Errors) -> Args {
        let mut args = Args::default();
        args.add(text, place, errors);
        args
    }

    /// Takes all `#[remote]` out of a method's attributes and reads them.
    pub(crate) fn take(attributes: &mut Vec<Attribute>, errors: &mut Errors) -> Args {
        let mut args = Args::default();
        for attribute in attributes.extract_if(.., |attribute| becomes_remote(&attribute.meta)) {
            errors.spanned(attribute, errors::CONDITIONAL_OPTION);
        }
        for attribute in attributes.extract_if(.., |attribute| is_remote(attribute)) {
            match attribute.meta {
                Meta::Path(_) => {}
                Meta::List(list) => args.add(list.tokens, Place::Method, errors),
                Meta::NameValue(_) => errors.spanned(attribute, errors::UNKNOWN_OPTION),
            }
        }
        args
    }

    fn add(&mut self, text: TokenStream, place: Place, errors: &mut Errors) {
        match Punctuated::<Meta, Token![,]>::parse_terminated.parse2(text) {
            Ok(options) => {
                options.into_iter().for_each(|option| self.option(&option, place, errors))
            }
            Err(error) => errors.push(error),
        }
    }

    fn option(&mut self, option: &Meta, place: Place, errors: &mut Errors) {
        let name = option.path().get_ident().map(ToString::to_string).unwrap_or_default();
        if place == Place::Impl && name != "crate" && KNOWN.contains(&&*name) {
            return errors.spanned(option, errors::OPTION_ON_IMPL);
        }
        if self.seen.contains(&name) {
            return errors.spanned(option, format!("`{name}` is written twice; keep one"));
        }
        match (&*name, option) {
            ("semantics", Meta::NameValue(pair)) => self.semantics = semantics(pair, errors),
            ("timeout", Meta::NameValue(pair)) => self.timeout = timeout(pair, errors),
            ("max_reply", Meta::NameValue(pair)) => self.max_reply = max_reply(pair, errors),
            ("spawn", Meta::Path(path)) => self.spawn = Some(path.clone()),
            ("oneway", Meta::Path(path)) => self.oneway = Some(path.clone()),
            ("crate", _) if place == Place::Method => {
                errors.spanned(option, errors::CRATE_ON_METHOD)
            }
            ("crate", Meta::NameValue(MetaNameValue { value: Expr::Path(path), .. })) => {
                self.root = Some(path.path.clone());
            }
            ("crate", _) => errors.spanned(option, errors::BAD_CRATE),
            ("spawn" | "oneway", _) => {
                errors.spanned(option, format!("`{name}` takes no value; write `{name}` alone"));
            }
            ("semantics", _) => errors.spanned(option, "write `semantics = \"at_most_once\"`"),
            ("timeout", _) => errors.spanned(option, errors::BAD_TIMEOUT),
            ("max_reply", _) => errors.spanned(option, errors::BAD_MAX_REPLY),
            _ => {
                let path = crate::text::compact(option.path());
                errors.spanned(
                    option,
                    format!("unknown option `{path}`; {}", errors::UNKNOWN_OPTION),
                );
            }
        }
        self.seen.push(name);
    }
}

const KNOWN: [&str; 6] = ["semantics", "timeout", "max_reply", "spawn", "oneway", "crate"];

/// Whether this is our attribute, also when it is written with its path.
pub(crate) fn is_remote(attribute: &Attribute) -> bool {
    is_named_remote(attribute.path())
}

fn is_named_remote(path: &Path) -> bool {
    path.segments.last().is_some_and(|segment| segment.ident == "remote")
}

/// Whether this is `cfg_attr(…, remote)`, which may stand in another of its kind: it would
/// become our attribute only after the trait or impl was read.
pub(crate) fn becomes_remote(meta: &Meta) -> bool {
    let Meta::List(list) = meta else {
        return false;
    };
    let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
    list.path.is_ident("cfg_attr")
        && list.parse_args_with(parser).is_ok_and(|parts| {
            parts.iter().skip(1).any(|part| is_named_remote(part.path()) || becomes_remote(part))
        })
}

fn semantics(pair: &MetaNameValue, errors: &mut Errors) -> Option<(Semantics, LitStr)> {
    let Some(word) = string(pair) else {
        errors.spanned(&pair.value, "a semantics is a text; write `semantics = \"at_most_once\"`");
        return None;
    };
    let semantics = match &*word.value() {
        "maybe" => Semantics::Maybe,
        "at_least_once" => Semantics::AtLeastOnce,
        "at_most_once" => Semantics::AtMostOnce,
        "exactly_once" if cfg!(feature = "exactly_once") => Semantics::ExactlyOnce,
        "exactly_once" => {
            errors.spanned(&word, errors::EXACTLY_ONCE);
            return None;
        }
        other => {
            let expected = "expected `maybe`, `at_least_once`, `at_most_once` or `exactly_once`";
            errors.spanned(&word, format!("unknown semantics `{other}`; {expected}"));
            return None;
        }
    };
    Some((semantics, word))
}

fn timeout(pair: &MetaNameValue, errors: &mut Errors) -> Option<Duration> {
    let timeout = string(pair).and_then(|text| parse_timeout(&text.value()));
    if timeout.is_none() {
        errors.spanned(&pair.value, errors::BAD_TIMEOUT);
    }
    timeout
}

fn max_reply(pair: &MetaNameValue, errors: &mut Errors) -> Option<u32> {
    let bytes = match &pair.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => parse_size(&text.value()),
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) if number.suffix().is_empty() => {
            parse_size(number.base10_digits())
        }
        _ => None,
    };
    if bytes.is_none() {
        errors.spanned(&pair.value, errors::BAD_MAX_REPLY);
    }
    bytes
}

fn string(pair: &MetaNameValue) -> Option<LitStr> {
    match &pair.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.clone()),
        _ => None,
    }
}

/// Units of a timeout in microseconds, from large to small.
const UNITS: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// `2s`, `150ms`, `1m30s`: each unit at most once, from large to small, not zero together.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (mut rest, mut units, mut total) = (text, &UNITS[..], 0u64);
    while !rest.is_empty() {
        let (number, after) = split(rest, |letter| letter.is_ascii_digit());
        let (unit, after) = split(after, |letter| letter.is_ascii_alphabetic());
        let place = units.iter().position(|(name, _)| *name == unit)?;
        total = number.parse::<u64>().ok()?.checked_mul(units[place].1)?.checked_add(total)?;
        (rest, units) = (after, &units[place + 1..]);
    }
    (total > 0).then(|| Duration::from_micros(total))
}

/// `1MiB`, `64KiB`, `512B`, `512`: bytes, not zero, below 4 GiB.
fn parse_size(text: &str) -> Option<u32> {
    let (number, unit) = split(text, |letter| letter.is_ascii_digit());
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|letter| !belongs(letter)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn messages(text: TokenStream, place: Place) -> Vec<String> {
        let mut errors = Errors::new();
        Args::read(text, place, &mut errors);
        errors.messages()
    }

    #[test]
    fn every_option_is_read() {
        let mut errors = Errors::new();
        let text = quote! {
            semantics = "maybe", timeout = "1m30s", max_reply = "64KiB", spawn, oneway,
            crate = crate::far
        };
        let args = Args::read(text, Place::Trait, &mut errors);
        assert_eq!(errors.messages(), [""; 0]);
        assert_eq!(args.semantics.map(|(semantics, _)| semantics), Some(Semantics::Maybe));
        assert_eq!(args.timeout, Some(Duration::from_secs(90)));
        assert_eq!(args.max_reply, Some(65_536));
        assert!(args.spawn.is_some() && args.oneway.is_some());
        assert_eq!(crate::text::compact(args.root), "crate::far");
    }

    #[test]
    fn timeouts_go_from_large_units_to_small_ones() {
        for (text, milliseconds) in [
            ("2s", 2_000),
            ("150ms", 150),
            ("1m", 60_000),
            ("1h2m3s4ms", 3_723_004),
            ("90s", 90_000),
        ] {
            assert_eq!(parse_timeout(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "2",
            "s",
            "0s",
            "2 s",
            "2s1m",
            "1s1s",
            "1.5s",
            "-1s",
            "2d",
            "99999999999999999999h",
        ] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_units_or_none() {
        for (text, bytes) in
            [("1MiB", 1 << 20), ("64KiB", 1 << 16), ("512B", 512), ("7", 7), ("3GiB", 3 << 30)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "0", "0MiB", "1MB", "MiB", "4GiB", "1 MiB", "-1", "1.5KiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn an_unknown_semantics_names_the_four() {
        assert_eq!(
            messages(quote!(semantics = "at_most_twice"), Place::Method),
            ["unknown semantics `at_most_twice`; \
              expected `maybe`, `at_least_once`, `at_most_once` or `exactly_once`"]
        );
    }

    #[cfg(feature = "exactly_once")]
    #[test]
    fn exactly_once_is_a_semantics_with_the_feature() {
        let mut errors = Errors::new();
        let args = Args::read(quote!(semantics = "exactly_once"), Place::Method, &mut errors);
        assert_eq!(errors.messages(), [""; 0]);
        assert_eq!(args.semantics.map(|(semantics, _)| semantics), Some(Semantics::ExactlyOnce));
    }

    #[cfg(not(feature = "exactly_once"))]
    #[test]
    fn exactly_once_without_the_feature_names_it() {
        let mut errors = Errors::new();
        let args = Args::read(quote!(semantics = "exactly_once"), Place::Method, &mut errors);
        assert!(args.semantics.is_none());
        assert_eq!(errors.messages(), [errors::EXACTLY_ONCE]);
        assert!(errors::EXACTLY_ONCE.contains(r#"features = ["sqlite"]"#));
    }

    #[test]
    fn all_wrong_options_are_reported_together() {
        let text = quote!(
            semantics = "never",
            timeout = "2",
            spawn = true,
            colour,
            max_reply = 0,
            oneway,
            oneway
        );
        assert_eq!(
            messages(text, Place::Trait),
            [
                "unknown semantics `never`; \
                 expected `maybe`, `at_least_once`, `at_most_once` or `exactly_once`",
                errors::BAD_TIMEOUT,
                "`spawn` takes no value; write `spawn` alone",
                &format!("unknown option `colour`; {}", errors::UNKNOWN_OPTION),
                errors::BAD_MAX_REPLY,
                "`oneway` is written twice; keep one",
            ]
        );
    }

    #[test]
    fn an_impl_takes_only_the_crate() {
        assert_eq!(messages(quote!(crate = far, spawn), Place::Impl), [errors::OPTION_ON_IMPL]);
        assert_eq!(messages(quote!(crate = far), Place::Method), [errors::CRATE_ON_METHOD]);
        assert_eq!(messages(quote!(crate = "far"), Place::Trait), [errors::BAD_CRATE]);
    }
}
