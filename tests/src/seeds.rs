//! Which seeds the runs of machines have, and what is shown of one that breaks a promise.

use std::fmt::Display;
use std::ops::Range;

/// A number from the environment: `FARCALL_SEEDS`, how many seeds to run, or `FARCALL_SEED`, which one to run again.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Seeds that no commit before had, if `FARCALL_FRESH` names the commit, as in CI; without it the same ones each time.
#[must_use]
pub fn fresh() -> Range<u64> {
    fresh_of(&std::env::var("FARCALL_FRESH").unwrap_or_default())
}

/// FNV-1a (Fowler, Noll, Vo), and of that what is short enough to be typed.
fn fresh_of(commit: &str) -> Range<u64> {
    let hashed = commit.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let first = hashed >> 20;
    first..first + FRESH
}

/// Holds if no seed has broken a promise.
///
/// # Panics
/// Else: with the end of what the lowest of them did, and the command that runs it again.
pub fn kept(failure: Option<&impl Display>) {
    if let Some(failure) = failure {
        let text = failure.to_string();
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines.len().saturating_sub(SHOWN);
        panic!("\n{}", lines[shown..].join("\n"));
    }
}

/// How many fresh seeds there are.
const FRESH: u64 = 10_000;
/// Lines of a transcript, from its end.
const SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_commit_has_seeds_of_its_own() {
        let [first, second] = ["aaaa", "aaab"].map(fresh_of);
        assert!(first.end <= second.start || second.end <= first.start);
        assert_eq!(first, fresh_of("aaaa"));
        assert_eq!(first.end - first.start, FRESH);
    }
}
