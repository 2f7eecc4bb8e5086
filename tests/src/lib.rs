//! Helpers that the tests and the tour share.

pub mod failure_table;
pub mod fault_proxy;
pub mod raw;
pub mod service;
