//! The user's types may have the names that the expansion itself needs, but for `Bytes`, which is known by its name.
#![deny(warnings)]
#![allow(dead_code)]

use farcall::remote;
use serde::{Deserialize, Serialize};

mod core {}
mod std {}
mod alloc {}

macro_rules! types {
    ($($name:ident)*) => {
        $(
            #[derive(Serialize, Deserialize)]
            pub struct $name;
        )*
    };
}

types! { Result Option Vec String Arc Call CallError Interface Descriptor Object Proxy Remote Semantics Infallible Group GroupCall Members }

pub struct Ok;
pub struct Some;
pub struct None;
pub struct Err;

pub trait Clone {}
pub trait Debug {}
pub trait Send {}
pub trait Sync {}
pub trait Future {}
pub trait IntoFuture {}

#[remote]
pub trait Account {
    async fn take(&self, a: Result, b: Option, c: Vec, d: String, e: Arc, f: Call) -> Object;
    async fn give(&self, a: CallError, b: Interface, c: Descriptor, d: Proxy, e: Remote) -> Vec;
    async fn both(&self, a: Group, b: Semantics) -> ::core::result::Result<Option, String>;
}

pub struct Memory;

#[remote]
impl Account for Memory {
    async fn take(&self, _: Result, _: Option, _: Vec, _: String, _: Arc, _: Call) -> Object {
        Object
    }
    async fn give(&self, _: CallError, _: Interface, _: Descriptor, _: Proxy, _: Remote) -> Vec {
        Vec
    }
    async fn both(&self, _: Group, _: Semantics) -> ::core::result::Result<Option, String> {
        ::core::result::Result::Err(String)
    }
}
