//! Types and signatures as text: compact for ids and links, spaced for people.
//!
//! Works on tokens alone, so the text does not depend on how the user broke lines or set spaces.
//! What a method's id is made of stands at [`method_id`].

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit_mut::{self, VisitMut};
use syn::{GenericArgument, Path, PathArguments, Type};

/// The id of a method, the same on every build and for every spelling of the same signature.
///
/// It is the 32-bit FNV-1a hash (offset basis `0x811c9dc5`, prime `0x01000193`) of the UTF-8 text
/// `name(argument,argument)->Result<T,E>`, where
/// - `name` is the method's name without `r#`, and the arguments are their types, without `self`;
/// - the result is read through the one rule: `-> T` counts as `Result<T,Infallible>`, no arrow as
///   `T` = `()`, and `Result<T,CallError<E>>` as `Result<T,E>`;
/// - of a path only its last segment counts, with its generic arguments: `std::string::String` is
///   `String`;
/// - lifetimes, attributes, trailing commas, `r#`, and parentheses around a single type are left
///   out, and so are angle brackets that are empty then: `Order<'_>` is `Order`;
/// - there are no spaces, except one between two words that would run together: `&dyn Shape`;
/// - a `oneway` method has no reply, and so no `->` and nothing after it: a caller that waits for one
///   and a server that sends none do not find each other.
///
/// `async fn deposit(&self, cents: u64) -> Result<u64, Frozen>` is hashed as
/// `deposit(u64)->Result<u64,Frozen>`.
pub(crate) fn method_id(
    name: &str,
    arguments: &[&Type],
    result: Option<(&Type, Option<&Type>)>,
) -> u32 {
    let arguments: Vec<String> = arguments.iter().map(|argument| canonical(argument)).collect();
    let mut text = format!("{name}({})", arguments.join(","));
    if let Some((value, error)) = result {
        let error = error.map_or_else(|| String::from("Infallible"), canonical);
        text.push_str(&format!("->Result<{},{error}>", canonical(value)));
    }
    fnv1a(text.as_bytes())
}

/// Tokens without any space but the needed: `&'a str`, `Vec<Order>`.
pub(crate) fn compact(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    write(tokens.to_token_stream(), Style::Compact, &mut text);
    text
}

/// Tokens as a person would write them: `Result<Vec<u8>, Frozen>`.
pub(crate) fn spaced(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    write(tokens.to_token_stream(), Style::Spaced, &mut text);
    text
}

/// An identifier without `r#`.
pub(crate) fn plain_name(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map(ToOwned::to_owned).unwrap_or(name)
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn canonical(ty: &Type) -> String {
    let mut ty = ty.clone();
    Canonical.visit_type_mut(&mut ty);
    compact(ty)
}

/// Leaves out what does not belong to the identity of a type; see [`method_id`].
struct Canonical;

impl VisitMut for Canonical {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        while let Type::Paren(syn::TypeParen { elem, .. })
        | Type::Group(syn::TypeGroup { elem, .. }) = ty
        {
            *ty = (**elem).clone();
        }
        if let Type::Reference(reference) = ty {
            reference.lifetime = None;
        }
        visit_mut::visit_type_mut(self, ty);
    }

    fn visit_path_mut(&mut self, path: &mut Path) {
        path.leading_colon = None;
        if let Some(last) = path.segments.pop() {
            path.segments = [last].into_iter().collect();
        }
        visit_mut::visit_path_mut(self, path);
    }

    fn visit_path_arguments_mut(&mut self, arguments: &mut PathArguments) {
        if let PathArguments::AngleBracketed(generic) = arguments {
            generic.colon2_token = None;
            let kept = std::mem::take(&mut generic.args).into_iter();
            generic.args =
                kept.filter(|argument| !matches!(argument, GenericArgument::Lifetime(_))).collect();
            if generic.args.is_empty() {
                *arguments = PathArguments::None;
            }
        }
        visit_mut::visit_path_arguments_mut(self, arguments);
    }

    fn visit_ident_mut(&mut self, ident: &mut Ident) {
        if ident.to_string().starts_with("r#") {
            let name = plain_name(ident);
            // A keyword cannot be an `Ident` of its own everywhere, but as text of a hash it can.
            *ident = Ident::new(&name, ident.span());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Compact,
    Spaced,
}

fn write(tokens: TokenStream, style: Style, text: &mut String) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                separate_from_keyword(text);
                text.push_str(open);
                write(group.stream(), style, text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => {
                let closing = match tokens.peek() {
                    None => true,
                    Some(TokenTree::Punct(next)) => next.as_char() == '>',
                    Some(_) => false,
                };
                if matches!(punct.as_char(), '&' | '*') {
                    separate_from_keyword(text);
                }
                write_punct(punct.as_char(), closing, style, text);
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => {
                if text.ends_with(|last: char| last.is_alphanumeric() || "_\"".contains(last)) {
                    text.push(' ');
                }
                text.push_str(&token.to_string());
            }
        }
    }
}

fn write_punct(punct: char, closing: bool, style: Style, text: &mut String) {
    match (style, punct) {
        (Style::Compact, ',') if closing => {}
        (Style::Compact, _) => text.push(punct),
        (Style::Spaced, ',' | ';') if !closing => text.extend([punct, ' ']),
        (Style::Spaced, '+' | '=') => text.extend([' ', punct, ' ']),
        (Style::Spaced, '-') if closing => text.push_str(" -"),
        (Style::Spaced, '>') if text.ends_with(" -") => text.push_str("> "),
        (Style::Spaced, _) => text.push(punct),
    }
}

/// Adds a space if the text ends in a lifetime or a keyword that a type follows.
fn separate_from_keyword(text: &mut String) {
    let word = text.trim_end_matches(|letter: char| letter.is_alphanumeric() || letter == '_');
    if word.ends_with('\'')
        || matches!(&text[word.len()..], "mut" | "const" | "dyn" | "impl" | "as")
    {
        text.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn id_is_fnv1a_of_the_text_that_the_docs_state() {
        let id = method_id(
            "deposit",
            &[&parse_quote!(u64)],
            Some((&parse_quote!(u64), Some(&parse_quote!(Frozen)))),
        );
        assert_eq!(id, fnv1a(b"deposit(u64)->Result<u64,Frozen>"));
        assert_eq!(method_id("ring", &[&parse_quote!(u8)], None), fnv1a(b"ring(u8)"));
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968); // from the test vectors of the hash's authors
    }

    #[test]
    fn spelling_does_not_matter_to_an_id() {
        let spellings: [(Type, Type); 9] = [
            (parse_quote!(&'a str), parse_quote!(&str)),
            (parse_quote!(std::string::String), parse_quote!(String)),
            (parse_quote!(::std::vec::Vec<u8,>), parse_quote!(Vec<u8>)),
            (parse_quote!(Cow<'_, str>), parse_quote!(std::borrow::Cow<str>)),
            (parse_quote!(Order<'_>), parse_quote!(Order)),
            (parse_quote!((u64)), parse_quote!(u64)),
            (parse_quote!((u8, &'static str,)), parse_quote!((u8, &str))),
            (parse_quote!([u8; limits::SIZE]), parse_quote!([u8; SIZE])),
            (parse_quote!(r#move), parse_quote!(Vec::<r#move>)),
        ];
        for (one, other) in &spellings[..8] {
            assert_eq!(canonical(one), canonical(other));
        }
        assert_eq!(canonical(&spellings[8].0), "move");
        assert_eq!(canonical(&spellings[8].1), "Vec<move>");
    }

    #[test]
    fn different_types_have_different_texts() {
        let types: [Type; 8] = [
            parse_quote!(u8),
            parse_quote!(&u8),
            parse_quote!((u8,)),
            parse_quote!([u8]),
            parse_quote!(Vec<u8>),
            parse_quote!(Option<Vec<u8>>),
            parse_quote!(Vec<Option<u8>>),
            parse_quote!(&dyn Shape),
        ];
        for (position, one) in types.iter().enumerate() {
            for other in &types[..position] {
                assert_ne!(canonical(one), canonical(other));
            }
        }
        assert_eq!(canonical(&types[7]), "&dyn Shape");
    }

    #[test]
    fn a_type_reads_as_a_person_writes_it() {
        for text in [
            "Result<Vec<u8>, Frozen>",
            "&'a [u8]",
            "(u64, &mut [Order<'_>; 3])",
            "std::borrow::Cow<'_, str>",
            "Box<dyn Fn(u8) -> u8 + Send>",
            "(u8,)",
            "*const u8",
        ] {
            let ty: Type = syn::parse_str(text).expect("the text is a type");
            assert_eq!(spaced(ty), text);
        }
    }
}
