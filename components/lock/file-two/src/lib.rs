//! The driver `lock.file` in version 2: the source of version 1, under another number.
//! It replaces version 1 live, with all that it holds.

#[path = "../../file/src/component.rs"]
#[macro_use]
mod component;
#[path = "../../file/src/card.rs"]
mod card;
#[path = "../../file/src/keeper.rs"]
mod keeper;
#[path = "../../file/src/locks/mod.rs"]
mod locks;
#[path = "../../file/src/ofd.rs"]
mod ofd;
#[path = "../../file/src/place.rs"]
mod place;
#[path = "../../file/src/process.rs"]
mod process;
#[path = "../../file/src/watch.rs"]
mod watch;

lock_file! {
    /// The component.
    lock_file, 2, [1]
}

lcr_core::library!(crate);
