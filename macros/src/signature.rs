//! One method's signature, read the same way in a trait and in an impl: the arguments, and the
//! result by the one rule.
//!
//! What cannot be called remotely is reported here. Where the intention is plain, the mistake is
//! repaired, so that the rest of the expansion stands and nothing else fails because of it;
//! otherwise the method is left out.

use proc_macro2::{Ident, Span};
use quote::format_ident;
use syn::spanned::Spanned;
use syn::{
    FnArg, GenericParam, Pat, PatType, Receiver, ReceiverKind, ReturnType, Safety, Token, Type,
    parse_quote,
};

use crate::errors::{self, Errors};
use crate::text;

mod types;

use types::{Position, check_type, set_error};
pub(crate) use types::{last_segment, peel, type_arguments};

/// A method's signature after the one rule.
pub(crate) struct Signature {
    /// The method's name, as the user's token.
    pub(crate) ident: Ident,
    pub(crate) arguments: Vec<Argument>,
    /// `T` of `Result<T, CallError<E>>`.
    pub(crate) value: Type,
    /// `E`, unless the method has no error of its own.
    pub(crate) error: Option<Type>,
    pub(crate) form: Form,
    /// The user's tokens with the mistakes repaired and the result as written, for their places.
    head: syn::Signature,
    /// As the user wrote it, on one line.
    pub(crate) text: String,
    /// Whether a mistake was repaired, so that the user's body may no longer fit.
    pub(crate) repaired: bool,
}

/// One argument, without `self`.
pub(crate) struct Argument {
    /// Its name; in an impl that takes it apart, the name to use before.
    pub(crate) name: Ident,
    /// As written in an impl: a name, `mut name` or a pattern.
    pub(crate) pattern: Pat,
    /// What silences lints at it, in an impl.
    pub(crate) attributes: Vec<syn::Attribute>,
    pub(crate) ty: Type,
}

/// The user's tokens that generated code stands for: the arguments, `T` and `E`.
pub(crate) struct Places {
    pub(crate) arguments: Span,
    pub(crate) value: Span,
    pub(crate) error: Span,
}

/// Which row of the one rule applies to the written result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// `-> T`, or no arrow.
    Plain,
    /// `-> Result<T, E>`.
    Own,
    /// `-> Result<T, CallError<E>>`.
    Whole,
}

/// Whose signature is read: an impl may take its arguments apart, and so may a default body, by
/// `mut` only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Trait { has_body: bool },
    Impl,
}

impl Signature {
    /// Reads a signature; `None` if it was reported and nothing useful is left of it.
    pub(crate) fn read(
        written: &syn::Signature,
        side: Side,
        errors: &mut Errors,
    ) -> Option<Signature> {
        let before = errors.count();
        let text = text_of(written);
        check_qualifiers(written, errors);
        check_receiver(written, errors);
        let generic = check_generics(written, errors);
        let (mut arguments, mut lost) = (Vec::new(), generic == Generics::Types);
        for (position, argument) in written.inputs.iter().enumerate() {
            if let FnArg::Typed(argument) = argument {
                match Argument::read(argument, position, side, generic, errors) {
                    Some(argument) => arguments.push(argument),
                    None => lost = true,
                }
            }
        }
        let mut typed = written.inputs.iter().filter(|input| matches!(input, FnArg::Typed(_)));
        if let Some(argument) = typed.nth(MAX_ARGUMENTS) {
            errors.spanned(argument, errors::TOO_MANY_ARGUMENTS);
            lost = true;
        }
        let (value, error, form) =
            read_result(&written.output, written.ident.span(), generic, errors)?;
        let repaired = errors.count() > before;
        let (ident, head) = (written.ident.clone(), head_of(written));
        (!lost).then_some(Signature { ident, arguments, value, error, form, head, text, repaired })
    }

    /// The signature with these arguments and this result, in the user's own tokens where there are
    /// such: lints and errors point there, and `self` is the `self` of the user's body even inside
    /// a macro of his.
    pub(crate) fn with(
        &self,
        arguments: impl Iterator<Item = FnArg>,
        result: Type,
    ) -> syn::Signature {
        let mut signature = self.head.clone();
        signature.inputs.extend(arguments);
        // The user's path of `Result` stays, and so does the longer form: an import which only they
        // need is used.
        let stays = match (&mut signature.output, self.form) {
            (_, Form::Whole) => true,
            (ReturnType::Type(_, written), Form::Own) => set_error(written, &result),
            _ => false,
        };
        if !stays || self.repaired {
            signature.output = ReturnType::Type(Token![->](self.places().value), Box::new(result));
        }
        signature
    }

    /// The method's name without `r#`.
    pub(crate) fn name(&self) -> String {
        text::plain_name(&self.ident)
    }

    /// The method's id; see [`text::method_id`].
    pub(crate) fn id(&self, oneway: bool) -> u32 {
        let types: Vec<&Type> = self.arguments.iter().map(|argument| &argument.ty).collect();
        let result = (!oneway).then_some((&self.value, self.error.as_ref()));
        text::method_id(&self.name(), &types, result)
    }

    /// Where generated code that needs something of a type has its place: the compiler then blames
    /// the user's text.
    pub(crate) fn places(&self) -> Places {
        let arguments = match self.arguments.as_slice() {
            [argument] => argument.ty.span(),
            _ => self.head.paren_token.span.join(),
        };
        let value = if self.is_unit() { self.ident.span() } else { self.value.span() };
        let error = self.error.as_ref().map_or(value, Spanned::span);
        let hide = |span: Span| span.resolved_at(Span::mixed_site());
        Places { arguments: hide(arguments), value: hide(value), error: hide(error) }
    }

    /// Whether the method returns nothing at all, not even an error of its own.
    pub(crate) fn returns_nothing(&self) -> bool {
        self.error.is_none() && self.is_unit()
    }

    fn is_unit(&self) -> bool {
        matches!(&self.value, Type::Tuple(tuple) if tuple.elems.is_empty())
    }
}

impl Argument {
    fn read(
        written: &PatType,
        position: usize,
        side: Side,
        generic: Generics,
        errors: &mut Errors,
    ) -> Option<Argument> {
        let name = match &*written.pat {
            Pat::Ident(plain) if plain.by_ref.is_none() && plain.subpat.is_none() => Some(plain),
            _ => None,
        };
        let allowed = match side {
            Side::Impl => true,
            Side::Trait { has_body } => {
                name.is_some_and(|name| has_body || name.mutability.is_none())
            }
        };
        if !allowed {
            errors.spanned(&written.pat, errors::PATTERN);
        }
        let (attributes, wrong): (Vec<_>, Vec<_>) = written
            .attrs
            .iter()
            .cloned()
            .partition(|attribute| side == Side::Impl && is_lint(attribute));
        if let Some(attribute) = wrong.first() {
            errors.spanned(attribute, errors::ARGUMENT_ATTRIBUTE);
        }
        let ty = check_type(&written.ty, Position::Argument, generic, errors)?;
        let name =
            name.map_or_else(|| format_ident!("argument_{position}"), |name| name.ident.clone());
        Some(Argument { name, pattern: (*written.pat).clone(), attributes, ty })
    }
}

/// serde has tuples of up to 16 elements, and the arguments are one.
const MAX_ARGUMENTS: usize = 16;

fn is_lint(attribute: &syn::Attribute) -> bool {
    ["allow", "expect", "warn"].iter().any(|name| attribute.path().is_ident(name))
}

fn text_of(written: &syn::Signature) -> String {
    let inputs: Vec<String> = written
        .inputs
        .iter()
        .map(|input| match input {
            FnArg::Receiver(receiver) => text::spaced(receiver),
            FnArg::Typed(PatType { pat, ty, .. }) => {
                format!("{}: {}", text::spaced(pat), text::spaced(ty))
            }
        })
        .collect();
    let output = match &written.output {
        ReturnType::Default => String::new(),
        ReturnType::Type(_, ty) => format!(" -> {}", text::spaced(ty)),
    };
    format!("async fn {}({}){output}", written.ident, inputs.join(", "))
}

fn check_qualifiers(written: &syn::Signature, errors: &mut Errors) {
    if written.asyncness.is_none() {
        errors.spanned(written.fn_token, errors::NOT_ASYNC);
    }
    if let Some(token) = &written.constness {
        errors.spanned(token, errors::QUALIFIER);
    }
    if !matches!(written.safety, Safety::Default) {
        errors.spanned(&written.safety, errors::QUALIFIER);
    }
    if let Some(abi) = &written.abi {
        errors.spanned(abi, errors::QUALIFIER);
    }
    if let Some(variadic) = &written.variadic {
        errors.spanned(variadic, errors::GENERIC_METHOD);
    }
}

fn check_receiver(written: &syn::Signature, errors: &mut Errors) {
    let Some(receiver) = written.receiver() else {
        return errors.spanned(&written.ident, errors::NO_SELF);
    };
    match &receiver.kind {
        ReceiverKind::Reference(_, _, None) => {}
        ReceiverKind::Reference(_, _, Some(_)) => errors.spanned(receiver, errors::MUTABLE_SELF),
        ReceiverKind::Typed(_, ty) if is_mutable(ty) => {
            errors.spanned(receiver, errors::MUTABLE_SELF);
        }
        _ => errors.spanned(receiver, errors::OWNED_SELF),
    }
}

fn is_mutable(ty: &Type) -> bool {
    matches!(ty, Type::Reference(reference) if reference.mutability.is_some())
}

/// The tokens before the arguments, and a receiver as it has to be.
fn head_of(written: &syn::Signature) -> syn::Signature {
    let mut receiver: Receiver = parse_quote!(&self);
    if let Some(written) = written.receiver() {
        receiver.self_token = written.self_token;
    }
    let mut head = written.clone();
    head.asyncness.get_or_insert_default();
    (head.constness, head.safety, head.abi, head.variadic) = (None, Safety::Default, None, None);
    head.generics = syn::Generics::default();
    head.inputs = [FnArg::Receiver(receiver)].into_iter().collect();
    head
}

/// What a method's generics leave possible.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Generics {
    None,
    /// Named lifetimes, reported once, where they are declared; uses of them are elided.
    Lifetimes,
    /// Types or constants: nothing is left of the method.
    Types,
}

fn check_generics(written: &syn::Signature, errors: &mut Errors) -> Generics {
    let generics = &written.generics;
    let is_lifetime = |param: &GenericParam| matches!(param, GenericParam::Lifetime(_));
    if let Some(param) = generics.params.iter().find(|param| !is_lifetime(param)) {
        errors.spanned(param, errors::GENERIC_METHOD);
        return Generics::Types;
    }
    if !generics.params.is_empty() {
        errors.spanned(&generics.params, errors::NAMED_LIFETIME);
    } else if let Some(clause) = &generics.where_clause {
        errors.spanned(clause, errors::WHERE_CLAUSE);
    }
    let receiver = written.receiver().map(|receiver| &receiver.kind);
    if let (true, Some(ReceiverKind::Reference(_, Some(lifetime), _))) =
        (generics.params.is_empty(), receiver)
        && lifetime.ident != "_"
    {
        errors.spanned(lifetime, errors::NAMED_LIFETIME);
    }
    if generics.params.is_empty() { Generics::None } else { Generics::Lifetimes }
}

/// The one rule: `T`, `E` and which row it was.
fn read_result(
    written: &ReturnType,
    span: Span,
    generic: Generics,
    errors: &mut Errors,
) -> Option<(Type, Option<Type>, Form)> {
    let ReturnType::Type(_, written) = written else {
        return Some((unit(span), None, Form::Plain));
    };
    let ty = check_type(written, Position::Result, generic, errors)?;
    let Some(result) = last_segment(&ty).filter(|segment| segment.ident == "Result") else {
        return Some((ty, None, Form::Plain));
    };
    match type_arguments(result).as_slice() {
        [] | [_] => {
            errors.spanned(written, errors::RESULT_ALIAS);
            None
        }
        [value, error] => {
            let value = (*value).clone();
            let Some(whole) = last_segment(error).filter(|segment| segment.ident == "CallError")
            else {
                return Some((value, Some((*error).clone()), Form::Own));
            };
            Some((value, type_arguments(whole).first().map(|error| (*error).clone()), Form::Whole))
        }
        // Some other type of that name: a result has two.
        _ => Some((ty, None, Form::Plain)),
    }
}

fn unit(span: Span) -> Type {
    Type::Tuple(syn::TypeTuple {
        attrs: Vec::new(),
        paren_token: syn::token::Paren(span),
        elems: syn::punctuated::Punctuated::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &syn::Signature, side: Side) -> (Option<Signature>, Vec<String>) {
        let mut errors = Errors::new();
        let signature = Signature::read(written, side, &mut errors);
        (signature, errors.messages())
    }

    const TRAIT: Side = Side::Trait { has_body: false };

    #[test]
    fn a_result_is_read_through_the_one_rule() {
        let rows: [(syn::Signature, &str, &str, Form); 8] = [
            (parse_quote!(async fn f(&self)), "()", "-", Form::Plain),
            (parse_quote!(async fn f(&self) -> u64), "u64", "-", Form::Plain),
            (parse_quote!(async fn f(&self) -> Result<u64, E>), "u64", "E", Form::Own),
            (parse_quote!(async fn f(&self) -> std::result::Result<(), E>), "()", "E", Form::Own),
            (parse_quote!(async fn f(&self) -> Result<u64, CallError<E>>), "u64", "E", Form::Whole),
            (parse_quote!(async fn f(&self) -> Result<u64, CallError>), "u64", "-", Form::Whole),
            (
                parse_quote!(async fn f(&self) -> Option<Result<u8, E>>),
                "Option<Result<u8,E>>",
                "-",
                Form::Plain,
            ),
            (parse_quote!(async fn f(&self) -> (Result<u64, E>)), "u64", "E", Form::Own),
        ];
        for (written, value, error, form) in rows {
            let (signature, messages) = read(&written, TRAIT);
            let signature = signature.expect("nothing is wrong with it");
            assert_eq!(messages, [""; 0]);
            assert_eq!(text::compact(&signature.value), value);
            assert_eq!(signature.error.map_or(String::from("-"), text::compact), error);
            assert_eq!(signature.form, form);
        }
    }

    #[test]
    fn both_forms_of_a_result_have_one_id() {
        let ids = [
            parse_quote!(async fn deposit(&self, cents: u64) -> Result<u64, Frozen>),
            parse_quote!(async fn deposit(&self, b: u64) -> Result<u64, far::CallError<Frozen>>),
            parse_quote!(async fn r#deposit(&self, c: u64,) -> core::result::Result<u64, a::Frozen>),
        ];
        let ids = ids.map(|written| read(&written, TRAIT).0.map(|signature| signature.id(false)));
        assert_eq!(ids, [ids[0]; 3]);
        assert_eq!(ids[0], Some(0x25b9_b73c));
    }

    #[test]
    fn a_signature_is_told_as_it_was_written() {
        let (signature, _) = read(
            &parse_quote!(async fn r#move(&self,name:&str,all:Vec<(u8,Order<'_>)>)->Result<u64,E>),
            TRAIT,
        );
        let text =
            "async fn r#move(&self, name: &str, all: Vec<(u8, Order<'_>)>) -> Result<u64, E>";
        assert_eq!(signature.map(|signature| signature.text).as_deref(), Some(text));
    }

    #[test]
    fn plain_mistakes_are_repaired_so_that_the_method_lives_on() {
        let (signature, messages) = read(
            &parse_quote!(fn f<'a>(&mut self, (a, b): (u8, u8), c: &'a mut u8, d: &'static str)),
            TRAIT,
        );
        let signature = signature.expect("it can be repaired");
        let types: Vec<String> =
            signature.arguments.iter().map(|argument| text::compact(&argument.ty)).collect();
        assert_eq!(types, ["(u8,u8)", "&'_ u8", "&str"]);
        assert!(signature.repaired);
        assert_eq!(
            messages,
            [
                errors::NOT_ASYNC,
                errors::MUTABLE_SELF,
                errors::NAMED_LIFETIME,
                errors::PATTERN,
                errors::MUTABLE_ARGUMENT,
                errors::STATIC_ARGUMENT,
            ]
        );
    }

    #[test]
    fn patterns_are_for_bodies() {
        let pattern: syn::Signature = parse_quote!(async fn f(&self, (a, b): (u8, u8)));
        let mutable: syn::Signature = parse_quote!(async fn f(&self, mut a: u8));
        assert_eq!(read(&pattern, TRAIT).1, [errors::PATTERN]);
        assert_eq!(read(&pattern, Side::Trait { has_body: true }).1, [errors::PATTERN]);
        assert_eq!(read(&pattern, Side::Impl).1, [""; 0]);
        assert_eq!(read(&mutable, TRAIT).1, [errors::PATTERN]);
        assert_eq!(read(&mutable, Side::Trait { has_body: true }).1, [""; 0]);
        assert_eq!(read(&mutable, Side::Impl).1, [""; 0]);
    }

    #[test]
    fn what_cannot_travel_is_said_once_for_each_type() {
        let wrong: [(syn::Signature, &str); 7] = [
            (parse_quote!(async fn f(&self) -> &'static str), errors::BORROWED_RESULT),
            (parse_quote!(async fn f(&self) -> Vec<&[&str]>), errors::BORROWED_RESULT),
            (parse_quote!(async fn f(&self) -> Cow<str>), errors::BORROWED_RESULT),
            (parse_quote!(async fn f(&self) -> Result<Self, Self::Error>), errors::SELF_TYPE),
            (parse_quote!(async fn f(&self) -> io::Result<u8>), errors::RESULT_ALIAS),
            (parse_quote!(async fn f(&self) -> fmt::Result), errors::RESULT_ALIAS),
            (parse_quote!(async fn f(&self, f: Box<impl Fn()>)), errors::IMPL_TRAIT),
        ];
        for (written, message) in wrong {
            let (signature, messages) = read(&written, TRAIT);
            assert!(signature.is_none());
            assert_eq!(messages, [message]);
        }
        assert_eq!(read(&parse_quote!(async fn f(&self) -> Cow<'static, str>), TRAIT).1, [""; 0]);
    }

    #[test]
    fn arguments_are_counted() {
        let types = vec![quote::quote!(u8); 17];
        let names: Vec<Ident> = (0..17).map(|number| format_ident!("a{number}")).collect();
        let (all, fewer) = (&names, &names[..16]);
        assert_eq!(read(&parse_quote!(async fn f(&self, #(#fewer: #types),*)), TRAIT).1, [""; 0]);
        let (signature, messages) =
            read(&parse_quote!(async fn f(&self, #(#all: #types),*)), TRAIT);
        assert!(signature.is_none());
        assert_eq!(messages, [errors::TOO_MANY_ARGUMENTS]);
    }
}
