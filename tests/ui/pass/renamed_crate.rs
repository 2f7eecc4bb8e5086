//! `crate = path` where `farcall` is known by another name.
#![deny(warnings)]

mod vendored {
    pub use farcall as far;
}

mod hidden {
    // Here the bare name is something else.
    #[allow(dead_code)]
    pub mod farcall {}

    use crate::pass::renamed_crate::vendored::far::remote;

    #[remote(crate = crate::pass::renamed_crate::vendored::far)]
    pub trait Account {
        #[remote(semantics = "maybe", timeout = "150ms")]
        async fn deposit(&self, name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, String>;
    }

    pub struct Memory;

    #[remote(crate = crate::pass::renamed_crate::vendored::far)]
    impl Account for Memory {
        async fn deposit(&self, name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
            if bytes.is_empty() { Err(name.to_owned()) } else { Ok(bytes) }
        }
    }
}

#[test]
fn runs() {
    let _: std::sync::Arc<dyn hidden::Account> = std::sync::Arc::new(hidden::Memory);
}
