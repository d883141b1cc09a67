//! What the benchmarks call, and what calls it.
//!
//! One source, linked into the benchmark and built as a library: so the caller
//! ([`Driver`]) and the callee ([`Work`]) can each stand on either side of a
//! library's border.

use std::time::Duration;

use lcr_core::Handle;

/// What is called.
#[lcr_core::contract]
pub trait Work: Send + Sync {
    /// A little: an addition that panics on overflow, so that the panic's capture
    /// cannot be optimised away.
    fn add(&self, x: u64) -> u64;
    /// Text in, text out.
    fn greet(&self, who: &str) -> String;
    /// A buffer in, the same buffer out.
    fn turn(&self, data: Vec<u8>) -> Vec<u8>;
    /// The two words of a `Box<dyn Work>` made on this side of the border, leaked:
    /// see [`Plain`].
    fn plain(&self) -> (u64, u64);
}

/// A `&'static dyn Work` of the other side, as one would pass it without a
/// framework between modules that one compiler has built on one day. What a call
/// through it costs is what the border itself costs: the distance of the code.
#[derive(Clone, Copy)]
pub struct Plain(&'static dyn Work);

impl Plain {
    /// That of the side that `work` is on.
    #[must_use]
    pub fn of(work: &Handle<dyn Work>) -> Plain {
        let (data, vtable) = work.plain();
        // SAFETY: the two words of a leaked `Box<dyn Work>`; both sides are built in
        // one run of cargo, which the benchmark does, and so agree on the layout.
        Plain(unsafe { std::mem::transmute::<[u64; 2], &'static dyn Work>([data, vtable]) })
    }
}

impl Plain {
    /// What is called.
    #[must_use]
    pub fn get(self) -> &'static dyn Work {
        std::hint::black_box(self).0
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plain")
    }
}

/// The words of a new one.
fn plain() -> (u64, u64) {
    let plain: &'static dyn Work = std::hint::black_box(Box::leak(boxed()));
    // SAFETY: two words of plain data.
    let [data, vtable] = unsafe { std::mem::transmute::<&'static dyn Work, [u64; 2]>(plain) };
    (data, vtable)
}

/// What calls: `calls` times in a row, in one of the ways of [`Way`]. Answers how
/// long that took.
#[lcr_core::contract]
pub trait Driver: Send + Sync {
    /// Calls `work`.
    fn drive(&self, work: Handle<dyn Work>, way: u32, calls: u64) -> Duration;
}

/// Records that are handed over when their keeper is replaced.
#[lcr_core::contract]
pub trait Records: Send + Sync {
    /// How many there are.
    fn count(&self) -> u64;
}

/// A way to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Way {
    /// `Box<dyn Work>` of the callee's side: the same type, no framework.
    Boxed,
    /// An `Instance`.
    Instance,
    /// A `Handle`.
    Handle,
    /// A `Handle` that was entered before the loop.
    Entered,
    /// `Box<dyn Work>`, from a function that is not inlined.
    BoxedOne,
    /// An `Instance`, from a function that is not inlined.
    InstanceOne,
    /// A `Handle`, from a function that is not inlined.
    HandleOne,
    /// `greet` of a `Box<dyn Work>`.
    BoxedText,
    /// `greet` of a `Handle`.
    HandleText,
    /// `turn` of a `Box<dyn Work>`, with 1 MiB.
    BoxedBuffer,
    /// `turn` of a `Handle`, with 1 MiB.
    HandleBuffer,
}

impl Way {
    /// All of them, by number.
    pub const ALL: [Way; 11] = [
        Way::Boxed,
        Way::Instance,
        Way::Handle,
        Way::Entered,
        Way::BoxedOne,
        Way::InstanceOne,
        Way::HandleOne,
        Way::BoxedText,
        Way::HandleText,
        Way::BoxedBuffer,
        Way::HandleBuffer,
    ];
}

/// How long the buffer is that `turn` is called with.
pub const BUFFER: usize = 1 << 20;

/// The same work without a framework: what a `Box<dyn Work>` holds.
#[must_use]
pub fn boxed() -> Box<dyn Work> {
    std::hint::black_box(Box::new(components::Adder::new()))
}

/// The components.
#[lcr_core::component]
pub mod components {
    use std::hint::black_box;
    use std::time::{Duration, Instant};

    use lcr_core::{Handle, Instance};

    use super::{BUFFER, Driver, Plain, Way, Work};

    /// Adds.
    #[derive(lcr_core::Interface)]
    #[interface(name = "bench.work", version = 0, replaces(1), contract = dyn Work)]
    pub struct Adder(u64);

    /// Adds as well: what the first one is replaced by, and the other way round.
    #[derive(lcr_core::Interface)]
    #[interface(name = "bench.work", version = 1, replaces(0), contract = dyn Work)]
    pub struct Next(Adder);

    impl Adder {
        pub(super) fn new() -> Self {
            Adder(black_box(1))
        }
    }

    impl Construct for Adder {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Adder::new())
        }
    }

    impl Construct for Next {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Next(Adder::new()))
        }
    }

    impl Work for Adder {
        fn add(&self, x: u64) -> u64 {
            (x >> 1).checked_add(self.0).expect("half of a number and one")
        }

        fn greet(&self, who: &str) -> String {
            let mut text = String::with_capacity(who.len() + 7);
            text.push_str("Hello, ");
            text.push_str(who);
            text
        }

        fn turn(&self, mut data: Vec<u8>) -> Vec<u8> {
            data[0] = data[0].wrapping_add(1);
            data
        }

        fn plain(&self) -> (u64, u64) {
            super::plain()
        }
    }

    impl Work for Next {
        fn add(&self, x: u64) -> u64 {
            self.0.add(x)
        }

        fn greet(&self, who: &str) -> String {
            self.0.greet(who)
        }

        fn turn(&self, data: Vec<u8>) -> Vec<u8> {
            self.0.turn(data)
        }

        fn plain(&self) -> (u64, u64) {
            super::plain()
        }
    }

    /// Calls.
    #[derive(lcr_core::Interface)]
    #[interface(name = "bench.driver", version = 0, contract = dyn Driver)]
    pub struct Caller;

    impl Construct for Caller {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Caller)
        }
    }

    impl Driver for Caller {
        fn drive(&self, work: Handle<dyn Work>, way: u32, calls: u64) -> Duration {
            let boxed = Plain::of(&work).get();
            let pinned = Handle::instance(&work);
            match Way::ALL[way as usize] {
                Way::Boxed => add(calls, |x| boxed.add(x)),
                Way::Instance => add(calls, |x| pinned.add(x)),
                Way::Handle => add(calls, |x| work.add(x)),
                Way::Entered => {
                    let inside = Handle::enter(&work);
                    add(calls, |x| inside.add(x))
                }
                Way::BoxedOne => add(calls, |x| one_boxed(boxed, x)),
                Way::InstanceOne => add(calls, |x| one_instance(&pinned, x)),
                Way::HandleOne => add(calls, |x| one_handle(&work, x)),
                Way::BoxedText => text(calls, |who| boxed.greet(who)),
                Way::HandleText => text(calls, |who| work.greet(who)),
                Way::BoxedBuffer => buffer(calls, |data| boxed.turn(data)),
                Way::HandleBuffer => buffer(calls, |data| work.turn(data)),
            }
        }
    }

    #[inline(always)]
    fn add(calls: u64, call: impl Fn(u64) -> u64) -> Duration {
        let mut sum = black_box(0);
        let start = Instant::now();
        for i in 0..calls {
            sum = call(sum ^ i);
        }
        let took = start.elapsed();
        black_box(sum);
        took
    }

    #[inline(always)]
    fn text(calls: u64, call: impl Fn(&str) -> String) -> Duration {
        let who = black_box("everybody who listens");
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call(who));
        }
        start.elapsed()
    }

    #[inline(always)]
    fn buffer(calls: u64, call: impl Fn(Vec<u8>) -> Vec<u8>) -> Duration {
        let mut data = black_box(vec![1; BUFFER]);
        let start = Instant::now();
        for _ in 0..calls {
            data = black_box(call(data));
        }
        let took = start.elapsed();
        assert_eq!(data.len(), BUFFER, "the buffer came back");
        took
    }

    #[inline(never)]
    fn one_boxed(work: &dyn Work, x: u64) -> u64 {
        work.add(x)
    }

    #[inline(never)]
    fn one_instance(work: &Instance<dyn Work>, x: u64) -> u64 {
        work.add(x)
    }

    #[inline(never)]
    fn one_handle(work: &Handle<dyn Work>, x: u64) -> u64 {
        work.add(x)
    }
}

/// Ten thousand records of 64 bytes, and two versions of who keeps them.
#[lcr_core::component]
pub mod records {
    use std::collections::HashMap;

    use lcr_core::{Handover, State};

    use super::Records;

    /// How many records there are.
    pub const COUNT: u64 = 10_000;

    type Kept = HashMap<u64, [u8; 56]>;

    /// The one.
    #[derive(lcr_core::Interface)]
    #[interface(name = "bench.records", version = 0, replaces(1), contract = dyn Records, state)]
    pub struct Zero(Kept);

    /// The other.
    #[derive(lcr_core::Interface)]
    #[interface(name = "bench.records", version = 1, replaces(0), contract = dyn Records, state)]
    pub struct One(Kept);

    fn new() -> Kept {
        (0..COUNT).map(|key| (key, [key as u8; 56])).collect()
    }

    fn save(kept: &Kept, state: &mut State) {
        let mut bytes = Vec::with_capacity(kept.len() * 64);
        for (key, record) in kept {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(record);
        }
        state.section("records", 1).write(&bytes);
    }

    fn restore(state: &State) -> Result<Kept, BoxError> {
        let section = state.read("records", 1..=1)?;
        let (records, rest) = section.bytes().as_chunks::<64>();
        if !rest.is_empty() {
            return Err("half a record".into());
        }
        let mut kept = Kept::with_capacity(records.len());
        for record in records {
            let (key, value) = record.split_at(8);
            kept.insert(u64::from_le_bytes(key.try_into()?), value.try_into()?);
        }
        Ok(kept)
    }

    impl Construct for Zero {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Zero(new()))
        }
    }

    impl Construct for One {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(One(new()))
        }
    }

    impl Handover for Zero {
        fn save(&self, state: &mut State) -> Result<(), BoxError> {
            save(&self.0, state);
            Ok(())
        }
        fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
            Ok(Zero(restore(state)?))
        }
    }

    impl Handover for One {
        fn save(&self, state: &mut State) -> Result<(), BoxError> {
            save(&self.0, state);
            Ok(())
        }
        fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
            Ok(One(restore(state)?))
        }
    }

    impl Records for Zero {
        fn count(&self) -> u64 {
            self.0.len() as u64
        }
    }

    impl Records for One {
        fn count(&self) -> u64 {
            self.0.len() as u64
        }
    }
}
