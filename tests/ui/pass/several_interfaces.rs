//! One object with several interfaces, with methods of one name.
#![deny(warnings)]

use std::sync::Arc;

use farcall::{Interface, Object, remote};

#[remote]
pub trait Account {
    async fn name(&self) -> String;
}

#[remote]
pub trait Audit {
    async fn name(&self) -> String;
}

pub struct Memory;

#[remote]
impl Account for Memory {
    async fn name(&self) -> String {
        String::from("account")
    }
}

#[remote]
impl Audit for Memory {
    async fn name(&self) -> String {
        String::from("audit")
    }
}

fn names<I: ?Sized + Interface>(_: &impl Object<I>) -> &'static str {
    I::DESCRIPTOR.name
}

#[test]
fn runs() {
    let memory = Memory;
    assert_eq!(names::<dyn Account>(&memory), "Account");
    assert_eq!(names::<dyn Audit>(&memory), "Audit");
    let _: Arc<dyn Account> = Object::<dyn Account>::into_interface(Arc::new(memory));
}
