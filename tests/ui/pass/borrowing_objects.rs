//! An object with a lifetime is served if it borrows nothing that ends, named or not.
#![deny(warnings)]

use std::sync::Arc;

use farcall::{Object, remote};

#[remote]
pub trait Account {
    async fn balance(&self) -> usize;
}

pub struct Named<'a>(&'a str);

#[remote]
impl<'a> Account for Named<'a> {
    async fn balance(&self) -> usize {
        self.0.len()
    }
}

pub struct Elided<'a>(&'a str);

#[remote]
impl Account for Elided<'_> {
    async fn balance(&self) -> usize {
        self.0.len()
    }
}

pub struct Holder<T>(T);

#[remote]
impl Account for Holder<&str> {
    async fn balance(&self) -> usize {
        self.0.len()
    }
}

#[remote]
impl Account for Holder<&'static [u8]> {
    async fn balance(&self) -> usize {
        self.0.len()
    }
}

fn served(_: impl Object<dyn Account>) {}

#[test]
fn runs() {
    served(Named("a"));
    served(Elided("b"));
    served(Holder("c"));
    served(Holder(&b"d"[..]));
    let local = String::from("here");
    let _: Arc<dyn Account + '_> = Arc::new(Elided(&local));
}
