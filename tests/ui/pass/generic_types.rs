//! Generic types, fixed; objects with parameters; arguments that borrow.
#![deny(warnings)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use farcall::remote;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Page<T, const N: usize> {
    items: Vec<T>,
}

#[derive(Serialize, Deserialize)]
pub struct Order<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    note: &'a str,
}

#[remote]
pub trait Shop {
    async fn page(&self, filter: Option<BTreeMap<String, Vec<u32>>>) -> Page<(u64, String), 3>;
    async fn lend(
        &self,
        order: &Order<'_>,
        numbers: &[u32],
        names: &[&str],
        all: &Vec<u8>,
        deep: &&str,
    ) -> usize;
    async fn give(
        &self,
        order: Order<'_>,
        bytes: Cow<[u8]>,
        text: Cow<'_, str>,
        raw: &[u8],
    ) -> Vec<u8>;
    async fn keep(&self, text: Cow<'static, str>, maybe: Option<&str>) -> Cow<'static, str>;
    async fn nothing(&self) -> ();
}

pub struct Memory<S> {
    store: S,
}

pub trait Store: Send + Sync {
    fn size(&self) -> usize;
}

#[remote]
impl<S: Store> Shop for Memory<S> {
    async fn page(&self, filter: Option<BTreeMap<String, Vec<u32>>>) -> Page<(u64, String), 3> {
        let items = filter.into_iter().flatten().map(|(name, ids)| (ids.len() as u64, name));
        Page { items: items.collect() }
    }
    async fn lend(
        &self,
        order: &Order<'_>,
        numbers: &[u32],
        names: &[&str],
        all: &Vec<u8>,
        deep: &&str,
    ) -> usize {
        self.store.size() + order.note.len() + numbers.len() + names.len() + all.len() + deep.len()
    }
    async fn give(
        &self,
        order: Order<'_>,
        bytes: Cow<[u8]>,
        text: Cow<'_, str>,
        raw: &[u8],
    ) -> Vec<u8> {
        [order.name.as_bytes(), &bytes, text.as_bytes(), raw].concat()
    }
    async fn keep(&self, text: Cow<'static, str>, maybe: Option<&str>) -> Cow<'static, str> {
        maybe.map_or(text, |maybe| Cow::Owned(maybe.to_owned()))
    }
    async fn nothing(&self) -> () {}
}

struct Disk;

impl Store for Disk {
    fn size(&self) -> usize {
        9
    }
}

/// A call of owned arguments borrows nothing, so it can be spawned.
fn spawnable<T: Send + 'static>(_: T) {}

/// A call of borrowed arguments borrows them, and not the proxy.
fn outlives_the_proxy<'a>(proxy: ShopProxy, order: &'a Order<'a>) -> impl Send + 'a {
    proxy.lend(order, &[1], &["a"], const { &Vec::new() }, &"deep")
}

#[test]
fn runs() {
    let _: Arc<dyn Shop> = Arc::new(Memory { store: Disk });
    let _ = |proxy: ShopProxy| spawnable(proxy.page(None));
    let _ = outlives_the_proxy;
}
