//! The documents at the root, held against the sources.

use std::fs;
use std::path::Path;

#[test]
fn the_architecture_is_short_and_names_only_files_that_exist() {
    let text = read("ARCHITECTURE.md");
    assert!(text.lines().count() < 150, "a page that is not read is no map");
    assert!(!text.contains("]("), "it names files and links none");
    let missing: Vec<&str> = quoted(&text).filter(|name| !exists(name)).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_architecture_names_every_module_of_the_runtime() {
    let (text, lib) = (read("ARCHITECTURE.md"), read("runtime/src/lib.rs"));
    let picture = text.split("```").nth(1).expect("a picture");
    let modules = lib.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    let names: Vec<&str> = picture.split_whitespace().collect();
    let missing: Vec<&str> = modules.filter(|module| !names.contains(module)).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn a_file_that_is_gone_is_seen() {
    let names: Vec<&str> = quoted("see `call.rs`, `gone.rs` and `Call`").collect();
    assert_eq!(names, ["call.rs", "gone.rs"]);
    assert!(exists("call.rs") && exists(".ci/run") && !exists("gone.rs"));
}

/// The words between backticks that are files.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let outside_pictures = text.split("```").step_by(2);
    let words = outside_pictures.flat_map(|text| text.split('`').skip(1).step_by(2));
    words.filter(|word| [".rs", ".md", ".ci/run"].iter().any(|end| word.ends_with(end)))
}

fn exists(name: &str) -> bool {
    ["", "runtime/src"].iter().any(|folder| root().join(folder).join(name).is_file())
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).expect("the document can be read")
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
