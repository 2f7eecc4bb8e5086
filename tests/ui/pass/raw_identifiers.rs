//! `r#` is spelling: it is no part of a name.
#![deny(warnings)]
#![allow(non_camel_case_types)]

use farcall::{Interface, remote};

#[derive(serde::Serialize, serde::Deserialize)]
pub struct r#struct {
    r#type: u8,
}

#[remote]
pub trait r#trait {
    async fn r#move(&self, r#fn: u8, r#in: &str) -> r#struct;
}

pub struct Memory;

#[remote]
impl r#trait for Memory {
    async fn r#move(&self, r#fn: u8, r#in: &str) -> r#struct {
        r#struct { r#type: r#fn + r#in.len() as u8 }
    }
}

#[test]
fn runs() {
    let _ = |proxy: traitProxy| drop(proxy.r#move(1, "in"));
    let descriptor = <dyn r#trait>::DESCRIPTOR;
    assert_eq!((descriptor.name, descriptor.methods[0].name), ("trait", "move"));
    assert_eq!(descriptor.methods[0].id, id("move(u8,&str)->Result<struct,Infallible>"));
}

/// FNV-1a, 32 bits.
fn id(text: &str) -> farcall::__private::MethodId {
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    farcall::__private::MethodId(text.bytes().fold(0x811c_9dc5, hash))
}
