//! Exactly-once calls: what is decided about them, over a database that is passed in.
//!
//! Below, such a call is an at-least-once call; what makes it one that takes effect once is here. Both sides decide
//! inside the transaction that records what was decided, so that a crash leaves either both or neither:
//!
//! - [`journal`]: the client saves a request before it is sent, and lets it go after its result was taken;
//! - [`outbound`]: what the client may send, which floor it may tell, what a server's word means for it;
//! - [`inbox`]: the server answers from its rows, refuses, or runs the method in the transaction of its answer;
//! - [`batch`]: many of these share one commit; who may be told of it, and when.
//!
//! No thread, no disk and no SQL: [`rows`] says what a database must do, [`store`](crate::store) does it with SQLite,
//! and the simulator with a disk that fails.

pub(crate) mod batch;
pub(crate) mod execute;
pub(crate) mod inbox;
pub(crate) mod journal;
pub(crate) mod outbound;
mod parked;
pub(crate) mod rows;
#[cfg(test)]
mod tests;
