//! Rules that look at two things at once: two methods of one interface, or two options of one method.

use std::collections::HashMap;

use syn::Attribute;

use crate::args::{Args, Semantics};
use crate::errors::{self, Errors};
use crate::model::{Interface, Method};

/// Reports what is wrong between the parts of an interface, and leaves out methods that are there twice.
pub(crate) fn validate(interface: &mut Interface, errors: &mut Errors) {
    drop_repeated(&mut interface.methods, errors);
    report_same_ids(&interface.methods, errors);
    if interface.args.oneway.is_some() {
        report_semantics(&interface.args, errors);
    }
    for method in &interface.methods {
        report_oneway(interface, method, errors);
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
            Some(other) if *other != name => errors.spanned(
                &method.signature.ident,
                format!(
                    "by chance `{name}` has the same id as `{other}`, {:#010x}; give one of them another name",
                    method.id
                ),
            ),
            _ => {
                seen.insert(method.id, name);
            }
        }
    }
}
