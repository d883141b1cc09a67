//! The two ends of a typed call.
//!
//! Nothing unwinds across the border: each module has its own copy of the
//! standard library, and a foreign panic cannot be caught. So the component's end
//! catches its own panic ([`answer`]) and sends the message in the place of a
//! value; the caller's end ([`Reply::take`]) raises it again in the caller's own
//! runtime, or hands it over as a [`CallError`] where the method's error type can
//! hold one.
//!
//! A component that was compiled with `panic = "abort"` cannot catch anything:
//! its panic ends the process, as in every other framework.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::services::Message;

/// What a thunk returns: a value, or the message of the panic that it caught.
///
/// `#[repr(C)]`, so that a value of one word comes back in a register beside the
/// null, and nothing goes through memory.
#[repr(C)]
#[derive(Debug)]
pub struct Reply<W> {
    panic: *mut Message,
    value: MaybeUninit<W>,
}

/// The component's end: runs `body` and catches what it raises.
#[inline(always)]
pub fn answer<W: Copy>(body: impl FnOnce() -> W) -> Reply<W> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => Reply { panic: std::ptr::null_mut(), value: MaybeUninit::new(value) },
        Err(payload) => raised(payload),
    }
}

/// The answer where there is none. Out of line: a thunk's own frame stays small.
#[cold]
#[inline(never)]
fn raised<W>(payload: Box<dyn Any + Send>) -> Reply<W> {
    Reply { panic: caught(payload), value: MaybeUninit::uninit() }
}

/// A panic's message on its way across the border. The payload is dropped here,
/// in the module that made it.
#[cold]
pub(crate) fn caught(payload: Box<dyn Any + Send>) -> *mut Message {
    let text = panic_text(&*payload);
    let message = Message::new(&text);
    // A payload may panic when it is dropped; there is nobody left to tell.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    message
}

/// What a panic says: its text, or that it has none.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic whose payload is no text".to_owned()
    }
}

impl<W: Copy> Reply<W> {
    /// The caller's end: the value, or the panic's message.
    ///
    /// # Errors
    ///
    /// The message, where the component panicked.
    ///
    /// # Safety
    ///
    /// The reply must have come from [`answer`], here or in another module, and
    /// be taken once.
    #[inline(always)]
    pub unsafe fn take(self) -> Result<W, Caught> {
        if self.panic.is_null() {
            // SAFETY: `answer` writes the value whenever it writes the null.
            Ok(unsafe { self.value.assume_init() })
        } else {
            Err(Caught(self.panic))
        }
    }
}

/// A panic that was caught on the other side of the border.
#[derive(Debug)]
pub struct Caught(*mut Message);

impl Caught {
    /// The panic's message.
    #[cold]
    pub(crate) fn into_message(self) -> String {
        // SAFETY: the pointer came from `Message::new` through `caught`, and
        // `self` is consumed.
        unsafe { Message::take(self.0) }
    }

    /// The error that says so. `contract` and `method` are the caller's names.
    #[cold]
    #[must_use]
    pub fn into_error(self, contract: &'static str, method: &'static str) -> CallError {
        CallError { contract, method, message: self.into_message() }
    }
}

/// A call that did not return a value, because the component panicked in it.
///
/// A method whose error type is `From<CallError>` returns it; for the others the
/// panic goes on in the caller, with the same message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    contract: &'static str,
    method: &'static str,
    message: String,
}

impl CallError {
    /// The contract that the call went through.
    #[must_use]
    pub fn contract(&self) -> &str {
        self.contract
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method
    }

    /// The panic's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CallError { contract, method, message } = self;
        write!(f, "the component panicked in `{contract}::{method}`: {message}")
    }
}

impl std::error::Error for CallError {}

/// Decides what a caught panic becomes for a method that returns `R`.
///
/// The macro writes `OnPanic::<R>::new().settle(error)`. Where `R` is a `Result`
/// whose error is `From<CallError>`, that is the inherent method below, and an
/// error comes back; for every other type it is the trait's, and the panic goes
/// on. Method look-up prefers the inherent one: no specialisation is needed.
#[derive(Debug)]
pub struct OnPanic<R>(PhantomData<fn() -> R>);

/// Runs what a caller does with a caught panic away from the calls that have none.
#[cold]
#[inline(never)]
pub fn away<R>(settle: impl FnOnce() -> R) -> R {
    settle()
}

impl<R> OnPanic<R> {
    /// The decision for `R`.
    #[allow(clippy::new_without_default, reason = "a step of a macro, not a value")]
    #[must_use]
    pub const fn new() -> Self {
        OnPanic(PhantomData)
    }
}

impl<T, E: From<CallError>> OnPanic<Result<T, E>> {
    /// The error as the method's own.
    ///
    /// # Errors
    ///
    /// Always.
    #[cold]
    pub fn settle(self, error: CallError) -> Result<T, E> {
        Err(E::from(error))
    }
}

/// The other half of [`OnPanic`].
pub trait Resume<R> {
    /// Lets the panic go on in the caller.
    fn settle(self, error: CallError) -> R;
}

impl<R> Resume<R> for OnPanic<R> {
    /// Raises the message again. The panic hook has already run, in the component.
    #[cold]
    fn settle(self, error: CallError) -> R {
        resume_unwind(Box::new(error.message))
    }
}

/// Whether what a method returned is an error: decided as [`OnPanic`] is, for any
/// type, `Result` or not.
#[derive(Debug)]
pub struct Returned<'a, R>(pub &'a R);

impl<T, E> Returned<'_, Result<T, E>> {
    /// It is, or is not.
    #[inline(always)]
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.0.is_err()
    }
}

/// The other half of [`Returned`].
pub trait NoError {
    /// Never.
    fn is_error(&self) -> bool;
}

impl<R> NoError for Returned<'_, R> {
    #[inline(always)]
    fn is_error(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back() {
        // SAFETY: the reply is `answer`'s.
        assert_eq!(unsafe { answer(|| 7_u64).take() }.unwrap(), 7);
    }

    #[test]
    fn an_error_is_seen_in_a_result_and_in_nothing_else() {
        assert!(Returned(&Err::<u8, u8>(1)).is_error());
        assert!(!Returned(&Ok::<u8, u8>(1)).is_error());
        assert!(!Returned(&Some(1)).is_error());
    }

    #[test]
    fn a_panic_comes_back_as_its_message() {
        let reply = answer(|| -> u64 { resume_unwind(Box::new("no disk".to_owned())) });
        // SAFETY: the reply is `answer`'s.
        let error = unsafe { reply.take() }.unwrap_err().into_error("Store", "put");
        assert_eq!(error.to_string(), "the component panicked in `Store::put`: no disk");
    }

    #[test]
    fn an_error_type_that_can_hold_it_gets_it_and_any_other_panics() {
        #[derive(Debug, PartialEq)]
        struct Mine(CallError);
        impl From<CallError> for Mine {
            fn from(e: CallError) -> Self {
                Mine(e)
            }
        }
        let error = CallError { contract: "C", method: "m", message: "boom".into() };
        let settled: Result<u8, Mine> = OnPanic::<Result<u8, Mine>>::new().settle(error.clone());
        assert_eq!(settled, Err(Mine(error.clone())));

        let raised = catch_unwind(|| OnPanic::<Result<u8, String>>::new().settle(error)).unwrap_err();
        assert_eq!(raised.downcast_ref::<String>().unwrap(), "boom");
    }
}
