//! A bank for processes that are killed: what its server and its clients share, and how the files that they leave are
//! read.
//!
//! The server's database is the truth; a client's diary says what it asked and what it was told, in the order in which it
//! happened. Both outlive the processes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;

use farcall::sqlite::rusqlite::{Connection, OpenFlags};
use farcall::{Execution, MethodError, remote};
use serde::{Deserialize, Serialize};

use crate::random::Random;

/// Accounts of the bank.
pub const ACCOUNTS: u64 = 100;
/// What each holds at first.
pub const CENTS: i64 = 100;

/// Moves money.
#[remote(semantics = "exactly_once")]
pub trait Bank {
    /// Moves money from one account to another, and writes the transfer's key into the ledger.
    async fn transfer(&self, order: &Transfer) -> Result<Receipt, Declined>;

    /// Which run of the server this is.
    #[remote(semantics = "at_least_once")]
    async fn run(&self) -> u64;
}

/// A transfer, which follows from its key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// Names it.
    pub key: String,
    /// Where the money is.
    pub from: u64,
    /// Where it goes.
    pub to: u64,
    /// How much.
    pub cents: i64,
}

/// What the bank says of a transfer that it made. It would say something else if it made it again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// The transfer's row in the ledger.
    pub number: i64,
    /// What is left of the money.
    pub left: i64,
    /// The run of the server that made it.
    pub run: u64,
}

/// There was too little money: nothing was written.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error, Serialize, Deserialize,
)]
#[error("there are only {there} cents")]
pub struct Declined {
    /// How much there was.
    pub there: i64,
    /// The run of the server that said so.
    pub run: u64,
}

impl MethodError for Declined {}

impl Transfer {
    /// The transfer of this key.
    #[must_use]
    pub fn of(key: &str) -> Transfer {
        let seed = key.bytes().fold(1_u64, |seed, byte| seed.wrapping_mul(257) + u64::from(byte));
        let mut random = Random::new(seed);
        let from = random.below(ACCOUNTS);
        let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
        let cents = 1 + random.below(90) as i64;
        Transfer { key: key.to_owned(), from, to, cents }
    }
}

/// What a client notes; each is one line of its diary, written at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// It has started.
    Start,
    /// It is about to ask, with the transfer of this key.
    Ask(String),
    /// It was told, for a key.
    Told(String, Word),
    /// The answer of the entry before cannot have come from the run of the server that made it.
    FromRow(String),
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// The receipt.
    Made(Receipt),
    /// The method's own error.
    Declined(Declined),
    /// Neither: whether it ran, and the error's text.
    Failed(Execution, String),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Start => f.write_str("start"),
            Entry::Ask(key) => write!(f, "ask {key}"),
            Entry::FromRow(key) => write!(f, "row {key}"),
            Entry::Told(key, Word::Made(Receipt { number, left, run })) => {
                write!(f, "made {key} {number} {left} {run}")
            }
            Entry::Told(key, Word::Declined(Declined { there, run })) => {
                write!(f, "declined {key} {there} {run}")
            }
            Entry::Told(key, Word::Failed(execution, text)) => {
                write!(f, "failed {key} {execution:?} {}", text.replace('\n', " "))
            }
        }
    }
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(line: &str) -> Result<Entry, String> {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let number = |text: &str| text.parse::<i64>().map_err(|error| format!("{line}: {error}"));
        Ok(match words[..] {
            ["start"] => Entry::Start,
            ["ask", key] => Entry::Ask(key.to_owned()),
            ["row", key] => Entry::FromRow(key.to_owned()),
            ["made", key, row, rest] => {
                let (left, run) = rest.split_once(' ').ok_or(line)?;
                let (number, left, run) = (number(row)?, number(left)?, number(run)? as u64);
                Entry::Told(key.to_owned(), Word::Made(Receipt { number, left, run }))
            }
            ["declined", key, there, run] => {
                let (there, run) = (number(there)?, number(run)? as u64);
                Entry::Told(key.to_owned(), Word::Declined(Declined { there, run }))
            }
            ["failed", key, execution, text] => {
                let execution = match execution {
                    "NotExecuted" => Execution::NotExecuted,
                    "Executed" => Execution::Executed,
                    _ => Execution::Unknown,
                };
                Entry::Told(key.to_owned(), Word::Failed(execution, text.to_owned()))
            }
            _ => return Err(line.to_owned()),
        })
    }
}

/// A client's diary, open for writing.
pub struct Diary(File);

impl Diary {
    /// Opens it, or begins it.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn open(path: &Path) -> Diary {
        let file = File::options().create(true).append(true).open(path);
        Diary(file.expect("a diary can be written"))
    }

    /// Adds a line: whole or not at all, and there when the process is killed.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, entry: &Entry) {
        (&self.0).write_all(format!("{entry}\n").as_bytes()).expect("a diary can be written");
    }
}

/// What a diary says, in its order; nothing if there is none.
///
/// # Panics
/// If a line cannot be read.
#[must_use]
pub fn diary(path: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.parse().expect("a line of a diary")).collect()
}

/// What a diary says of one transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// The transfer's key.
    pub key: String,
    /// In which run of the client it was asked first.
    pub asked: u32,
    /// What was told, and in which run of the client.
    pub words: Vec<(u32, Word)>,
    /// Whether it was told by a run of the server that had not made it.
    pub from_row: bool,
}

/// What a diary says, sorted by transfers.
///
/// # Panics
/// If it tells of what it has not asked.
#[must_use]
pub fn cases(diary: &[Entry]) -> Vec<Case> {
    let mut cases = BTreeMap::<&str, Case>::new();
    let mut run = 0;
    for entry in diary {
        match entry {
            Entry::Start => run += 1,
            Entry::Ask(key) => {
                let (words, from_row) = (Vec::new(), false);
                let case = Case { key: key.clone(), asked: run, words, from_row };
                assert_eq!(cases.insert(key, case), None, "{key} was asked as a new one twice");
            }
            Entry::Told(key, word) => {
                cases.get_mut(&**key).expect("it was asked").words.push((run, word.clone()));
            }
            Entry::FromRow(key) => cases.get_mut(&**key).expect("it was asked").from_row = true,
        }
    }
    cases.into_values().collect()
}

impl Case {
    /// The answer, which is the same each time that it was told.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn answer(&self) -> Option<&Word> {
        let is_answer = |word: &&Word| !matches!(word, Word::Failed(..));
        let mut answers = self.words.iter().map(|(_, word)| word).filter(is_answer);
        let first = answers.next();
        assert!(answers.all(|other| Some(other) == first), "{self:?}");
        first
    }
}

/// The bank's books, read past farcall.
#[derive(Debug)]
pub struct Books {
    /// What each account holds.
    pub accounts: Vec<i64>,
    /// The rows of the ledger, by the keys of their transfers.
    pub ledger: BTreeMap<String, Vec<i64>>,
    /// Answers that the server still keeps.
    pub answers: i64,
}

impl Books {
    /// Reads a database.
    ///
    /// # Panics
    /// If it is not one of a bank.
    #[must_use]
    pub fn read(path: &Path) -> Books {
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let database = database.expect("it is a database");
        let accounts = "select cents from account order by id";
        let mut accounts = database.prepare(accounts).expect("a bank has accounts");
        let accounts = accounts.query_map([], |row| row.get(0)).expect("they can be read");
        let accounts = accounts.collect::<Result<_, _>>().expect("numbers");
        let mut ledger = BTreeMap::<String, Vec<i64>>::new();
        let rows = "select key, number from ledger order by number";
        let mut rows = database.prepare(rows).expect("a bank has a ledger");
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        for row in rows.expect("it can be read") {
            let (key, number) = row.expect("a row");
            ledger.entry(key).or_default().push(number);
        }
        let answers = "select count(*) from farcall_inbox";
        let answers = database.query_row(answers, [], |row| row.get(0)).expect("a store");
        Books { accounts, ledger, answers }
    }

    /// Holds the accounts against the ledger.
    ///
    /// # Panics
    /// If money came or went, a transfer is there twice, or a balance is not what the ledger says.
    pub fn check(&self) {
        assert_eq!(
            self.accounts.iter().sum::<i64>(),
            CENTS * ACCOUNTS as i64,
            "money came or went"
        );
        let mut accounts = vec![CENTS; ACCOUNTS as usize];
        for (key, rows) in &self.ledger {
            assert_eq!(rows.len(), 1, "{key} was made {} times", rows.len());
            let Transfer { from, to, cents, .. } = Transfer::of(key);
            accounts[from as usize] -= cents;
            accounts[to as usize] += cents;
        }
        assert_eq!(self.accounts, accounts, "the balances are not those of the ledger");
    }

    /// Holds what was told of a transfer against the ledger.
    ///
    /// # Panics
    /// If it is not true, or the last word leaves it open.
    pub fn check_case(&self, case: &Case) {
        let rows = self.ledger.get(&case.key);
        match case.answer() {
            Some(Word::Made(receipt)) => assert_eq!(rows, Some(&vec![receipt.number]), "{case:?}"),
            Some(Word::Declined(_)) => assert_eq!(rows, None, "{case:?}"),
            _ => {}
        }
        match case.words.last() {
            Some((_, Word::Made(_) | Word::Declined(_))) => {}
            Some((_, Word::Failed(Execution::NotExecuted, _))) => {
                assert_eq!(rows, None, "{case:?}")
            }
            _ => panic!("nobody knows: {case:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_diary_is_what_was_written() {
        let key = || "tcp-1".to_owned();
        let failed = Word::Failed(Execution::Unknown, "no answer, yet".to_owned());
        for entry in [
            Entry::Start,
            Entry::Ask(key()),
            Entry::FromRow(key()),
            Entry::Told(key(), Word::Made(Receipt { number: 3, left: 4, run: 5 })),
            Entry::Told(key(), Word::Declined(Declined { there: 6, run: 7 })),
            Entry::Told(key(), failed),
        ] {
            assert_eq!(entry.to_string().parse(), Ok(entry));
        }
    }
}
