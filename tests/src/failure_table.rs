//! `docs/failures.md` as a table: what each semantics reports on every failure path.
//!
//! The tests of the failure paths compare what they observe with what is written there.

use std::collections::BTreeMap;
use std::fmt::Debug;

use farcall::{CallError, Semantics};

use crate::service::{Report, SEMANTICS};

/// The page.
const PAGE: &str = include_str!("../../docs/failures.md");

/// One row: what is reported under each semantics, and the test that shows it.
#[derive(Clone, Debug)]
pub struct Row {
    /// In the order of [`SEMANTICS`].
    pub reports: [Report; 3],
    /// The name of a test in `tests/tests/failures.rs`.
    pub test: String,
}

/// A table whose rows are known by their tests: what the caller gets, and what it learns of the execution.
#[derive(Clone, Copy, Debug)]
pub struct Table(&'static str);

impl Table {
    /// What ends an exactly-once call without a result.
    pub const EXACTLY_ONCE: Table = Table("Under exactly_once");
    /// What calls through references add, and calls with them.
    pub const REFERENCES: Table = Table("Of references");

    /// Compares the error that a test got with its row.
    ///
    /// # Panics
    /// If they differ, or no row names the test.
    pub fn holds<E: Debug>(self, test: &str, error: &CallError<E>) {
        let rows = self.rows();
        let (says, execution) = rows.get(test).unwrap_or_else(|| panic!("no row of `{test}`"));
        let shown = format!("{error:?}");
        let name = shown.split([' ', '(', '{']).next().unwrap_or_default();
        assert!(says.contains(&format!("`{name}`")), "{error:?}: {says}");
        assert_eq!(format!("{:?}", error.execution()), *execution, "{error:?}");
    }

    /// That each row names one of the tests in these files, and that this test compares with it.
    ///
    /// # Panics
    /// If one does not, or there are fewer rows than there were.
    pub fn is_shown_by(self, files: &[&str], least_rows: usize) {
        let rows = self.rows();
        assert!(rows.len() >= least_rows, "{rows:?}");
        for test in rows.keys() {
            let definition = format!("async fn {test}() {{");
            let body = files.iter().find_map(|file| Some(file.split_once(&definition)?.1));
            let body = body.unwrap_or_else(|| panic!("no test `{test}`"));
            let body = body.split("\n}\n").next().unwrap_or_default();
            assert!(body.contains("holds("), "`{test}` compares with nothing");
            assert!(body.contains(&format!("\"{test}\"")), "`{test}` compares with another row");
        }
    }

    fn rows(self) -> BTreeMap<String, (String, String)> {
        let (_, section) = PAGE.split_once(&format!("\n## {}\n", self.0)).expect("a section");
        let section = section.split("\n## ").next().unwrap_or_default();
        let lines = section.lines().filter_map(|line| line.strip_prefix("| ")).skip(1);
        let mut rows = BTreeMap::new();
        for line in lines {
            let cells: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
            let [_, says, execution, test] = cells[..] else { panic!("four columns: {line}") };
            let row = (says.to_owned(), execution.to_owned());
            assert!(rows.insert(test.trim_matches('`').to_owned(), row).is_none(), "twice: {test}");
        }
        rows
    }
}

/// All rows of the first table, by number.
///
/// # Panics
/// If a line of the table is not as it must be.
#[must_use]
pub fn rows() -> BTreeMap<String, Row> {
    let lines = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix('|'))
        .filter(|line| line.trim_start().starts_with(|first: char| first.is_ascii_digit()));
    let mut rows = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.trim_end_matches('|').split('|').map(str::trim).collect();
        let [number, _, maybe, at_least_once, at_most_once, test] = cells[..] else {
            panic!("six columns: {line}");
        };
        let reports = [maybe, at_least_once, at_most_once].map(report);
        let row = Row { reports, test: test.trim_matches('`').to_owned() };
        assert!(rows.insert(number.to_owned(), row).is_none(), "twice: {number}");
    }
    rows
}

/// Compares what a test observed with what the page says.
///
/// # Panics
/// If they differ, or there is no such row.
pub fn holds(row: &str, semantics: Semantics, observed: Report) {
    let rows = rows();
    let row = rows.get(row).unwrap_or_else(|| panic!("docs/failures.md has no row {row}"));
    let column = SEMANTICS.iter().position(|known| *known == semantics);
    let written = row.reports[column.expect("a semantics of the table")];
    assert_eq!(observed, written, "{semantics}, {row:?}");
}

/// The word that begins a cell; what follows it explains.
fn report(cell: &str) -> Report {
    let word = cell.split([' ', ',', ':', ';']).next().unwrap_or_default();
    match word.trim_matches(['*', '`']) {
        "Ok" => Report::Ok,
        "Executed" => Report::Executed,
        "NotExecuted" => Report::NotExecuted,
        "Unknown" => Report::Unknown,
        _ => panic!("a cell begins with a report, not with `{cell}`"),
    }
}
