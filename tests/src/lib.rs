//! Helpers that the tests and the tour share.

pub mod fault_proxy;
