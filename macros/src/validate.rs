//! Rules that look at two things at once: two methods of one interface, or two options of one
//! method.

use std::collections::HashMap;

use syn::Attribute;

use crate::args::{Args, Semantics};
use crate::errors::{self, Errors};
use crate::model::{Interface, Method};

/// Reports what is wrong between the parts of an interface, and leaves out methods that are there
/// twice.
pub(crate) fn validate(interface: &mut Interface, errors: &mut Errors) {
    drop_repeated(&mut interface.methods, errors);
    report_same_ids(&interface.methods, errors);
    if interface.args.oneway.is_some() {
        report_semantics(&interface.args, errors);
    }
    report_spawn(&interface.args, &Args::default(), errors);
    for method in &interface.methods {
        report_oneway(interface, method, errors);
        if !interface.is_oneway(method) {
            report_spawn(&method.args, &interface.args, errors);
        }
    }
}

fn report_oneway(interface: &Interface, method: &Method, errors: &mut Errors) {
    if !interface.is_oneway(method) {
        return;
    }
    if !method.signature.returns_nothing() {
        let (value, error) = (&method.signature.value, &method.signature.error);
        errors.spanned(quote::quote!(#value #error), errors::ONEWAY_RESULT);
    }
    report_semantics(&method.args, errors);
}

fn report_semantics(args: &Args, errors: &mut Errors) {
    if let Some((semantics, word)) = &args.semantics
        && *semantics != Semantics::Maybe
    {
        errors.spanned(word, errors::ONEWAY_SEMANTICS);
    }
}

/// Blames what stands in `args`, where `above` holds for what they do not say; what `above` says by
/// itself is not reported again.
fn report_spawn(args: &Args, above: &Args, errors: &mut Errors) {
    let semantics = args.semantics.as_ref().or(above.semantics.as_ref());
    if !matches!(semantics, Some((Semantics::ExactlyOnce, _))) {
        return;
    }
    match (&args.spawn, &above.spawn, &args.semantics) {
        (Some(spawn), _, _) => errors.spanned(spawn, errors::SPAWN_SEMANTICS),
        (None, Some(_), Some((_, word))) => errors.spanned(word, errors::SPAWN_SEMANTICS),
        _ => {}
    }
}

/// Two methods of one name are fine if the compiler sees only one of them.
fn drop_repeated(methods: &mut Vec<Method>, errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    methods.retain(|method| {
        let name = method.signature.name();
        if is_conditional(&method.attributes) {
            return true;
        }
        let repeated = seen.contains(&name);
        if repeated {
            let ident = &method.signature.ident;
            errors.spanned(
                ident,
                format!("`{name}` is declared twice; give each method a name of its own"),
            );
        }
        seen.push(name);
        !repeated
    });
}

fn is_conditional(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg"))
}

fn report_same_ids(methods: &[Method], errors: &mut Errors) {
    let mut seen: HashMap<u32, String> = HashMap::new();
    for method in methods {
        let name = method.signature.name();
        match seen.get(&method.id) {
            Some(other) if *other != name => {
                errors.spanned(&method.signature.ident, same_id(&name, other, method.id))
            }
            _ => {
                seen.insert(method.id, name);
            }
        }
    }
}

fn same_id(name: &str, other: &str, id: u32) -> String {
    format!(
        "by chance `{name}` has the same id as `{other}`, {id:#010x}; \
         give one of them another name"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quote::quote;
    use syn::{ItemTrait, parse_quote};

    use super::*;
    use crate::args::Place;
    use crate::model::Promise;

    fn read(text: proc_macro2::TokenStream, item: &ItemTrait) -> (Vec<Promise>, Vec<String>) {
        let mut errors = Errors::new();
        let args = Args::read(text, Place::Trait, &mut errors);
        let mut interface = Interface::read(item, args, &mut errors).expect("it can be read");
        validate(&mut interface, &mut errors);
        let promises = interface.methods.iter().map(|method| interface.promise(method)).collect();
        (promises, errors.messages())
    }

    #[test]
    fn a_method_overrides_its_trait_and_both_override_the_default() {
        let text = quote!(semantics = "at_least_once", timeout = "2s");
        let (promises, messages) = read(
            text,
            &parse_quote! {
                trait Account {
                    async fn plain(&self);
                    #[remote(semantics = "maybe", timeout = "1s", spawn)]
                    #[remote(max_reply = 7)]
                    async fn other(&self);
                    #[remote(oneway)]
                    async fn note(&self);
                }
            },
        );
        assert_eq!(messages, [""; 0]);
        let plain = Promise {
            semantics: Semantics::AtLeastOnce,
            oneway: false,
            spawn: false,
            timeout: Some(Duration::from_secs(2)),
            max_reply: None,
        };
        let other = Promise {
            semantics: Semantics::Maybe,
            spawn: true,
            timeout: Some(Duration::from_secs(1)),
            max_reply: Some(7),
            ..plain
        };
        let note = Promise { semantics: Semantics::Maybe, oneway: true, ..plain };
        assert_eq!(promises, [plain, other, note]);
        let (promises, _) = read(
            quote!(),
            &parse_quote!(
                trait A {
                    async fn plain(&self);
                }
            ),
        );
        assert_eq!(promises[0].semantics, Semantics::AtMostOnce);
    }

    #[test]
    fn oneway_promises_nothing_that_needs_a_reply() {
        let (_, messages) = read(
            quote!(oneway, semantics = "at_most_once"),
            &parse_quote! {
                trait Log {
                    async fn fine(&self) -> Result<(), CallError>;
                    async fn value(&self) -> u64;
                    #[remote(semantics = "at_least_once")]
                    async fn both(&self) -> Result<(), E>;
                    #[remote(semantics = "maybe")]
                    async fn also_fine(&self);
                }
            },
        );
        let (semantics, result) = (errors::ONEWAY_SEMANTICS, errors::ONEWAY_RESULT);
        assert_eq!(messages, [semantics, result, result, semantics]);
    }

    #[cfg(feature = "exactly_once")]
    #[test]
    fn a_method_that_runs_in_its_transaction_has_no_task_of_its_own() {
        let (promises, messages) = read(
            quote!(semantics = "exactly_once", timeout = "2s", max_reply = 7),
            &parse_quote! {
                trait Ledger {
                    async fn fine(&self);
                    #[remote(spawn)]
                    async fn wrong(&self);
                    #[remote(spawn, semantics = "at_most_once")]
                    async fn also_fine(&self);
                    #[remote(spawn, oneway)]
                    async fn nor_this(&self);
                    #[remote(oneway, semantics = "exactly_once")]
                    async fn without_an_answer(&self);
                }
            },
        );
        assert_eq!(messages, [errors::SPAWN_SEMANTICS, errors::ONEWAY_SEMANTICS]);
        let fine = Promise {
            semantics: Semantics::ExactlyOnce,
            oneway: false,
            spawn: false,
            timeout: Some(Duration::from_secs(2)),
            max_reply: Some(7),
        };
        assert_eq!(promises[0], fine);
    }

    #[cfg(feature = "exactly_once")]
    #[test]
    fn each_spawn_beside_exactly_once_is_blamed_once_whatever_stands_where() {
        let method = quote!(
            async fn method(&self);
        );
        let both = quote!(semantics = "exactly_once", spawn);
        for (on_trait, on_method, wrong) in [
            (both.clone(), quote!(), 1),
            (quote!(), both.clone(), 1),
            (both.clone(), both, 2),
            (quote!(spawn), quote!(semantics = "exactly_once"), 1),
            (quote!(semantics = "exactly_once"), quote!(spawn), 1),
            (quote!(spawn), quote!(semantics = "maybe"), 0),
        ] {
            let item = parse_quote!(trait Ledger { #[remote(#on_method)] #method });
            let (_, messages) = read(on_trait.clone(), &item);
            assert_eq!(messages, vec![errors::SPAWN_SEMANTICS; wrong], "{on_trait}; {on_method}");
        }
    }

    #[test]
    fn methods_of_one_name_are_fine_under_conditions() {
        let (promises, messages) = read(
            quote!(),
            &parse_quote! {
                trait Account {
                    #[cfg(unix)]
                    async fn amount(&self) -> u8;
                    #[cfg(not(unix))]
                    async fn amount(&self) -> u8;
                    async fn balance(&self);
                    async fn balance(&self) -> u8;
                }
            },
        );
        assert_eq!(promises.len(), 3);
        assert_eq!(messages, ["`balance` is declared twice; give each method a name of its own"]);
    }

    #[test]
    fn names_with_one_id_by_chance_are_refused() {
        let (_, messages) = read(
            quote!(),
            &parse_quote! {
                trait Ledger {
                    async fn open_ledger_of_day(&self) -> u64;
                    async fn save_main_number_at_time(&self) -> u64;
                }
            },
        );
        assert_eq!(
            messages,
            [same_id("save_main_number_at_time", "open_ledger_of_day", 0xd0a8_710c)]
        );
    }
}
