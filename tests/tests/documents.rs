//! The documents at the root, held against the sources.

use std::collections::HashSet;
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

#[test]
fn no_section_stands_twice_in_a_document() {
    let docs = fs::read_dir(root().join("docs")).expect("a folder");
    let files = docs.map(|file| file.expect("it can be read").path());
    let all: Vec<_> = files.filter(|file| file.extension().is_some_and(|it| it == "md")).collect();
    assert!(!all.is_empty());
    for file in all {
        let text = fs::read_to_string(&file).expect("the document can be read");
        assert_eq!(repeated(&text), [""; 0], "{}", file.display());
    }
    assert_eq!(repeated("# A\n## C\n# B\n## C\n```\n## C\n```\n## C\n"), ["B: C"]);
}

/// The headings that another one equals in the same section.
fn repeated(text: &str) -> Vec<String> {
    let (mut path, mut seen, mut twice) = (Vec::new(), HashSet::new(), Vec::new());
    let outside_code = text.split("```").step_by(2);
    for line in outside_code.flat_map(str::lines).filter(|line| line.starts_with('#')) {
        let name = line.trim_start_matches('#');
        path.truncate(line.len() - name.len() - 1);
        path.push(name.trim());
        let place = path.join(": ");
        if !seen.insert(place.clone()) {
            twice.push(place);
        }
    }
    twice
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
