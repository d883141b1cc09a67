//! The command as scripts and people see it: what it prints, where, and how it ends.
//!
//! Golden texts stand beside the commands that print them; `SNAPSHOTS=overwrite`
//! writes them anew. Libraries are built from this workspace, or made by hand where
//! only their notes matter.

// Made by hand: the files of lcr-core's own tests.
#[allow(dead_code)]
#[path = "../../../../lcr-core/tests/metadata/builder.rs"]
mod builder;
mod check;
mod demo;
mod inspect;
mod list;
mod probe;
mod tree;
mod usage;
mod world;
