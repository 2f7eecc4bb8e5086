//! Remote calls whose behaviour under failure is declared, enforced and proven.
#![allow(dead_code, unused_imports)]

#[macro_use]
mod canary;

mod descriptor;
mod error;
mod id;
mod limits;
mod protocol;
mod semantics;
mod time;
mod wire;

pub use descriptor::*;
pub use error::*;
pub use id::*;
pub use limits::*;
pub use semantics::*;
