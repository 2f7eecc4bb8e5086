//! What was read: an interface with its methods, or an implementation with its bodies, beside the
//! user's tokens.
//!
//! A model is complete as soon as it exists: mistakes were reported and then repaired or left out,
//! so that `expand` has no errors to think of.

use std::time::Duration;

use syn::parse::{ParseStream, Parser};
use syn::{
    Attribute, Block, Expr, Generics, Ident, ImplItem, ItemImpl, ItemTrait, Meta, Path,
    PathArguments, TraitItem, TraitItemFn, Type, TypeParamBound, Visibility, parse_quote,
};

use crate::args::{Args, Semantics, becomes_remote, is_remote};
use crate::errors::{self, Errors};
use crate::signature::{Side, Signature};

/// A trait with `#[remote]`.
pub(crate) struct Interface {
    /// All but ours.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) ident: Ident,
    /// The auto traits that the user wrote above it.
    pub(crate) supertraits: Vec<TypeParamBound>,
    pub(crate) methods: Vec<Method>,
    pub(crate) args: Args,
}

/// One method of an interface.
pub(crate) struct Method {
    /// All but ours.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) signature: Signature,
    /// The default body, if the trait has one; else the semicolon.
    pub(crate) body: Result<Block, syn::token::Semi>,
    /// What was written at the method itself.
    pub(crate) args: Args,
    pub(crate) id: u32,
}

/// What holds for a method: its own attribute, else the trait's, else the default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Promise {
    pub(crate) semantics: Semantics,
    pub(crate) oneway: bool,
    pub(crate) spawn: bool,
    pub(crate) timeout: Option<Duration>,
    /// In bytes.
    pub(crate) max_reply: Option<u32>,
}

/// An impl with `#[remote]`.
pub(crate) struct Implementation {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) generics: Generics,
    /// The trait as the user named it: it may be imported under another name.
    pub(crate) interface: Path,
    pub(crate) object: Type,
    pub(crate) methods: Vec<Body>,
    pub(crate) args: Args,
}

/// One method of an implementation.
pub(crate) struct Body {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) signature: Signature,
    pub(crate) block: Block,
}

impl Interface {
    /// Reads a trait; `None` if it is such that nothing can be generated for it.
    pub(crate) fn read(item: &ItemTrait, args: Args, errors: &mut Errors) -> Option<Interface> {
        if let Some(token) = &item.unsafety {
            errors.spanned(token, errors::UNSAFE_TRAIT);
        }
        if !item.generics.params.is_empty() {
            errors.spanned(&item.generics, errors::GENERIC_TRAIT);
            return None;
        }
        if let Some(clause) = &item.generics.where_clause {
            errors.spanned(clause, errors::WHERE_ON_TRAIT);
        }
        let supertraits = item.supertraits.iter().filter(|bound| {
            let auto = is_auto_trait(bound);
            if !auto {
                errors.spanned(bound, errors::SUPERTRAIT);
            }
            auto
        });
        let supertraits = supertraits.cloned().collect();
        let oneway = args.oneway.is_some();
        let methods = item.items.iter().filter_map(|item| match item {
            TraitItem::Fn(item) => Method::read(item, oneway, errors),
            other => match public_method(other) {
                Some((visibility, item)) => {
                    errors.spanned(visibility, errors::PUBLIC_METHOD);
                    Method::read(&item, oneway, errors)
                }
                None => {
                    errors.spanned(other, errors::ASSOCIATED_ITEM);
                    None
                }
            },
        });
        let methods = methods.collect();
        let (attributes, visibility, ident) =
            (item.attrs.clone(), item.vis.clone(), item.ident.clone());
        Some(Interface { attributes, visibility, ident, supertraits, methods, args })
    }

    /// What a method promises its caller.
    pub(crate) fn promise(&self, method: &Method) -> Promise {
        let oneway = self.is_oneway(method) && method.signature.returns_nothing();
        let semantics = method.args.semantics.as_ref().or(self.args.semantics.as_ref());
        let semantics = semantics.map_or(Semantics::AtMostOnce, |(semantics, _)| *semantics);
        Promise {
            semantics: if oneway { Semantics::Maybe } else { semantics },
            oneway,
            spawn: method.args.spawn.is_some() || self.args.spawn.is_some(),
            timeout: method.args.timeout.or(self.args.timeout),
            max_reply: method.args.max_reply.or(self.args.max_reply),
        }
    }

    /// Whether `oneway` was written for the method, rightly or not.
    pub(crate) fn is_oneway(&self, method: &Method) -> bool {
        method.args.oneway.is_some() || self.args.oneway.is_some()
    }

    /// Path of the crate `farcall`.
    pub(crate) fn root(&self) -> Path {
        root(&self.args)
    }
}

impl Method {
    /// Reads a method of a trait; `oneway` says whether all of them are.
    fn read(item: &TraitItemFn, oneway: bool, errors: &mut Errors) -> Option<Method> {
        let mut attributes = item.attrs.clone();
        let args = Args::take(&mut attributes, errors);
        let side = Side::Trait { has_body: item.default.is_some() };
        let signature = Signature::read(&item.sig, side, errors)?;
        let id = signature.id(args.oneway.is_some() || oneway);
        let body = item.default.clone().ok_or(item.semi_token.unwrap_or_default());
        Some(Method { attributes, signature, body, args, id })
    }
}

impl Implementation {
    /// Reads an impl; `None` if it is such that nothing can be generated for it.
    pub(crate) fn read(item: &ItemImpl, args: Args, errors: &mut Errors) -> Option<Implementation> {
        let Some((interface, _)) = &item.trait_ else {
            errors.spanned(&item.self_ty, errors::INHERENT_IMPL);
            return None;
        };
        if let Some(token) = &item.unsafety {
            errors.spanned(token, errors::UNSAFE_TRAIT);
        }
        let generic = interface
            .segments
            .iter()
            .find(|segment| !matches!(segment.arguments, PathArguments::None));
        if let Some(segment) = generic {
            errors.spanned(segment, errors::GENERIC_TRAIT);
            return None;
        }
        let is_object =
            |name: &Ident| matches!(&*item.self_ty, Type::Path(ty) if ty.path.is_ident(name));
        if item.generics.type_params().any(|parameter| is_object(&parameter.ident)) {
            errors.spanned(&item.self_ty, errors::BLANKET_IMPL);
            return None;
        }
        let methods = item.items.iter().filter_map(|item| match item {
            ImplItem::Fn(item) => {
                let mut attributes = item.attrs.clone();
                for attribute in attributes.extract_if(.., |attribute| {
                    is_remote(attribute) || becomes_remote(&attribute.meta)
                }) {
                    errors.spanned(attribute, errors::METHOD_OPTION_IN_IMPL);
                }
                let signature = Signature::read(&item.sig, Side::Impl, errors)?;
                Some(Body { attributes, signature, block: item.block.clone() })
            }
            other => {
                errors.spanned(other, errors::ASSOCIATED_ITEM);
                None
            }
        });
        Some(Implementation {
            methods: methods.collect(),
            attributes: item.attrs.clone(),
            generics: item.generics.clone(),
            interface: interface.clone(),
            object: (*item.self_ty).clone(),
            args,
        })
    }

    /// Path of the crate `farcall`.
    pub(crate) fn root(&self) -> Path {
        root(&self.args)
    }
}

fn root(args: &Args) -> Path {
    args.root.clone().unwrap_or_else(|| parse_quote!(::farcall))
}

/// A method with a visibility, which is no item of a trait to the parser, and without.
fn public_method(item: &TraitItem) -> Option<(Visibility, TraitItemFn)> {
    let TraitItem::Verbatim(tokens) = item else {
        return None;
    };
    let parser = |input: ParseStream<'_>| {
        let attributes = Attribute::parse_outer(input)?;
        let visibility = input.parse()?;
        let mut method: TraitItemFn = input.parse()?;
        method.attrs.splice(..0, attributes);
        Ok((visibility, method))
    };
    parser.parse2(tokens.clone()).ok()
}

fn is_auto_trait(bound: &TypeParamBound) -> bool {
    const AUTO: [&str; 3] = ["Send", "Sync", "Unpin"];
    match bound {
        TypeParamBound::Trait(bound) => bound
            .path
            .segments
            .last()
            .is_some_and(|last| AUTO.iter().any(|name| last.ident == name)),
        TypeParamBound::Lifetime(lifetime) => lifetime.ident == "static",
        _ => false,
    }
}

/// The lines of the user's documentation: texts, or expressions such as `include_str!(…)`.
pub(crate) fn doc_lines(attributes: &[Attribute]) -> Vec<&Expr> {
    let docs = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => Some(&pair.value),
        _ => None,
    });
    docs.collect()
}
