//! Helpers that the tests and the tour share.

pub mod bank;
pub mod bank_processes;
pub mod bridge;
pub mod datagram_proxy;
pub mod failure_table;
pub mod fault_proxy;
pub mod groups;
pub mod ledger;
pub mod link;
pub mod mailboxes;
pub mod process;
pub mod random;
pub mod raw;
pub mod raw_datagram;
pub mod recorder;
pub mod references;
pub mod seeds;
pub mod service;
