//! Documentation of what is generated: the user's own text first, then what the macro knows about the method.

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
/// Nothing if there is no such text: whether the trait is documented is for the user's own lints to say.
pub(super) fn of_trait_method(interface: &Interface, method: &Method) -> TokenStream {
    if doc_lines(&method.attributes).is_empty() {
        return TokenStream::new();
    }
    let result = match method.signature.form {
        Form::Whole => String::new(),
        Form::Plain | Form::Own => {
            let (link, written) = (call_error(interface), text::spaced(&method.signature.value));
            let (written, error) = match &method.signature.error {
                Some(error) => (
                    format!("Result<{written}, {0}>", text::spaced(error)),
                    format!("<{}>", text::spaced(error)),
                ),
                None => (written, String::new()),
            };
            let value = text::spaced(&method.signature.value);
            format!(
                "Written `-> {written}`: a call may fail on its way, so it returns \
                `Result<{value}, CallError{error}>`; see {link}."
            )
        }
    };
    lines(&["", &promise(interface, method), "", &result])
}

/// The proxy's documentation, which links to the trait.
pub(super) fn of_proxy(interface: &Interface) -> TokenStream {
    let name = text::plain_name(&interface.ident);
    let root = text::compact(interface.root());
    lines(&[
        &format!("Proxy for remote objects that implement [`{name}`]."),
        "",
        &format!(
            "Its methods have the trait's names and return a [`Call`]({root}::Call), which is a future and more."
        ),
        &format!(
            "It implements [`{name}`] too, so it stands wherever a local object can. Clones share a connection."
        ),
    ])
}

/// The documentation of a proxy's method: the user's, the semantics in one sentence, the deadline, the errors.
pub(super) fn of_proxy_method(interface: &Interface, method: &Method) -> TokenStream {
    let written = doc_lines(&method.attributes);
    let user = quote!(#(#[doc = #written])*);
    let gap = if written.is_empty() { None } else { Some(lines(&[""])) };
    let heading = if has_errors_section(&method.attributes) { "" } else { "# Errors" };
    let generated = lines(&[&promise(interface, method), "", heading, &errors(interface, method)]);
    quote!(#user #gap #generated)
}

fn promise(interface: &Interface, method: &Method) -> String {
    let promise = interface.promise(method);
    let semantics = match promise {
        Promise { oneway: true, .. } => {
            "*One way*: the request is sent once and no reply comes back; the method runs once or never."
        }
        Promise { semantics: Semantics::Maybe, .. } => {
            "*Maybe*: the request is sent once; the method runs once or never."
        }
        Promise { semantics: Semantics::AtLeastOnce, .. } => {
            "*At least once*: the request is sent again until an answer comes; the method may run more than once."
        }
        Promise { semantics: Semantics::AtMostOnce, .. } => {
            "*At most once*: however often the request is sent again, the method runs once or never."
        }
    };
    let deadline = match promise.timeout {
        Some(timeout) => {
            format!("A call waits at most {timeout:?}, unless it sets a time of its own.")
        }
        None => String::from("The interface sets no deadline; a call can set one."),
    };
    if promise.oneway { String::from(semantics) } else { format!("{semantics} {deadline}") }
}

fn errors(interface: &Interface, method: &Method) -> String {
    let link = call_error(interface);
    let root = text::compact(interface.root());
    let execution = format!("[`execution`]({root}::CallError::execution)");
    match &method.signature.error {
        Some(error) => {
            let error = text::spaced(error);
            format!(
                "[`CallError::Method`]({root}::CallError::Method) with the method's own `{error}`. \
                Any other {link} says by {execution} whether the method ran."
            )
        }
        None => format!(
            "The method has no error of its own. A {link} says by {execution} whether the method ran."
        ),
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
