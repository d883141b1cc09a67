//! The interface `lcr.control`: a program that references it can be asked.

use std::path::PathBuf;

/// What a program that can be asked says of that.
#[lcr_core::contract]
pub trait Control: Send + Sync {
    /// The socket's path.
    fn socket(&self) -> PathBuf;
}

/// The component.
#[lcr_core::component]
pub(crate) mod control {
    use std::path::PathBuf;

    use super::Control;

    /// Starts at the first reference, and stops when the last is dropped. With the
    /// parameter `legacy` = 1 it listens to the original's messages, too.
    #[derive(lcr_core::Interface)]
    #[interface(name = "lcr.control", version = 1, contract = dyn Control)]
    pub(crate) struct Socket(crate::Running);

    impl Construct for Socket {
        fn construct(cx: &Context) -> Result<Self, BoxError> {
            let legacy = cx.get("legacy").is_some() && cx.int("legacy")? != 0;
            Ok(Socket(crate::Builder::new().legacy(legacy).start()?))
        }
    }

    impl Control for Socket {
        fn socket(&self) -> PathBuf {
            self.0.socket().to_owned()
        }
    }
}
