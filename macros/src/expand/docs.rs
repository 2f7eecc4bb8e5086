//! Documentation of what is generated: the user's own text first, then what the macro knows about
//! the method.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Expr, ExprLit, Lit};

use crate::args::Semantics;
use crate::model::{Interface, Method, Promise, doc_lines};
use crate::signature::Form;
use crate::text;

/// The user's documentation as one text, without the space that `///` leaves before each line.
pub(super) fn as_written(attributes: &[Attribute]) -> TokenStream {
    let lines = doc_lines(attributes);
    let texts: Option<Vec<String>> = lines.iter().map(|line| literal(line)).collect();
    if let Some(texts) = texts {
        let lines: Vec<&str> =
            texts.iter().map(|text| text.strip_prefix(' ').unwrap_or(text)).collect();
        let text = lines.join("\n");
        return quote!(#text);
    }
    quote!(::core::concat!(#(#lines, "\n"),*))
}

/// The paragraphs that follow the user's text at the trait's method.
///
/// Nothing if there is no such text: whether the trait is documented is for the user's own lints to
/// say.
pub(super) fn of_trait_method(interface: &Interface, method: &Method) -> TokenStream {
    if doc_lines(&method.attributes).is_empty() {
        return TokenStream::new();
    }
    let value = text::spaced(&method.signature.value);
    let (written, becomes) = match &method.signature.error {
        Some(error) => {
            let error = text::spaced(error);
            (format!("Result<{value}, {error}>"), format!("Result<{value}, CallError<{error}>>"))
        }
        None => (value.clone(), format!("Result<{value}, CallError>")),
    };
    let link = call_error(interface);
    let result = match method.signature.form {
        Form::Whole => format!("See {link}."),
        Form::Plain | Form::Own => {
            format!(
                "Written `-> {written}`: as a call may fail, it returns `{becomes}`; see {link}."
            )
        }
    };
    let (semantics, deadline) = promise(interface, method);
    lines(&["", semantics, &deadline, "", &result])
}

/// The proxy's documentation, which links to the trait.
pub(super) fn of_proxy(interface: &Interface) -> TokenStream {
    let name = text::plain_name(&interface.ident);
    let root = text::compact(interface.root());
    lines(&[
        &format!("Proxy for remote objects that implement [`{name}`]."),
        "",
        "Its methods have the trait's names and return a call, which is a future and more: see",
        &format!("[`Call`]({root}::Call). It implements [`{name}`] too, so it stands wherever a"),
        "local object can. Clones share a connection.",
    ])
}

/// The documentation of a proxy's method: the user's, the semantics in one sentence, the deadline,
/// the errors.
pub(super) fn of_proxy_method(interface: &Interface, method: &Method) -> TokenStream {
    let written = doc_lines(&method.attributes);
    let user = quote!(#(#[doc = #written])*);
    let gap = if written.is_empty() { None } else { Some(lines(&[""])) };
    let heading = if has_errors_section(&method.attributes) { "" } else { "# Errors" };
    let (semantics, deadline) = promise(interface, method);
    let (method, call) = errors(interface, method);
    let generated = lines(&[semantics, &deadline, "", heading, &method, &call]);
    quote!(#user #gap #generated)
}

/// The group's documentation, which links to proxy and trait.
pub(super) fn of_group(interface: &Interface) -> TokenStream {
    let name = text::plain_name(&interface.ident);
    let root = text::compact(interface.root());
    lines(&[
        &format!("Group of remote objects that implement [`{name}`], called together."),
        "",
        &format!("Its methods are those of [`{name}Proxy`], and return a call to all members: see"),
        &format!("[`GroupCall`]({root}::GroupCall) and [`Group`]({root}::Group)."),
    ])
}

/// The documentation of a group's method: the user's, and where it is called.
pub(super) fn of_group_method(interface: &Interface, method: &Method) -> TokenStream {
    let written = doc_lines(&method.attributes);
    let user = quote!(#(#[doc = #written])*);
    let gap = if written.is_empty() { None } else { Some(lines(&[""])) };
    let name = text::plain_name(&interface.ident);
    let generated = lines(&[&format!("Called at each member, as that of [`{name}Proxy`] at one.")]);
    quote!(#user #gap #generated)
}

/// What holds for a call under failure, and how long it waits: a sentence each.
fn promise(interface: &Interface, method: &Method) -> (&'static str, String) {
    let promise = interface.promise(method);
    let semantics = match promise {
        Promise { oneway: true, .. } => {
            "*One way*: the request is sent once, without a reply; the method runs once or never."
        }
        Promise { semantics: Semantics::Maybe, .. } => {
            "*Maybe*: the request is sent once; the method runs once or never."
        }
        Promise { semantics: Semantics::AtLeastOnce, .. } => {
            "*At least once*: sent again until an answer comes; the method may run more than once."
        }
        Promise { semantics: Semantics::AtMostOnce, .. } => {
            "*At most once*: however often it is sent again, the method runs once or never."
        }
        Promise { semantics: Semantics::ExactlyOnce, .. } => {
            "*Exactly once*: saved before it is sent; what the method writes in its transaction \
             takes effect once, whatever crashes."
        }
    };
    (semantics, deadline(interface, promise))
}

fn deadline(interface: &Interface, promise: Promise) -> String {
    if promise.oneway {
        return String::from("A call waits for nothing but room in the send buffer.");
    }
    let time = match promise.timeout {
        Some(timeout) => format!("at most {timeout:?}"),
        None => String::from("as long as its node says"),
    };
    let then = if promise.semantics == Semantics::ExactlyOnce {
        let root = text::compact(interface.root());
        format!("; after that it goes on: see [`CallError::Deferred`]({root}::CallError::Deferred)")
    } else {
        String::new()
    };
    format!("A call waits {time}, unless it sets a time of its own{then}.")
}

/// The method's own error, and what the others say: a sentence each.
fn errors(interface: &Interface, method: &Method) -> (String, String) {
    let (link, root) = (call_error(interface), text::compact(interface.root()));
    let execution =
        format!("says by [`execution`]({root}::CallError::execution) whether the method ran.");
    match &method.signature.error {
        Some(error) => {
            let error = text::spaced(error);
            let variant = format!("[`CallError::Method`]({root}::CallError::Method)");
            (
                format!("{variant} with the method's own `{error}`."),
                format!("Any other {link} {execution}"),
            )
        }
        None => {
            (String::from("The method has no error of its own."), format!("A {link} {execution}"))
        }
    }
}

fn call_error(interface: &Interface) -> String {
    format!("[`CallError`]({}::CallError)", text::compact(interface.root()))
}

fn has_errors_section(attributes: &[Attribute]) -> bool {
    let texts = doc_lines(attributes).into_iter().filter_map(literal);
    texts.into_iter().any(|text| text.lines().any(|line| line.trim() == "# Errors"))
}

fn literal(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

fn lines(lines: &[&str]) -> TokenStream {
    let lines =
        lines.iter().map(|line| if line.is_empty() { String::new() } else { format!(" {line}") });
    quote!(#(#[doc = #lines])*)
}

#[cfg(all(test, feature = "exactly_once"))]
mod tests {
    use super::*;

    #[test]
    fn an_exactly_once_method_says_what_is_promised_and_that_a_timeout_does_not_end_it() {
        let expansion = crate::expand::remote(
            quote!(semantics = "exactly_once", timeout = "2s", crate = far),
            quote! {
                trait Ledger {
                    /// Moves money.
                    async fn transfer(&self, cents: i64);
                    #[remote(semantics = "maybe")]
                    /// Looks.
                    async fn balance(&self) -> i64;
                }
            },
        );
        let expansion = expansion.to_string();
        let count = |text: &str| expansion.matches(text).count();
        // At the trait's method and at the proxy's.
        assert_eq!(count("*Exactly once*: saved before it is sent"), 2);
        assert_eq!(
            count("A call waits at most 2s, unless it sets a time of its own; after that"),
            2
        );
        assert_eq!(count("it goes on: see [`CallError::Deferred`](far::CallError::Deferred)."), 2);
        assert_eq!(count("A call waits at most 2s, unless it sets a time of its own."), 2);
        assert_eq!(count("semantics : far :: Semantics :: ExactlyOnce"), 1);
    }
}
