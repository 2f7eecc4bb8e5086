//! Compiles, in the edition 2021.
#![deny(warnings)]

use farcall::remote;

#[remote]
pub trait Account {
    async fn next(&self, gen: u64) -> u64;
    async fn gen(&self, async_gen: &str, gen: &[u8]);
}

pub struct Memory;

#[remote]
impl Account for Memory {
    async fn next(&self, gen: u64) -> u64 {
        gen
    }
    async fn gen(&self, _: &str, gen: &[u8]) {
        drop(gen.to_vec());
    }
}

fn main() {}
