//! Small libraries that offer `me`, for tests that search from within.

#![allow(unreachable_pub, reason = "a module of each test program")]

use std::path::PathBuf;

use crate::programs::Build;

/// `find_one`: `me` 1, `only.one`, `lacks`. `find_two`: `me` 2, which replaces 1,
/// and `me` 0. `find_other`: `me` 1. `find_twice`: `twice` 1 twice, `twice` 2,
/// `fine`. `find_lies`: `honest`, and a note of `lie`. `find_stays`: `stays`.
const FINDING: Build = Build {
    name: "finding",
    arguments: &["-p", "finding", "--examples"],
    environment: &[],
    output: "debug/examples",
    files: &[
        "libfind_one.so",
        "libfind_two.so",
        "libfind_other.so",
        "libfind_twice.so",
        "libfind_lies.so",
        "libfind_stays.so",
    ],
};

pub(crate) fn library(name: &str) -> PathBuf {
    FINDING.file(&format!("libfind_{name}.so"))
}

/// The contract of the fixtures, as this program knows it.
#[lcr_core::contract]
pub(crate) trait Thing: Send + Sync {
    fn name(&self) -> String;
}
