//! Planted bugs that prove the oracle: the simulation must find each one.
//!
//! `cfg_canary!("name")` is `false` in every build but those with `--cfg farcall_canary`, where the environment
//! variable `FARCALL_CANARY` names the one bug that is planted.

#[cfg(farcall_canary)]
mod planted {
    use std::cell::Cell;
    use std::sync::LazyLock;

    static PLANTED: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("FARCALL_CANARY").ok());

    thread_local! {
        static IN_BUNDLE: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn is_planted(name: &str) -> bool {
        PLANTED.as_deref() == Some(name)
    }

    /// Notes whether what is handled next came in a bundle.
    pub(crate) fn set_in_bundle(is: bool) {
        IN_BUNDLE.set(is);
    }

    pub(crate) fn is_in_bundle() -> bool {
        IN_BUNDLE.get()
    }
}

#[cfg(farcall_canary)]
pub(crate) use planted::{is_in_bundle, is_planted, set_in_bundle};

/// Whether this bug is planted; a constant `false` in ordinary builds.
macro_rules! cfg_canary {
    ($name:literal) => {{
        #[cfg(farcall_canary)]
        {
            $crate::canary::is_planted($name)
        }
        #[cfg(not(farcall_canary))]
        {
            false
        }
    }};
}
