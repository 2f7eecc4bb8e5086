//! `docs/failures.md` as a table: what each semantics reports on every failure path.
//!
//! The tests of the failure paths compare what they observe with what is written there.

use std::collections::BTreeMap;

use farcall::Semantics;

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

/// All rows of the page, by number.
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
