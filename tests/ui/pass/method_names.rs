//! No name is taken: neither by what all types have, nor by what the expansion is made of.
#![deny(warnings)]

use std::sync::Arc;

use farcall::remote;

#[remote]
pub trait Everything: Send + Sync {
    async fn new(&self) -> u64;
    async fn clone(&self) -> u64;
    async fn call(&self, remote: u8, method: u8, arguments: u8, decode: u8) -> u8;
    async fn dispatch(&self, object: u8, method: u8, arguments: u8, reply: u8) -> u8;
    async fn from_remote(&self) -> u64;
    async fn as_remote(&self) -> u64;
    async fn into_interface(&self) -> u64;
    async fn remote(&self, bytes: u8, error: u8) -> u64;
    async fn node(&self, early: u8, returned: u8, typed: u8) -> u64;
    async fn deref(&self) -> u64;
    async fn drop(&self, _unused: u8) -> u64;
    async fn fmt(&self) -> u64;
    async fn poll(&self) -> u64;
    async fn with_timeout(&self) -> u64;
    async fn type_id(&self) -> u64;
    async fn add(&self, members: u8) -> u64;
    async fn members(&self) -> u64;
    async fn from_members(&self, group: u8) -> u64;
}

pub struct Memory;

#[remote]
impl Everything for Memory {
    async fn new(&self) -> u64 {
        1
    }
    async fn clone(&self) -> u64 {
        2
    }
    async fn call(&self, remote: u8, method: u8, arguments: u8, decode: u8) -> u8 {
        remote + method + arguments + decode
    }
    async fn dispatch(&self, object: u8, method: u8, arguments: u8, reply: u8) -> u8 {
        object + 2 * method + 4 * arguments + 8 * reply
    }
    async fn from_remote(&self) -> u64 {
        5
    }
    async fn as_remote(&self) -> u64 {
        6
    }
    async fn into_interface(&self) -> u64 {
        7
    }
    async fn remote(&self, bytes: u8, error: u8) -> u64 {
        u64::from(bytes + error)
    }
    async fn node(&self, early: u8, returned: u8, typed: u8) -> u64 {
        u64::from(early + 2 * returned + 4 * typed)
    }
    async fn deref(&self) -> u64 {
        10
    }
    async fn drop(&self, _unused: u8) -> u64 {
        11
    }
    async fn fmt(&self) -> u64 {
        12
    }
    async fn poll(&self) -> u64 {
        13
    }
    async fn with_timeout(&self) -> u64 {
        14
    }
    async fn type_id(&self) -> u64 {
        15
    }
    async fn add(&self, members: u8) -> u64 {
        u64::from(members)
    }
    async fn members(&self) -> u64 {
        17
    }
    async fn from_members(&self, group: u8) -> u64 {
        u64::from(group)
    }
}

#[test]
fn runs() {
    let _: Arc<dyn Everything> = Arc::new(Memory);
    let _ = |proxy: EverythingProxy| {
        let twin: EverythingProxy = Clone::clone(&proxy);
        let _ = (proxy.clone(), twin.new());
    };
}
