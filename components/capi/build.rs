//! What the linker and the compiler must know of liblcr.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The built-in directory of components, as the original's.
    println!("cargo::rerun-if-env-changed=LCRSODIR");
    // Without a name of its own, a program linked to `…/liblcr.so` would need that path.
    // cargo-c, which turns the feature on, gives it one with a version.
    if std::env::var_os("CARGO_FEATURE_CAPI").is_none() {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liblcr.so");
    }
    // The bounds of its own list of components are nobody else's business.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,start-stop-visibility=hidden");
}
