//! From a valid model to code: nothing here can fail.
//!
//! One file for each thing that is written: the trait (`interface`), its proxy, its group, its dispatch table,
//! an impl with what makes it an object, and their documentation. All paths are absolute, and all
//! that is generated for a method bears the method's `#[cfg]`.

mod dispatch;
mod docs;
mod group;
mod interface;
mod object;
mod passing;
mod proxy;

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::token::Brace;
use syn::{Attribute, Block, Ident, Item, Path, Type, parse_quote_spanned};

use crate::args::{Args, Place, is_remote};
use crate::errors::{self, Errors};
use crate::model::{Implementation, Interface};
use crate::signature::{Form, Signature};
use crate::validate::validate;

/// The whole way of one item: parse, model, validate, expand; the errors stand beside what can be
/// expanded all the same.
pub(crate) fn remote(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::new();
    let expansion = match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Trait(item)) => {
            let args = Args::read(arguments, Place::Trait, &mut errors);
            match Interface::read(&item, args, &mut errors) {
                Some(mut interface) => {
                    validate(&mut interface, &mut errors);
                    expand_interface(&interface)
                }
                None => without_ours(item),
            }
        }
        Ok(Item::Impl(item)) => {
            let args = Args::read(arguments, Place::Impl, &mut errors);
            match Implementation::read(&item, args, &mut errors) {
                Some(implementation) => object::expand(&implementation),
                // A blanket impl would overlap with the proxy's: one mistake, two errors.
                None if item.trait_.is_some() && !item.generics.params.is_empty() => {
                    TokenStream::new()
                }
                None => item.into_token_stream(),
            }
        }
        Ok(other) => {
            errors.spanned(Head(&other), errors::NOT_TRAIT_OR_IMPL);
            item
        }
        Err(error) => {
            errors.push(error);
            item
        }
    };
    let errors = errors.finish();
    quote!(#expansion #errors)
}

/// Prints an expansion to standard error if `FARCALL_DEBUG` is set when the user's crate is
/// compiled.
pub(crate) fn print_if_asked(expansion: &TokenStream) {
    if std::env::var_os("FARCALL_DEBUG").is_some_and(|value| value != "0") {
        eprintln!("{expansion}\n");
    }
}

fn expand_interface(interface: &Interface) -> TokenStream {
    let parts = [
        interface::expand(interface),
        proxy::expand(interface),
        group::expand(interface),
        dispatch::expand(interface),
    ];
    parts.into_iter().collect()
}

/// A trait that cannot be expanded, without our attributes, which would be errors of their own.
fn without_ours(mut item: syn::ItemTrait) -> TokenStream {
    for item in &mut item.items {
        if let syn::TraitItem::Fn(method) = item {
            method.attrs.retain(|attribute| !is_remote(attribute));
        }
    }
    item.into_token_stream()
}

/// The first tokens of an item, for an error that blames what it is.
struct Head<'a>(&'a Item);

impl ToTokens for Head<'_> {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.0.to_token_stream().into_iter().take(2));
    }
}

/// `T` and `E` as the result that callers see: `Result<T, CallError<E>>`.
fn result(root: &Path, signature: &Signature) -> Type {
    let value = &signature.value;
    let error = signature.error.as_ref().map(|error| quote!(<#error>));
    let span = signature.places().value;
    parse_quote_spanned!(span=> ::core::result::Result<#value, #root::CallError #error>)
}

/// `E`, or what stands for it where a method has no error of its own.
fn error_type(signature: &Signature) -> TokenStream {
    signature
        .error
        .as_ref()
        .map_or_else(|| quote!(::core::convert::Infallible), ToTokens::to_token_stream)
}

/// A function of the runtime, at a place in the user's text that is to blame if its bounds do not
/// hold.
fn private(root: &Path, name: &str, place: Span) -> TokenStream {
    let name = Ident::new(name, place);
    let path = quote_spanned!(place=> #root::__private::#name);
    let at_place = |mut token: TokenTree| {
        // Each token means what it meant where it was written: `$crate` is the crate of its macro.
        token.set_span(place.resolved_at(token.span()));
        token
    };
    path.into_iter().map(at_place).collect()
}

/// A body that the user wrote for the result as written, made into one for the result that callers
/// see.
///
/// The block inside keeps `return` and `?` working. Its first statement tells the compiler its
/// type, as in async-trait.
fn body(root: &Path, signature: &Signature, block: &Block) -> TokenStream {
    let span = Span::mixed_site();
    let value = &signature.value;
    let error = error_type(signature);
    if signature.repaired {
        return quote_spanned!(span=> { loop {} });
    }
    let written = match signature.form {
        Form::Plain => quote!(#value),
        Form::Own => quote!(::core::result::Result<#value, #error>),
        Form::Whole => result(root, signature).into_token_stream(),
    };
    // The user's braces, but not as a lint sees them: around a single expression they would be
    // called unused.
    let place = block.brace_token.span.join();
    let braces = place.resolved_at(span);
    let block = Block { brace_token: Brace(braces), stmts: block.stmts.clone() };
    let typed = quote_spanned! {span=>
        async move {
            if let ::core::option::Option::Some(early) = ::core::option::Option::None::<#written> {
                return early;
            }
            let returned: #written = #block;
            #[allow(unreachable_code)]
            returned
        }
        .await
    };
    let inside = match signature.form {
        Form::Plain => quote_spanned!(span=> ::core::result::Result::Ok(#typed)),
        Form::Own => quote_spanned!(span=> #typed.map_err(#root::CallError::Method)),
        Form::Whole => quote_spanned!(span=> #root::__private::within(#typed)),
    };
    // The method ends with the user's brace, so that an error of all of it is at his text.
    let mut outer = Group::new(Delimiter::Brace, inside);
    outer.set_span(place);
    outer.into_token_stream()
}

/// The `#[cfg]` of an item, for everything that is born of it.
fn conditions(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"))
}

/// What silences lints at the user's item, for what is generated from it; `expect` as `allow`,
/// since a lint that bites at the item may be quiet in the expansion.
fn allowances(attributes: &[Attribute]) -> impl Iterator<Item = TokenStream> {
    attributes.iter().filter_map(|attribute| {
        let allows = attribute.path().is_ident("allow") || attribute.path().is_ident("expect");
        let list = attribute.meta.require_list().ok().filter(|_| allows)?;
        let lints = &list.tokens;
        Some(quote!(#[allow(#lints)]))
    })
}

/// Calls a deprecated method without a warning: the warning is for the user's calls.
fn allow_deprecated(attributes: &[Attribute]) -> Option<TokenStream> {
    let deprecated = attributes.iter().any(|attribute| attribute.path().is_ident("deprecated"));
    deprecated.then(|| quote!(#[allow(deprecated)]))
}

/// An argument's name for generated code: the user's text and place, but not the user's code to a
/// lint.
fn local(name: &Ident) -> Ident {
    let span = name.span().resolved_at(Span::call_site());
    if name == "gen" {
        // A name in the user's edition may be a keyword in that of this crate.
        return Ident::new_raw("gen", span);
    }
    let mut name = name.clone();
    name.set_span(span);
    name
}
