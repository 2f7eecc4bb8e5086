//! The habits of the house, read from its own sources.
//!
//! Each check is a function from one file's path and text to the complaints about it; beside each
//! stands a test that shows it complain. The files are read as tokens, so that neither comments nor
//! strings nor macros deceive the checks.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The layers of ARCHITECTURE.md: a module of `runtime/src` may name its own layer and those before.
const LAYERS: &[&[&str]] = &[
    &["id", "time", "semantics", "error", "ticket", "limits", "descriptor", "address", "canary"],
    &["wire"],
    &["protocol"],
    &["dispatch", "context", "registry", "transport", "store", "sqlite"],
    &["driver"],
    &[
        "node",
        "serve",
        "call",
        "pending",
        "proxy",
        "reference",
        "group",
        "mailbox",
        "discover",
        "blocking",
        "private",
        "sim",
    ],
    &["fuzzing"],
];

/// Upward names that stay: file, what it names, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "dispatch.rs",
    "proxy",
    "an interface names its proxy type in a bound; nothing of the proxy is called",
)];

/// What nothing under `protocol` and `wire` may name: clocks, sockets, threads, tasks, draws.
const IMPURE: &[&str] = &[
    "tokio",
    "getrandom",
    "rand",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net",
    "std::thread",
    "std::sync::mpsc",
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::process",
];

/// Lines of a file of the library, without its tests.
const MAX_LINES: usize = 500;
/// Lines of a file of tests, benches or examples.
const MAX_LINES_AROUND: usize = 700;
/// Lines of a function, from `fn` to its closing brace.
const MAX_FUNCTION_LINES: usize = 100;

#[test]
fn every_file_says_what_it_is() {
    hold(&sources(&["runtime/src", "macros", "tests", "examples", "benches", "fuzz"]), opening);
}

#[test]
fn imports_point_down() {
    hold(&sources(&["runtime/src"]), |file, text| upward(file, text, EXCEPTIONS));
}

#[test]
fn every_exception_is_still_needed() {
    for (file, named, _) in EXCEPTIONS {
        let path = root().join("runtime/src").join(file);
        let text = fs::read_to_string(path).expect("an exception names a file that exists");
        let complaints = upward(&format!("runtime/src/{file}"), &text, &[]);
        assert!(complaints.iter().any(|complaint| complaint.contains(named)), "{file}: {named}");
    }
}

#[test]
fn protocol_and_wire_have_no_clock_socket_thread_task_or_draw() {
    hold(&sources(&["runtime/src/protocol", "runtime/src/wire"]), impure);
    hold(&[source("runtime/src/protocol.rs"), source("runtime/src/wire.rs")], impure);
}

#[test]
fn files_and_functions_are_short() {
    hold(&sources(&["runtime", "macros", "tests", "examples", "benches", "fuzz"]), long);
}

#[test]
fn an_opening_without_a_header_is_seen() {
    assert!(opening("a.rs", "//! What it is.\n").is_empty());
    assert_eq!(opening("a.rs", "use std::fmt;\n//! Too late.\n").len(), 1);
    assert_eq!(opening("a.rs", "// A mere comment.\n").len(), 1);
    assert_eq!(opening("a.rs", "//!\n").len(), 1);
    assert_eq!(opening("a.rs", "").len(), 1);
}

#[test]
fn an_upward_import_is_seen_in_every_form() {
    let seen = |file: &str, text: &str| upward(file, text, EXCEPTIONS).join("\n");
    let wire = "runtime/src/wire/payload/decoder.rs";
    for upward in [
        "use crate::protocol::client::Client;",
        "use crate::{id::Seq, protocol::{self, client}};",
        "fn f() { let x = crate::driver::start(); }",
        "fn f() { call!(x, crate::node::Node) }",
        "use super::super::super::protocol;",
        "mod inner { use super::super::super::super::protocol::client; }",
        "#[cfg(not(test))] mod inner { use crate::sim; }",
    ] {
        assert!(seen(wire, upward).contains("which is above"), "{upward}");
    }
    for allowed in [
        "use crate::id::Seq; use crate::{error::CallError, wire::frame};",
        "use super::super::super::wire; use super::super::frame; use super::Payload;",
        "/// See [`crate::node::Node`].\nfn f() { \"crate::node\"; }",
        "#[cfg(test)] mod tests { use crate::sim::World; }",
        "#[cfg(test)] use crate::sim::World;",
    ] {
        assert_eq!(seen(wire, allowed), "", "{allowed}");
    }
    assert!(seen(wire, "use crate::CallError;").contains("has no layer"));
    assert!(seen("runtime/src/novelty.rs", "").contains("has no layer"));
    let dispatch = "runtime/src/dispatch.rs";
    assert_eq!(seen(dispatch, "type P = crate::proxy::Proxy;"), "");
    assert!(seen(dispatch, "use crate::call::Call;").contains("which is above"));
    assert_eq!(seen("runtime/src/lib.rs", "pub use crate::node::Node;"), "");
    assert_eq!(seen("runtime/src/wire/frame/tests.rs", "use crate::sim::World;"), "");
}

#[test]
fn a_clock_is_seen_however_it_is_named() {
    for named in [
        "use std::time::Instant;",
        "use std::{fmt, time::{Duration, Instant}};",
        "use std::time as clock;",
        "use std::time::*;",
        "fn f() { std::time::SystemTime::now(); }",
        "use tokio::sync::mpsc;",
        "fn f() { ::tokio::spawn(x); }",
        "use std::net::SocketAddr;",
        "fn f() { log!(std::thread::current()) }",
        "fn f() { getrandom::fill(&mut seed) }",
    ] {
        assert_eq!(impure("a.rs", named).len(), 1, "{named}");
    }
    for allowed in [
        "use std::time::Duration; use crate::time::Time;",
        "/// As `tokio` does.\nfn f() { \"std::thread\" }",
        "#[cfg(test)] mod tests { use std::thread; }",
    ] {
        assert!(impure("a.rs", allowed).is_empty(), "{allowed}");
    }
}

#[test]
fn a_long_file_and_a_long_function_are_seen() {
    let lines = |count: usize| "//! x\n".repeat(count);
    assert!(long("runtime/src/a.rs", &lines(MAX_LINES)).is_empty());
    assert_eq!(long("runtime/src/a.rs", &lines(MAX_LINES + 1)).len(), 1);
    let before_tests = lines(MAX_LINES - 1) + "#[cfg(test)]\nmod tests {\n" + &lines(400) + "}";
    assert!(long("runtime/src/a.rs", &before_tests).is_empty());
    assert!(long("runtime/src/a/tests.rs", &lines(MAX_LINES_AROUND)).is_empty());
    assert!(long("examples/examples/a.rs", &lines(MAX_LINES_AROUND)).is_empty());
    assert_eq!(long("tests/tests/a.rs", &lines(MAX_LINES_AROUND + 1)).len(), 1);

    let function = |lines: usize| format!("impl A {{\nfn f() {{\n{}}}\n}}", "g();\n".repeat(lines));
    assert!(long("runtime/src/a.rs", &function(MAX_FUNCTION_LINES - 2)).is_empty());
    let complaints = long("runtime/src/a.rs", &function(MAX_FUNCTION_LINES - 1));
    assert_eq!(complaints, ["line 2: function `f` has 101 lines of at most 100"]);
    assert!(long("runtime/src/a.rs", "trait A { fn f(&self) -> [u8; 3]; fn g() {} }").is_empty());
}

/// The first line is a module comment with words in it.
fn opening(_file: &str, text: &str) -> Vec<String> {
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix("//!") {
        Some(words) if !words.trim().is_empty() => vec![],
        _ => vec!["does not open with `//!` and what it is".into()],
    }
}

/// Names of modules above the file's own layer.
fn upward(file: &str, text: &str, exceptions: &[(&str, &str, &str)]) -> Vec<String> {
    let inside = file.strip_prefix("runtime/src/").unwrap_or(file);
    if inside == "lib.rs" || is_test(file) {
        return vec![];
    }
    let module: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
    let layer_of = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let Some(own) = layer_of(module[0]) else {
        return vec![format!("`{}` has no layer: give it one in LAYERS", module[0])];
    };
    let mut complaints = Vec::new();
    for found in paths(text) {
        let Some(named) = found.below_root(module.len()) else { continue };
        let complaint = match layer_of(named) {
            None => format!("`crate::{named}` has no layer: name the module that it is in"),
            Some(layer) if layer > own => format!("names `{named}`, which is above"),
            Some(_) => continue,
        };
        if !exceptions.iter().any(|(file, name, _)| *file == inside && *name == named) {
            complaints.push(format!("line {}: {complaint}", found.line));
        }
    }
    // The names of one `use` stand in one line.
    complaints.dedup();
    complaints
}

/// Names of what the protocol must not know.
fn impure(file: &str, text: &str) -> Vec<String> {
    if is_test(file) {
        return vec![];
    }
    let names = |found: &FoundPath, forbidden: &str| {
        let named: Vec<&str> = found.segments.iter().map(String::as_str).collect();
        let forbidden: Vec<&str> = forbidden.split("::").collect();
        // A whole module taken by another name or by `*` hides what is used of it.
        let hides = |length: usize| {
            named.len() == length + 1
                && ["*", "as"].contains(&named[length])
                && named[..length] == forbidden[..length]
        };
        named.starts_with(&forbidden) || (1..forbidden.len()).any(hides)
    };
    let mut complaints = Vec::new();
    for found in paths(text) {
        if let Some(forbidden) = IMPURE.iter().find(|forbidden| names(&found, forbidden)) {
            complaints.push(format!("line {}: names `{forbidden}`", found.line));
        }
    }
    complaints
}

/// Files and functions that do not fit.
fn long(file: &str, text: &str) -> Vec<String> {
    let around = ["tests/", "examples/", "benches/", "fuzz/"];
    let is_around = is_test(file) || around.iter().any(|folder| file.starts_with(folder));
    let limit = if is_around { MAX_LINES_AROUND } else { MAX_LINES };
    let mut complaints = Vec::new();
    let tests_begin = text.lines().zip(text.lines().skip(1)).position(|(first, second)| {
        first.trim() == "#[cfg(test)]" && second.starts_with("mod ") && second.ends_with('{')
    });
    let lines = match tests_begin {
        Some(begin) if !is_around => begin,
        _ => text.lines().count(),
    };
    if lines > limit {
        complaints.push(format!("has {lines} lines of at most {limit}"));
    }
    functions(parse(text), &mut |name, first, last| {
        let lines = last - first + 1;
        if lines > MAX_FUNCTION_LINES {
            complaints.push(format!(
                "line {first}: function `{name}` has {lines} lines of at most {MAX_FUNCTION_LINES}"
            ));
        }
    });
    complaints
}

/// Whether a file under `src` holds nothing but tests.
fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.contains("/tests/") || file.starts_with("tests/")
}

/// A path as it stands in the code, with the groups of a `use` taken apart.
struct FoundPath {
    segments: Vec<String>,
    line: usize,
    /// Inline modules around it.
    depth: usize,
}

impl FoundPath {
    /// What it names first below the crate's root, if it starts there; `module_depth` is that of
    /// the file.
    fn below_root(&self, module_depth: usize) -> Option<&str> {
        let supers = self.segments.iter().take_while(|segment| *segment == "super").count();
        let at_root = match self.segments.first().map(String::as_str) {
            Some("crate") => 1,
            Some("super") if supers == module_depth + self.depth => supers,
            _ => return None,
        };
        self.segments.get(at_root).map(String::as_str)
    }
}

/// Every path of a file outside its tests, in macros as well.
fn paths(text: &str) -> Vec<FoundPath> {
    let mut found = Vec::new();
    collect_paths(parse(text), 0, &mut found);
    found
}

fn collect_paths(tokens: TokenStream, depth: usize, found: &mut Vec<FoundPath>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut position = 0;
    while position < tokens.len() {
        if let Some(behind) = test_item(&tokens, position) {
            position = behind;
            continue;
        }
        match &tokens[position] {
            TokenTree::Ident(_) => {
                position = one_path(&tokens, position, &[], depth, found);
            }
            TokenTree::Group(group) => {
                let is_module = position >= 2 && is_ident(&tokens[position - 2], "mod");
                collect_paths(group.stream(), depth + usize::from(is_module), found);
                position += 1;
            }
            _ => position += 1,
        }
    }
}

/// Reads the path that starts here, behind `prefix`; gives the position behind it.
fn one_path(
    tokens: &[TokenTree],
    start: usize,
    prefix: &[String],
    depth: usize,
    found: &mut Vec<FoundPath>,
) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens[start].span().start().line;
    let mut position = start;
    loop {
        match tokens.get(position) {
            Some(TokenTree::Ident(segment)) => segments.push(segment.to_string()),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".into()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in inner.split(|token| is_punct(token, ',')) {
                    if !part.is_empty() {
                        one_path(part, 0, &segments, depth, found);
                    }
                }
                return position + 1;
            }
            _ => break,
        }
        position += 1;
        let goes_on = tokens.get(position).is_some_and(|token| is_punct(token, ':'))
            && tokens.get(position + 1).is_some_and(|token| is_punct(token, ':'));
        if !goes_on {
            break;
        }
        position += 2;
    }
    if tokens.get(position).is_some_and(|token| is_ident(token, "as")) {
        segments.push("as".into());
    }
    found.push(FoundPath { segments, line, depth });
    position.max(start + 1)
}

/// If an item under `#[cfg(test)]` begins here: the position behind it.
fn test_item(tokens: &[TokenTree], position: usize) -> Option<usize> {
    let (hash, attribute) = (tokens.get(position)?, tokens.get(position + 1)?);
    let is_cfg = is_punct(hash, '#')
        && attribute.to_string().split_whitespace().collect::<String>() == "[cfg(test)]";
    if !is_cfg {
        return None;
    }
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(token, ';'),
    };
    let item = &tokens[position + 2..];
    // The braces of `use a::{b, c};` do not end it.
    let is_use = item.iter().any(|token| is_ident(token, "use"))
        && !item.iter().take_while(|token| !is_ident(token, "use")).any(is_end);
    let length =
        item.iter().position(|token| if is_use { is_punct(token, ';') } else { is_end(token) })?;
    Some(position + 2 + length + 1)
}

/// Calls `see(name, first line, last line)` for every function with a body.
fn functions(tokens: TokenStream, see: &mut impl FnMut(String, usize, usize)) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (position, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            functions(group.stream(), see);
        }
        let Some(name @ TokenTree::Ident(_)) = tokens.get(position + 1) else { continue };
        if !is_ident(token, "fn") {
            continue;
        }
        let behind = tokens[position + 2..].iter().find(|token| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            token => is_punct(token, ';'),
        });
        if let Some(TokenTree::Group(body)) = behind {
            see(name.to_string(), token.span().start().line, body.span_close().end().line);
        }
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_ident(token: &TokenTree, wanted: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == wanted)
}

fn parse(text: &str) -> TokenStream {
    text.parse().expect("a source file is made of tokens")
}

/// Fails with all complaints of a check about these files.
fn hold(files: &[(String, String)], check: impl Fn(&str, &str) -> Vec<String>) {
    assert!(!files.is_empty(), "no files: the check looks in the wrong place");
    let mut report = String::new();
    for (file, text) in files {
        for complaint in check(file, text) {
            writeln!(report, "{file}: {complaint}").expect("a string takes every text");
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn source(file: &str) -> (String, String) {
    let text = fs::read_to_string(root().join(file)).expect("the file can be read");
    (file.to_owned(), text)
}

/// The Rust files under these folders, with their texts, in order. Cases of the compiler's messages
/// and golden expansions are texts to compare, not sources, and what a program generated is not read.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !NOT_SOURCES.contains(&&*name) {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(root()).expect("it is below the root");
                files.push(file.to_string_lossy().into_owned());
            }
        }
    }
    files.sort_unstable();
    files.iter().map(|file| source(file)).collect()
}

const NOT_SOURCES: &[&str] =
    &["ui", "golden", "goldens", "expansions", "expanded", "gen", "target"];
