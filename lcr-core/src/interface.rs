//! What `#[derive(Interface)]` says of a type.

use crate::descriptor::Iface;
use crate::text::Piece;

/// A type that offers an interface. Only the derive implements it.
///
/// It asks for nothing itself: a bound here would be reported at every mention of
/// a type that does not meet it. `TypedTable::new`, which the derive calls once,
/// asks for [`Construct`](crate::Construct), `Send + Sync`, and the contract.
///
/// # Safety
///
/// `IFACE` must describe this very type: its table's thunks take a `*const Self`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` offers no interface",
    note = "derive it: `#[derive(lcr_core::Interface)] #[interface(name = \"…\", version = 0, contract = dyn …)]`"
)]
pub unsafe trait Interface: Sized {
    /// The contract that it is called through.
    type Contract: ?Sized;
    /// The interface's name.
    const NAME: &'static str;
    /// Its version.
    const VERSION: i32;
    /// The descriptor.
    const IFACE: Iface;
    /// The interface as JSON, for the component's note.
    const NOTE: &'static [Piece];
}
