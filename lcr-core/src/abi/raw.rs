//! Borrowed text and slices as plain pairs of words: what descriptors, tables
//! and services are written in, where Rust's own layouts are not promised.

use std::fmt;
use std::marker::PhantomData;

/// A `&str` whose layout is fixed: address, then length in bytes. UTF-8.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RawStr {
    ptr: *const u8,
    len: usize,
}

/// A `&[T]` whose layout is fixed: address, then number of elements.
#[repr(C)]
pub struct RawSlice<T> {
    ptr: *const T,
    len: usize,
    elements: PhantomData<*const T>,
}

impl RawStr {
    /// The pair for `text`.
    #[must_use]
    pub const fn new(text: &str) -> Self {
        RawStr { ptr: text.as_ptr(), len: text.len() }
    }

    /// The text.
    ///
    /// # Safety
    ///
    /// What the pair was made from must be alive for `'a`.
    #[must_use]
    pub const unsafe fn as_str<'a>(self) -> &'a str {
        // SAFETY: `new` took the pair from a `&str`, alive by the caller's word.
        unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(self.ptr, self.len)) }
    }
}

impl<T> RawSlice<T> {
    /// The pair for `slice`.
    #[must_use]
    pub const fn new(slice: &[T]) -> Self {
        RawSlice::from_parts(slice.as_ptr(), slice.len())
    }

    /// The pair of these two.
    #[must_use]
    pub const fn from_parts(ptr: *const T, len: usize) -> Self {
        RawSlice { ptr, len, elements: PhantomData }
    }

    /// Where the elements are; aligned and not null, also if there are none.
    #[must_use]
    pub const fn as_ptr(self) -> *const T {
        self.ptr
    }

    /// How many they are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The slice.
    ///
    /// # Safety
    ///
    /// What the pair was made from must be alive for `'a`.
    #[must_use]
    pub const unsafe fn as_slice<'a>(self) -> &'a [T] {
        // SAFETY: `new` took the pair from a `&[T]`, alive by the caller's word.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl<T> Clone for RawSlice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for RawSlice<T> {}

// SAFETY: a pair is as shareable as the reference that it was made from, and
// only `unsafe` functions look through it.
unsafe impl Sync for RawStr {}
// SAFETY: as above.
unsafe impl Send for RawStr {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for RawSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Send for RawSlice<T> {}

impl fmt::Debug for RawStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawStr({:p}, {})", self.ptr, self.len)
    }
}

impl<T> fmt::Debug for RawSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawSlice({:p}, {})", self.ptr, self.len)
    }
}
