//! `#[remote]` as a user's crate meets it: what compiles quietly, and the words of what does not.
//!
//! Behaviour over a wire is tested elsewhere; here a compiler is run on small programs in `ui/`. A `.stderr` file holds
//! only errors that the macro words itself; `TRYBUILD=overwrite` writes them anew.

#[test]
fn wrong_interfaces_are_refused_in_the_macros_own_words() {
    trybuild::TestCases::new().compile_fail("ui/fail/*.rs");
}

#[test]
fn right_interfaces_compile_quietly() {
    trybuild::TestCases::new().pass("ui/pass/*.rs");
}
