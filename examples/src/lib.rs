//! Helpers that the examples share. An example's own story is told in `examples/examples`.

pub mod report;
pub mod screen;
