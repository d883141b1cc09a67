//! Exports what C component libraries expect of the program that loads them.
//!
//! Such a library leaves these symbols to the program, and `lcr inspect --probe`
//! is a program that loads it. Nothing else of the command is exported: with
//! `-rdynamic`, a Rust library's own calls could bind to the command's code.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for symbol in
        ["lcr_component_register", "lcr_component_describe", "lcr_ifact_reference", "lcr_ifact_release"]
    {
        println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol={symbol}");
    }
}
