//! One type of a signature, checked from outside to inside: what can travel, and what only looks
//! so.
//!
//! What serde cannot do is for the compiler to say; here stands what a remote call cannot do.

use proc_macro2::Ident;
use syn::visit_mut::{self, VisitMut};
use syn::{
    GenericArgument, Lifetime, Path, PathArguments, PathSegment, Type, TypePath, TypeReference,
    parse_quote,
};

use super::Generics;
use crate::errors::{self, Errors};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    Argument,
    Result,
}

/// The type with its mistakes repaired, or `None` if that cannot be.
pub(super) fn check_type(
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
            // Its lifetimes are its own, and no function pointer can travel anyway, as the compiler
            // will say.
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

/// The type inside parentheses, or inside a macro's fragment.
pub(crate) fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Paren(syn::TypeParen { elem, .. }) | Type::Group(syn::TypeGroup { elem, .. }) => {
            peel(elem)
        }
        _ => ty,
    }
}

/// The last segment of a path that is the whole type, seen through parentheses.
pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match peel(ty) {
        Type::Path(TypePath { qself: None, path, .. }) => path.segments.last(),
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

/// Gives a result, by the user's path, the error of another. Whether that could be done.
pub(super) fn set_error(written: &mut Type, wanted: &Type) -> bool {
    let path = match written {
        Type::Paren(syn::TypeParen { elem, .. }) | Type::Group(syn::TypeGroup { elem, .. }) => {
            return set_error(elem, wanted);
        }
        Type::Path(TypePath { path, .. }) => path,
        _ => return false,
    };
    let arguments = path.segments.last_mut().map(|segment| &mut segment.arguments);
    let error = last_segment(wanted).and_then(|wanted| type_arguments(wanted).pop());
    if let (Some(PathArguments::AngleBracketed(generic)), Some(error)) = (arguments, error)
        && let Some(GenericArgument::Type(place)) = generic.args.last_mut()
    {
        place.clone_from(error);
        return true;
    }
    false
}
