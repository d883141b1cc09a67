//! What kind of program this is: what it may trust, and what it can load.

use std::ffi::{c_int, c_void};

use once_cell::sync::Lazy;

/// Does it run with more rights than whoever started it? Then the environment and the
/// current directory are a stranger's words.
pub(crate) fn is_secure() -> bool {
    // SAFETY: answers a number; there is nothing that it could touch.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Is it fully static? A Rust program says so when it is compiled; a C program that is
/// linked with `-static` or `-static-pie` does by having no interpreter, for lcr-core in
/// its `liblcr.a` was compiled for dynamic ones.
pub(crate) fn is_static() -> bool {
    static IS: Lazy<bool> = Lazy::new(|| !has_interpreter());
    cfg!(target_feature = "crt-static") || *IS
}

/// Has the program itself, the first that is listed, a PT_INTERP header?
fn has_interpreter() -> bool {
    unsafe extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
        // SAFETY: the headers of an object that is mapped; `found` is the `bool` below.
        unsafe {
            let headers = std::slice::from_raw_parts((*info).dlpi_phdr, (*info).dlpi_phnum.into());
            *found.cast::<bool>() = headers.iter().any(|header| header.p_type == libc::PT_INTERP);
        }
        1
    }
    let mut found = false;
    // SAFETY: `first` is called once, with `found`, before this returns.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut found).cast()) };
    found
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_test_program_is_what_it_was_compiled_as() {
        assert_eq!(super::is_static(), cfg!(target_feature = "crt-static"));
        assert!(!super::is_secure());
    }
}
