//! A shared object that is no library.

/// Something to export.
#[unsafe(no_mangle)]
pub extern "C" fn plain_answer() -> u32 {
    7
}
