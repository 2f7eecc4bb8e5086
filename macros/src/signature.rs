//! One method's signature, read the same way in a trait and in an impl: the arguments, and the result by the one rule.
//!
//! What cannot be called remotely is reported here. Where the intention is plain, the mistake is repaired, so that the
//! rest of the expansion stands and nothing else fails because of it; otherwise the method is left out.

use proc_macro2::{Ident, Span};
use quote::format_ident;
use syn::visit_mut::{self, VisitMut};
use syn::{
    FnArg, GenericArgument, GenericParam, Lifetime, Pat, PatType, Path, PathArguments, PathSegment,
    Receiver, ReceiverKind, ReturnType, Safety, Token, Type, TypePath, TypeReference, parse_quote,
};

use crate::errors::{self, Errors};
use crate::text;

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

/// Whose signature is read: an impl may take its arguments apart, and so may a default body, by `mut` only.
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
        if let Some(argument) =
            written.inputs.iter().filter(|input| is_typed(input)).nth(MAX_ARGUMENTS)
        {
            errors.spanned(argument, errors::TOO_MANY_ARGUMENTS);
            lost = true;
        }
        let (value, error, form) =
            read_result(&written.output, written.ident.span(), generic, errors)?;
        let repaired = errors.count() > before;
        let (ident, head) = (written.ident.clone(), head_of(written));
        (!lost).then_some(Signature { ident, arguments, value, error, form, head, text, repaired })
    }

    /// The signature with these arguments and this result, in the user's own tokens where there are such: lints and
    /// errors point there, and `self` is the `self` of the user's body even inside a macro of his.
    pub(crate) fn with(
        &self,
        arguments: impl Iterator<Item = FnArg>,
        result: Type,
    ) -> syn::Signature {
        let mut signature = self.head.clone();
        signature.inputs.extend(arguments);
        signature.output = ReturnType::Type(Token![->](self.ident.span()), Box::new(result));
        signature
    }

    /// The method's name without `r#`.
    pub(crate) fn name(&self) -> String {
        text::plain_name(&self.ident)
    }

    /// The method's id; see [`text::method_id`].
    pub(crate) fn id(&self) -> u32 {
        let types: Vec<&Type> = self.arguments.iter().map(|argument| &argument.ty).collect();
        text::method_id(&self.name(), &types, &self.value, self.error.as_ref())
    }

    /// Whether the method returns nothing at all, not even an error of its own.
    pub(crate) fn returns_nothing(&self) -> bool {
        self.error.is_none() && matches!(&self.value, Type::Tuple(tuple) if tuple.elems.is_empty())
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

fn is_typed(input: &FnArg) -> bool {
    matches!(input, FnArg::Typed(_))
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
        ReceiverKind::Typed(_, ty) if matches!(&**ty, Type::Reference(by) if by.mutability.is_some()) =>
        {
            errors.spanned(receiver, errors::MUTABLE_SELF);
        }
        _ => errors.spanned(receiver, errors::OWNED_SELF),
    }
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

/// The last segment of a path that is the whole type, seen through parentheses.
pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(TypePath { qself: None, path, .. }) => path.segments.last(),
        Type::Paren(syn::TypeParen { elem, .. }) | Type::Group(syn::TypeGroup { elem, .. }) => {
            last_segment(elem)
        }
        _ => None,
    }
}

/// The types among a segment's generic arguments.
pub(crate) fn type_arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(generic) = &segment.arguments else {
        return Vec::new();
    };
    let types = generic.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    Argument,
    Result,
}

/// The type with its mistakes repaired, or `None` if that cannot be.
fn check_type(
    written: &Type,
    position: Position,
    generic: Generics,
    errors: &mut Errors,
) -> Option<Type> {
    let mut ty = written.clone();
    let mut check = TypeCheck { position, generic, errors, lost: false };
    check.visit_type_mut(&mut ty);
    (!check.lost).then_some(ty)
}

struct TypeCheck<'a> {
    position: Position,
    generic: Generics,
    errors: &'a mut Errors,
    lost: bool,
}

impl TypeCheck<'_> {
    fn lose(&mut self, tokens: impl quote::ToTokens, message: &str) {
        if !self.lost {
            self.errors.spanned(tokens, message);
        }
        self.lost = true;
    }
}

impl VisitMut for TypeCheck<'_> {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        match ty {
            Type::ImplTrait(_) => self.lose(ty, errors::IMPL_TRAIT),
            // Its lifetimes are its own, and no function pointer can travel anyway, as the compiler will say.
            Type::FnPtr(_) => {}
            _ => visit_mut::visit_type_mut(self, ty),
        }
    }

    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        if self.position == Position::Result {
            return self.lose(reference, errors::BORROWED_RESULT);
        }
        if reference.mutability.is_some() {
            self.errors.spanned(&*reference, errors::MUTABLE_ARGUMENT);
            reference.mutability = None;
        }
        if reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static") {
            self.errors.spanned(&*reference, errors::STATIC_ARGUMENT);
            reference.lifetime = None;
        }
        visit_mut::visit_type_reference_mut(self, reference);
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        match (self.position, &*lifetime.ident.to_string()) {
            (_, "static") | (Position::Argument, "_") => {}
            (Position::Argument, _) => {
                if self.generic == Generics::None {
                    self.errors.spanned(&*lifetime, errors::NAMED_LIFETIME);
                }
                lifetime.ident = Ident::new("_", lifetime.ident.span());
            }
            (Position::Result, _) => self.lose(lifetime, errors::BORROWED_RESULT),
        }
    }

    fn visit_path_mut(&mut self, path: &mut Path) {
        if path.segments.first().is_some_and(|segment| segment.ident == "Self") {
            return self.lose(path, errors::SELF_TYPE);
        }
        visit_mut::visit_path_mut(self, path);
    }

    fn visit_path_segment_mut(&mut self, segment: &mut PathSegment) {
        // serde's users write `Cow<str>`; in an async function the compiler wants its lifetime.
        if segment.ident == "Cow"
            && let PathArguments::AngleBracketed(generic) = &mut segment.arguments
            && matches!(generic.args.first(), Some(GenericArgument::Type(_)))
        {
            if self.position == Position::Result {
                return self.lose(segment, errors::BORROWED_RESULT);
            }
            generic.args.insert(0, parse_quote!('_));
        }
        visit_mut::visit_path_segment_mut(self, segment);
    }
}
