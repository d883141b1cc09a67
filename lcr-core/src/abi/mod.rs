//! Values that cross the border between modules which share no compiler.
//!
//! Rust promises no layout for a `String` or an `Option`, and two libraries may
//! have been built by two compilers. So nothing crosses as it is: a value is
//! turned into its *wire* form, a `#[repr(C)]` structure of integers and
//! pointers, and back on the other side. For a number that is nothing at all,
//! for a `String` four words, and the text stays where it is.
//!
//! There are two ways across.
//!
//! - **Moved**: [`Abi::into_wire`] gives the value up, [`Abi::from_wire`] takes
//!   it. An owned buffer names its owner (see [`crate::allocator`]): a receiver
//!   with the same owner adopts it as it is, another copies it and has the
//!   owner free it at once.
//! - **Lent**: behind a reference the sender keeps the value. [`Abi::lend`] makes
//!   a wire that only points at it, [`Abi::borrow`] a *view*: a value that looks
//!   like the sender's and is never dropped. `&[String]` therefore costs an array
//!   of wires and an array of views, and no text is copied. The arrays live in
//!   each side's [`Frame`], which is freed when the call has returned.
//!
//! Slices and vectors of *plain* elements, whose layout is their wire's
//! ([`Abi::PLAIN`]), are neither converted nor copied.
//!
//! # A call
//!
//! ```
//! use lcr_core::abi::{Abi, Frame};
//!
//! type Argument<'a> = &'a [String];
//! // The wire is the same type for every lifetime.
//! type Wire = <Argument<'static> as Abi>::Wire;
//!
//! // The component's side.
//! unsafe extern "C" fn joined(names: Wire) -> <String as Abi>::Wire {
//!     let frame = Frame::new();
//!     // SAFETY: the caller made the wire for this call and keeps its frame.
//!     let names = unsafe { Argument::from_wire(names, &frame) };
//!     names.join(" ").into_wire(&frame)
//! }
//!
//! // The caller's side.
//! let names = ["Ada".to_string(), "Grace".to_string()];
//! let frame = Frame::new();
//! let wire = names.as_slice().into_wire(&frame);
//! // SAFETY: `joined` returns a wire of `String`, taken once.
//! let text = unsafe { String::from_wire(joined(wire), &frame) };
//! assert_eq!(text, "Ada Grace");
//! ```
//!
//! # Invariants
//!
//! - A wire holds no Rust layout, no niche and no lifetime. Its layout is frozen:
//!   `tests/abi_layout.rs`.
//! - A wire that was moved is taken exactly once; one that is not taken leaks.
//! - A view is never dropped, and never outlives the frames of its call.
//! - Whether a type is plain changes how fast it crosses, not its wire.
//! - A tag, `bool`, `char` or descriptor that the other side should not have sent
//!   is a panic, which is caught at the border.

mod borrowed;
mod buffer;
mod compound;
mod frame;
mod os;
mod raw;
mod values;

use std::mem::ManuallyDrop;

pub use buffer::Buffer;
pub use compound::{
    ArrayWire, OptionWire, ResultPayload, ResultWire, Tuple1, Tuple2, Tuple3, Tuple4, Tuple5, Tuple6, Tuple7,
    Tuple8,
};
pub use frame::Frame;
pub use lcr_macros::Abi;
pub use os::TimeWire;
pub use raw::{RawSlice, RawStr};
pub use values::{DurationWire, U128Wire};

use crate::text::Piece;

/// A type whose values can cross the border between modules.
///
/// Implemented for what the standard library has for it; for your own types,
/// `#[derive(Abi)]`:
///
/// ```
/// use lcr_core::abi::Abi;
///
/// #[derive(Abi)]
/// struct Point {
///     x: i32,
///     y: i32,
/// }
/// ```
///
/// # Safety
///
/// - `Wire` is `#[repr(C)]` or a primitive, and so is all it is made of, and every
///   module that agrees on [`SHAPE`](Self::SHAPE) agrees on its layout.
/// - `At<'f>` is `Self` but for lifetimes.
/// - `into_wire` then `from_wire`, in the same module or in two, is a move.
/// - What `borrow` returns owns nothing: forgetting it leaks nothing. It may share
///   memory with the sender's value and with other views, so a type with interior
///   mutability can implement this only if that is sound.
/// - [`PLAIN`](Self::PLAIN) and [`BORROWS`](Self::BORROWS) are true to what they say.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross between components",
    label = "has no fixed layout",
    note = "what can cross: integers, floats, `bool`, `char`, `()`, `&str`, `&[T]`, `&T`, `String`, `Vec<T>`, \
            `Box<T>`, `Option<T>`, `Result<T, E>`, tuples of up to 8, arrays, `Duration`, `SystemTime`, `PathBuf`, \
            `&Path`, `OwnedFd`, `BorrowedFd<'_>` and `Handle<dyn Contract>`",
    note = "a struct or an enum of your own can after `#[derive(lcr_core::Abi)]`"
)]
pub unsafe trait Abi: Sized {
    /// What is passed in its place.
    type Wire: Copy + 'static;

    /// The same type with `'f` for each lifetime in it: `&'f str` for a `&str`,
    /// the type itself if it has none.
    ///
    /// What a receiver gets borrows from its frame, so a component cannot keep
    /// it, nor a contract ask for a `&'static str`.
    type At<'f>: 'f;

    /// The type as text, its fields spelled out: `Vec<u8>`, `Point{x: i32, y: i32}`.
    ///
    /// It says what the type *is*: an alias or a path does not change it.
    const SHAPE: &'static [Piece];

    /// Whether the value and its wire have the same size, alignment and bytes,
    /// whatever the bytes are, and nothing to drop.
    ///
    /// Then a slice of one is a slice of the other.
    const PLAIN: bool = false;

    /// Whether a value holds references that live only as long as a call.
    ///
    /// Such a type can be an argument and cannot be returned. A type without
    /// borrows needs no [`Frame`] to be moved.
    const BORROWS: bool;

    /// Gives the value up; what it borrows is lent until `frame` is dropped.
    fn into_wire(self, frame: &Frame) -> Self::Wire;

    /// Takes the value.
    ///
    /// # Panics
    ///
    /// If the wire holds what the other side should not have sent.
    ///
    /// # Safety
    ///
    /// The wire must come from `into_wire` of a type with the same shape, and be
    /// taken once. If [`BORROWS`](Self::BORROWS), the value must not be used after
    /// the sender's frame is dropped, nor after the sender's borrow ends.
    unsafe fn from_wire<'f>(wire: Self::Wire, frame: &'f Frame) -> Self::At<'f>;

    /// Lends the value: the wire points at it, and into `frame`.
    fn lend(&self, frame: &Frame) -> Self::Wire;

    /// A view of a lent value, to be used behind a shared reference only.
    ///
    /// # Panics
    ///
    /// As for [`from_wire`](Self::from_wire).
    ///
    /// # Safety
    ///
    /// The wire must come from `lend` (or from `into_wire` of a value that nobody
    /// takes) of a type with the same shape. The view must not be changed or
    /// dropped, nor used after the sender's frame is dropped, nor after the
    /// sender's borrow ends.
    unsafe fn borrow<'f>(wire: Self::Wire, frame: &'f Frame) -> ManuallyDrop<Self::At<'f>>;
}

/// Fails to compile if values of `T` borrow: nothing of that kind can be returned.
///
/// # Panics
///
/// In the compiler, if `T` borrows.
#[doc(hidden)]
pub const fn assert_owned<T: Abi>() {
    assert!(!T::BORROWS, "this type holds references, which do not outlive the call: use an owned type");
}

/// The answer to a tag that names no variant of `name`.
#[doc(hidden)]
#[cold]
#[inline(never)]
pub fn unknown_variant(name: &str, tag: u32, known: &[&str]) -> ! {
    panic!(
        "`{name}` came from another module as variant number {tag}, and this side knows {} ({}): \
         the two were built from different declarations of `{name}`, rebuild both from one",
        known.len(),
        known.join(", ")
    )
}

/// Fails to compile if `T` says that it is plain and cannot be.
const fn assert_plain<T: Abi>() {
    if T::PLAIN {
        assert!(size_of::<T>() == size_of::<T::Wire>(), "a plain type is as large as its wire");
        assert!(align_of::<T>() == align_of::<T::Wire>(), "a plain type is aligned as its wire");
        assert!(!std::mem::needs_drop::<T>() && !T::BORROWS, "a plain type owns and borrows nothing");
    }
}

/// `lend` and `borrow` of a `Copy` type, which moves and lends in the same way.
macro_rules! lend_is_copy {
    () => {
        #[inline]
        fn lend(&self, frame: &$crate::abi::Frame) -> Self::Wire {
            (*self).into_wire(frame)
        }

        #[inline]
        unsafe fn borrow<'f>(
            wire: Self::Wire,
            frame: &'f $crate::abi::Frame,
        ) -> ::std::mem::ManuallyDrop<Self::At<'f>> {
            // SAFETY: the type is `Copy`: taking it takes nothing away. The rest
            // is the caller's word.
            ::std::mem::ManuallyDrop::new(unsafe { Self::from_wire(wire, frame) })
        }
    };
}
use lend_is_copy;
