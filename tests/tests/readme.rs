//! The README, held against what it tells about.

use std::fs;
use std::path::Path;

#[test]
fn its_program_is_the_account_example() {
    let readme = read("README.md");
    let blocks = code_blocks(&readme, "rust");
    let example = read("examples/examples/account.rs");
    let without_header = example.lines().skip_while(|line| line.starts_with("//!"));
    let example = without_header.collect::<Vec<_>>().join("\n");
    assert_eq!(blocks.len(), 1, "one program, so that nobody asks which one is compiled");
    assert_eq!(blocks[0].trim(), example.trim(), "copy examples/examples/account.rs");
}

#[test]
fn its_tour_shows_the_interface_and_the_columns_of_today() {
    let readme = read("README.md");
    let shop = read("examples/examples/tour/shop.rs");
    let (_, shown) = shop.split_once("// shown: begin\n").expect("the beginning is marked");
    let (shown, _) = shown.split_once("// shown: end\n").expect("the end is marked");
    for line in shown.lines() {
        assert!(readme.contains(line), "the README's tour lacks: {line}");
    }
    let report = read("examples/src/report.rs");
    let (_, header) = report.split_once("HEADER: [&str; 2] = [").expect("the table has a header");
    for line in header.lines().skip(1).take(2) {
        let line = line.trim().trim_matches([',', '"']);
        assert!(readme.contains(line), "the README's tour lacks: {line}");
    }
}

#[test]
fn its_commands_files_and_versions_exist() {
    let readme = read("README.md");
    for command in ["cargo run --example tour", "cargo test --workspace"] {
        assert!(code_blocks(&readme, "console").join("").contains(command), "{command}");
    }
    for (_, behind) in readme.match_indices("](").map(|(at, _)| readme.split_at(at + 2)) {
        let link = behind.split([')', '#']).next().unwrap_or_default();
        if !link.contains("://") {
            assert!(root().join(link).exists(), "the README links {link}");
        }
    }
    let manifest = read("Cargo.toml");
    let (_, version) = manifest.split_once("rust-version = \"").expect("it is stated");
    let version = version.split('"').next().unwrap_or_default();
    assert!(readme.contains(&format!("Rust {version}")), "the README states another Rust");
}

/// The insides of the fenced blocks of a language.
fn code_blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let starts = text.match_indices(&fence).map(|(at, _)| at + fence.len());
    starts.filter_map(|start| Some(text[start..].split_once("```")?.0)).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
