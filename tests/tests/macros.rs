//! `#[remote]` as a user's crate meets it: what compiles quietly, and the words of what does not.
//!
//! What is right is a module of this program, in `ui/pass`. On what is wrong, in `ui/fail` and `ui/compiler`, a compiler
//! is run. A `.stderr` file holds only errors that the macro words itself (`UI=overwrite` writes them anew); where the
//! compiler has the word, which may change, a test looks for the line that is blamed and for what is certain of its text.
//! What an expansion does is tested elsewhere.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[path = "../ui/pass/mod.rs"]
pub mod pass;

#[test]
fn no_right_interface_is_left_out() {
    let named = std::fs::read_to_string(folder("pass").join("mod.rs")).expect("it was compiled");
    for file in programs("pass").filter(|name| name != "mod") {
        assert!(named.contains(&format!("\npub mod {file};\n")), "{file}");
    }
}

#[test]
fn wrong_interfaces_are_refused_in_the_macros_own_words() {
    for name in programs("fail") {
        let output = compile(&format!("fail/{name}"), "human", &[]);
        assert!(!output.status.success(), "{name} compiles");
        let text = String::from_utf8_lossy(&output.stderr);
        // What follows only counts the errors.
        let said = text.split("error: aborting due to").next().unwrap_or_default();
        let said = format!("{}\n", said.trim_end());
        let kept = folder("fail").join(format!("{name}.stderr"));
        if std::env::var_os("UI").is_some_and(|how| how == "overwrite") {
            std::fs::write(kept, said).expect("the folder can be written to");
            continue;
        }
        let expected = std::fs::read_to_string(kept).unwrap_or_default();
        assert_eq!(said, expected.replace("\r\n", "\n"), "{name}");
    }
}

#[test]
fn an_impl_without_the_attribute_is_told_so_at_the_impl() {
    let errors = errors_of("forgotten_on_impl");
    let lacks = "10: this implementation of a remote trait lacks `#[remote]`";
    assert!(errors.iter().any(|error| error.starts_with(lacks)), "{errors:#?}");
}

#[test]
fn a_trait_without_the_attribute_is_told_so_at_its_impl() {
    let errors = errors_of("forgotten_on_trait");
    let lacks = "9: `(dyn Account + 'static)` is not a remote interface";
    assert!(errors.iter().any(|error| error.starts_with(lacks)), "{errors:#?}");
}

#[test]
fn what_is_no_object_is_told_so_where_it_is_served() {
    let errors = errors_of("not_an_object");
    let [error] = &errors[..] else { panic!("one error: {errors:#?}") };
    assert!(error.starts_with("13: `Memory` is not an object that can be served as"), "{error}");
}

#[test]
fn a_type_that_cannot_travel_is_blamed_where_it_is_written() {
    for name in [
        "argument_not_serializable",
        "result_not_serializable",
        "error_not_serializable",
        "alias_of_call_error",
    ] {
        let errors = errors_of(name);
        assert!(!errors.is_empty(), "{name} compiles");
        for error in &errors {
            assert!(error.starts_with("7: "), "{name}: {error}");
            assert!(
                error.contains("Opaque") || error.contains("CallError<String>"),
                "{name}: {error}"
            );
        }
    }
}

#[test]
fn a_lifetime_that_is_left_out_is_asked_for_where_it_lacks() {
    let errors = errors_of("hidden_lifetime");
    assert!(errors.iter().all(|error| error.starts_with("7: ")), "{errors:#?}");
    let asked = "hidden lifetime parameters in types are deprecated";
    assert!(errors.iter().any(|error| error.contains(asked)), "{errors:#?}");
}

#[test]
fn a_method_that_the_trait_lacks_is_blamed_itself() {
    let errors = errors_of("method_that_the_trait_lacks");
    let [error] = &errors[..] else { panic!("one error: {errors:#?}") };
    assert!(error.starts_with("15: method `close` is not a member of trait"), "{error}");
}

#[test]
fn a_keyword_of_a_later_edition_is_a_name_in_an_earlier_one() {
    let output = compile_in("2021", "compiler/keyword_of_a_later_edition", "human", &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_transaction_that_is_held_over_an_await_is_refused_at_the_method() {
    let errors = errors_of("transaction_over_an_await");
    let [error] = &errors[..] else { panic!("one error: {errors:#?}") };
    assert!(error.starts_with("12: ") && error.contains("is not `Send`"), "{error}");
}

#[test]
fn exactly_once_without_the_feature_is_told_what_to_write() {
    let macros = library_of_macros_without_features();
    let macros = [OsString::from("--extern"), extern_crate("farcall_macros", &macros)];
    let errors = errors_with("exactly_once_without_the_feature", &macros);
    let [error] = &errors[..] else { panic!("one error: {errors:#?}") };
    assert!(error.starts_with("5: `exactly_once` needs a store"), "{error}");
    assert!(error.contains(r#"features = ["sqlite"]"#), "{error}");
}

/// Builds the macros alone, without what the workspace has them do; what they are built with is there already.
fn library_of_macros_without_features() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "-p", "farcall-macros", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    target.join("debug").join(format!("{prefix}farcall_macros{suffix}"))
}

/// Line and message of every error in a program that must not compile.
fn errors_of(name: &str) -> Vec<String> {
    errors_with(name, &[])
}

fn errors_with(name: &str, more: &[OsString]) -> Vec<String> {
    let name = format!("compiler/{name}");
    let output = compile(&name, "short", more);
    assert!(!output.status.success(), "{name} compiles");
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter_map(|line| place_and_message(line, &format!("ui/{name}.rs"))).collect()
}

/// What the compiler says of a program in `ui/`, which sees `farcall` as this test does.
fn compile(name: &str, format: &str, more: &[OsString]) -> Output {
    compile_in("2024", name, format, more)
}

fn compile_in(edition: &str, name: &str, format: &str, more: &[OsString]) -> Output {
    let built = std::env::current_exe().expect("a test has a path");
    let built = built.parent().expect("and a folder, beside the libraries");
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg(format!("--edition={edition}"))
        .args(["--emit=metadata", "--color=never", "--diagnostic-width=140"])
        .arg(format!("--error-format={format}"))
        .args(["--out-dir", env!("CARGO_TARGET_TMPDIR"), "--extern"])
        .arg(extern_crate("farcall", &newest_library(built, "libfarcall-")))
        .args(more)
        .arg("-L")
        .arg(format!("dependency={}", built.display()))
        .arg(format!("ui/{name}.rs"))
        .output()
        .expect("the compiler runs")
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ui").join(name)
}

/// The names of the programs in a folder, without `.rs`.
fn programs(name: &str) -> impl Iterator<Item = String> {
    let files = std::fs::read_dir(folder(name)).expect("a folder of programs");
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    names.filter_map(|name| Some(name.strip_suffix(".rs")?.to_owned()))
}

fn extern_crate(name: &str, library: &Path) -> OsString {
    let mut text = OsString::from(format!("{name}="));
    text.push(library);
    text
}

/// `file:line:column: error[code]: message` as `line: message`.
fn place_and_message(line: &str, source: &str) -> Option<String> {
    let (place, message) = line.split_once(": error")?;
    let number = place.strip_prefix(source)?.split(':').nth(1)?;
    let (_, message) = message.split_once(": ")?;
    Some(format!("{number}: {message}"))
}

fn newest_library(folder: &Path, prefix: &str) -> PathBuf {
    let files = std::fs::read_dir(folder).expect("the folder of the libraries can be read");
    let libraries = files.filter_map(Result::ok).filter(|file| {
        let name = file.file_name().into_string().unwrap_or_default();
        name.starts_with(prefix) && name.ends_with(".rlib")
    });
    let modified = |file: &std::fs::DirEntry| file.metadata().and_then(|data| data.modified()).ok();
    libraries.max_by_key(modified).expect("the library was built for this test").path()
}
