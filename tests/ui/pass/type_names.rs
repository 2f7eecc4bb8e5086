//! The user's types may have the names that the expansion itself needs; `Bytes` has to say that it is not that of the crate `bytes`.
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

types! { Result Option Vec String Arc Call CallError Interface Descriptor Object Proxy Remote Semantics Infallible Group GroupCall Members Bytes }

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
    async fn size(&self, a: self::Bytes, b: &self::Bytes) -> super::type_names::Bytes;
    async fn long(&self, a: bytes::Bytes, b: &::bytes::Bytes) -> bytes::Bytes;
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
    async fn size(&self, _: self::Bytes, _: &self::Bytes) -> super::type_names::Bytes {
        Bytes
    }
    async fn long(&self, a: bytes::Bytes, _: &::bytes::Bytes) -> bytes::Bytes {
        a
    }
}
