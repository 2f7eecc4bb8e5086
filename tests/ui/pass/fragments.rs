//! What a macro of the user's hands over: its own crate, and types.
#![deny(warnings)]
#![allow(unused_parens)]

use std::borrow::Cow;

use farcall::remote;

pub use farcall as far;

/// As an interface is written in the macro of a crate that re-exports `farcall`.
macro_rules! service {
    ($name:ident, $object:ident, $text:ty, $bytes:ty, $element:ty, $result:ty) => {
        #[$crate::pass::fragments::far::remote(crate = $crate::pass::fragments::far)]
        pub trait $name {
            async fn put(&self, text: &$text, bytes: &$bytes, all: &[$element]) -> $result;
            async fn lend(&self, text: Cow<'_, $text>, bytes: Cow<'_, $bytes>) -> Vec<$element>;
        }

        pub struct $object;

        #[$crate::pass::fragments::far::remote(crate = $crate::pass::fragments::far)]
        impl $name for $object {
            async fn put(&self, text: &$text, bytes: &$bytes, all: &[$element]) -> $result {
                Ok(text.len() + bytes.len() + all.len())
            }
            async fn lend(&self, _text: Cow<'_, $text>, bytes: Cow<'_, $bytes>) -> Vec<$element> {
                bytes.into_owned()
            }
        }
    };
}

service!(Account, Memory, str, [u8], u8, Result<usize, String>);

#[remote]
pub trait InParentheses {
    async fn put(&self, text: &(str), bytes: &([u8]), all: &(([u16]))) -> ();
}
