//! Interfaces that compile quietly: each file denies what it may be warned of, and `clippy` checks the rest of the tests.
#![allow(clippy::all, missing_docs, unreachable_pub)]

pub mod bodies;
pub mod borrowing_objects;
pub mod conditions;
pub mod deprecated;
pub mod doubles;
pub mod exactly_once;
pub mod fragments;
pub mod generic_types;
pub mod imported_result;
pub mod inside_a_function;
pub mod longer_form;
pub mod method_names;
pub mod other_name;
pub mod raw_identifiers;
pub mod renamed_crate;
pub mod several_interfaces;
pub mod type_names;
