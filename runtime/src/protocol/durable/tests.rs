//! Facts about batches, journals and what a client sends, one by one; the simulation has them all at once.

mod batch;
mod outbound;
