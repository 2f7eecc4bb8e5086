//! One type of a signature, checked from outside to inside: what can travel, and what only looks
//! so.
//!
//! What serde cannot do is for the compiler to say; here stands what a remote call cannot do.

use proc_macro2::Ident;
use syn::visit_mut::{self, VisitMut};
use syn::{
    GenericArgument, Lifetime, Path, PathArguments, PathSegment, Type, TypeReference, parse_quote,
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
