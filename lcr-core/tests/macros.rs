//! What the macros write, looked at and called as the factory does it, but without
//! a factory: an instance's head is made by hand.

#![allow(unreachable_pub, reason = "the shapes stand as a crate of their own would write them")]

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use lcr_core::contract::{MethodView, Provide};
use lcr_core::descriptor::{Iface, MAGIC, Prologue};
use lcr_core::gate::InstanceHead;
use lcr_core::interface::Interface;
use lcr_core::registry::{Registration, registrations};
use lcr_core::text::{Piece, hash};
use lcr_core::{Abi, CallError, Contract};

/// The shapes of the tutorial, as they are written there.
mod api {
    #[lcr_core::contract]
    pub trait Clock: Send + Sync {
        fn now(&self) -> u64;
    }

    /// Greets.
    #[lcr_core::contract]
    pub trait Greeter: Send + Sync {
        /// Greets someone.
        fn greet(&self, who: &str) -> String;
        /// Appended later: providers built before it answer with this body.
        fn languages(&self) -> Vec<String> {
            vec!["en".into(), self.greet("you")]
        }
    }
}

#[lcr_core::component]
mod english {
    use super::api::{Clock, Greeter};

    #[derive(lcr_core::Interface)]
    #[interface(name = "greeter", version = 2, replaces(0, 1), contract = dyn Greeter, requires("clock" as dyn Clock))]
    pub struct English {
        clock: Handle<dyn Clock>,
    }

    impl Construct for English {
        fn construct(cx: &Context) -> Result<Self, BoxError> {
            Ok(English { clock: cx.require("clock")? })
        }
    }

    impl Greeter for English {
        fn greet(&self, who: &str) -> String {
            format!("hello, {who}, at {}", self.clock.now())
        }
    }
}

/// A component that is a file, with all that a file can hold.
mod polyglot {
    use super::api::{Clock, Greeter};
    use lcr_core::prelude::*;

    #[derive(Interface)]
    #[interface(name = "clock", version = 7, contract = dyn Clock, per_reference, state)]
    pub struct Noon;

    impl Construct for Noon {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Noon)
        }
    }

    impl Handover for Noon {
        fn save(&self, _: &mut State) -> Result<(), BoxError> {
            Ok(())
        }

        fn restore(_: &Context, _: &State) -> Result<Self, BoxError> {
            Ok(Noon)
        }
    }

    impl Clock for Noon {
        fn now(&self) -> u64 {
            12
        }
    }

    #[derive(Interface)]
    #[interface(name = "greeter", version = 3, contract = dyn Greeter)]
    pub struct German;

    impl Construct for German {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(German)
        }
    }

    impl Greeter for German {
        fn greet(&self, who: &str) -> String {
            format!("hallo, {who}")
        }

        fn languages(&self) -> Vec<String> {
            vec!["de".into()]
        }
    }

    lcr_core::file_component! {
        Noon,
        German,
        #[interface(name = "raw.thing", version = 0)]
        mod thing {
            #[function]
            pub extern "C" fn answer() -> c_int {
                42
            }
        }
    }
}

/// Raw tables, in two versions, beside a typed interface.
#[lcr_core::component(name = "a")]
mod raw {
    use super::api::Clock;

    #[interface(name = "A_iface1", version = 0, requires("clock" as dyn Clock, "raw.thing"))]
    mod v0 {
        #[function]
        extern "C" fn func1() -> c_int {
            10
        }

        extern "C" fn not_in_the_table() -> c_int {
            -1
        }

        #[cfg(any())]
        #[function]
        extern "C" fn configured_out() {}

        #[function]
        pub unsafe extern "C" fn func2(n: *const c_int) -> c_int {
            let _ = not_in_the_table;
            // SAFETY: the test passes a number.
            unsafe { *n * 2 }
        }
    }

    #[interface(name = "A_iface1", version = 1, replaces(0))]
    mod v1 {
        #[constructor]
        extern "C" fn constructor(context: *mut c_void) -> c_int {
            context as usize as c_int
        }

        #[destructor]
        unsafe extern "C" fn destructor(context: *mut c_void) {
            // SAFETY: the test passes a number of its own.
            unsafe { *context.cast::<c_int>() = 5 };
        }

        #[function]
        extern "C" fn func1() {}
    }

    #[derive(Interface)]
    #[interface(name = "clock", version = 8, replaces(7), contract = dyn Clock)]
    pub struct Midnight;

    impl Construct for Midnight {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Midnight)
        }
    }

    impl Clock for Midnight {
        fn now(&self) -> u64 {
            0
        }
    }
}

/// Names of the prelude, which are other things here.
struct Value(u64);
struct Instance(Value);

/// What a module declares or imports by name wins over the prelude, with a glob too.
#[lcr_core::component]
mod own_names {
    use super::api::*;
    #[allow(unused_imports)]
    use super::*;
    use super::{Instance, Value};

    struct State(Instance);

    #[derive(Interface)]
    #[interface(name = "clock", version = 9, contract = dyn Clock)]
    pub struct Clockwork(State);

    impl Construct for Clockwork {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Clockwork(State(Instance(Value(9)))))
        }
    }

    impl Clock for Clockwork {
        fn now(&self) -> u64 {
            self.0.0.0.0
        }
    }

    #[test]
    fn are_those_of_the_module() {
        assert_eq!(Clockwork(State(Instance(Value(3)))).now(), 3);
    }
}

/// An instance's head as the factory would make it, for an object on the stack: of
/// the frozen layout, a call through a proxy reads these three fields only.
#[repr(C, align(64))]
struct Head {
    object: *const (),
    methods: *const (),
    method_count: usize,
    rest: [usize; 13],
}

const _: () = assert!(size_of::<Head>() >= size_of::<InstanceHead>());

fn head<T, C: Provide<T> + ?Sized>(object: &T, methods: &'static C::Methods, count: usize) -> Head {
    Head {
        object: std::ptr::from_ref(object).cast(),
        methods: std::ptr::from_ref(methods).cast(),
        method_count: count,
        rest: [0; 13],
    }
}

/// The proxy over a head.
fn proxy<C: Contract + ?Sized>(head: &Head) -> &C::Proxy {
    // SAFETY: `Contract` promises that the proxy is transparent over a head; the
    // object and the table of these heads outlive them.
    unsafe { &*std::ptr::from_ref(head).cast() }
}

/// The methods of `T` as a static: what a typed table holds behind its prologue.
macro_rules! methods {
    ($contract:ty, $provider:ty) => {{
        static METHODS: <$contract as Contract>::Methods = <$contract as Provide<$provider>>::METHODS;
        &METHODS
    }};
}

fn registration(component: &str) -> &'static Registration {
    let mut found = registrations().into_iter().filter(|r| r.name() == component);
    let registration = found.next().expect("the component is registered");
    assert!(found.next().is_none(), "once");
    registration
}

fn ifaces(component: &str) -> &'static [Iface] {
    // SAFETY: the macro wrote the descriptor.
    unsafe { registration(component).comp().ifaces() }
}

#[test]
fn a_component_registers_what_it_offers() {
    let english = registration("english");
    assert_eq!(english.package(), "lcr-core");
    assert_eq!(english.package_version(), env!("CARGO_PKG_VERSION"));
    assert_eq!(english.module(), "macros::english");

    let [iface] = ifaces("english") else { panic!("one interface") };
    // SAFETY: the macro wrote the descriptor.
    unsafe {
        assert_eq!(iface.name(), "greeter");
        assert_eq!(iface.replaces(), [0, 1]);
        assert_eq!(iface.requires(), ["clock"]);
        let prologue = iface.prologue().expect("a typed table");
        assert_eq!((*prologue.signature).contract(), "Greeter");
        assert_eq!(prologue.flags, 0);
        assert_eq!(prologue.magic, MAGIC);
    }
    assert_eq!(iface.version, 2);
    assert!(iface.constructor.is_none() && iface.destructor.is_none());
}

#[test]
fn a_file_is_a_component_that_is_called_like_it() {
    let ifaces = ifaces("polyglot");
    // SAFETY: the macro wrote the descriptors.
    let names: Vec<_> = ifaces.iter().map(|i| (unsafe { i.name() }.into_owned(), i.version)).collect();
    assert_eq!(names, [("clock".to_owned(), 7), ("greeter".to_owned(), 3), ("raw.thing".to_owned(), 0)]);
    // SAFETY: as above.
    let prologue = unsafe { ifaces[0].prologue() }.expect("a typed table");
    assert_eq!(prologue.flags, Prologue::PER_REFERENCE | Prologue::STATE);
}

#[test]
fn a_raw_table_holds_the_marked_functions_in_their_order() {
    let [v0, v1, clock] = ifaces("a") else { panic!("three interfaces") };
    // SAFETY: the tables are those of the module above, called by their types.
    unsafe {
        assert!(clock.prologue().is_some(), "typed ones come in the order of the source too");
        assert!(v0.prologue().is_none() && v1.prologue().is_none());
        assert_eq!((v0.name().as_ref(), v0.version, v1.version), ("A_iface1", 0, 1));
        assert_eq!(v0.requires(), ["clock", "raw.thing"]);
        assert_eq!(v1.replaces(), [0]);
        assert!(v0.constructor.is_none() && v0.destructor.is_none());

        let table =
            v0.interfaces.cast::<(extern "C" fn() -> c_int, unsafe extern "C" fn(*const c_int) -> c_int)>();
        assert_eq!(((*table).0)(), 10);
        assert_eq!(((*table).1)(&21), 42);

        let mut seen: c_int = 0;
        assert_eq!(v1.constructor.expect("it has one")(7 as *mut c_void), 7);
        v1.destructor.expect("it has one")((&raw mut seen).cast());
        assert_eq!(seen, 5);
    }
}

#[test]
fn a_signature_tells_names_shapes_and_hashes() {
    let signature = <dyn api::Greeter as Contract>::SIGNATURE;
    let methods: Vec<_> = signature.methods().iter().map(MethodView::from).collect();
    let greet = hash(&[Piece::Str("fn(&str) -> String")]);
    let languages = hash(&[Piece::Str("fn() -> Vec<String>")]);
    assert_eq!(
        methods,
        [
            MethodView { name: "greet", shape: "fn(&str) -> String", hash: greet, has_default: false },
            MethodView {
                name: "languages",
                shape: "fn() -> Vec<String>",
                hash: languages,
                has_default: true
            },
        ]
    );
    assert_eq!((signature.contract(), <dyn api::Greeter as Contract>::NAME), ("Greeter", "Greeter"));
}

#[test]
fn a_note_is_json_that_says_what_the_descriptor_says() {
    const NOTE: &[Piece] = <english::English as Interface>::NOTE;
    const TEXT: [u8; lcr_core::text::len(NOTE)] = lcr_core::text::write(NOTE);
    let json: serde_json::Value = serde_json::from_slice(&TEXT).expect("JSON");
    assert_eq!(
        json,
        serde_json::json!({
            "name": "greeter", "version": 2, "replaces": [0, 1], "requires": ["clock"],
            "per_reference": false, "state": false,
            "contract": {"name": "Greeter", "methods": [
                {"name": "greet", "signature": "fn(&str) -> String", "default": false,
                 "hash": format!("{:016x}", hash(&[Piece::Str("fn(&str) -> String")]))},
                {"name": "languages", "signature": "fn() -> Vec<String>", "default": true,
                 "hash": format!("{:016x}", hash(&[Piece::Str("fn() -> Vec<String>")]))},
            ]},
        })
    );
}

#[test]
fn the_file_itself_holds_the_notes() {
    let file = std::env::current_exe().expect("a file of its own");
    let notes = lcr_core::metadata::Metadata::read(&file).expect("notes");
    let text = format!("{notes:?}");
    for component in ["english", "polyglot", "\"a\"", "A_iface1", "raw.thing", "Greeter", "Clock"] {
        assert!(text.contains(component), "{component} in {text}");
    }
}

#[test]
fn a_call_goes_through_the_table() {
    use api::Greeter;
    let head = head::<_, dyn Greeter>(&polyglot::German, methods!(dyn Greeter, polyglot::German), 2);
    let german = proxy::<dyn Greeter>(&head);
    assert_eq!(german.greet("Welt"), "hallo, Welt");
    assert_eq!(german.languages(), ["de"]);
    let german: &dyn Greeter = german;
    assert_eq!(german.greet("du"), "hallo, du");
}

#[test]
fn the_body_of_the_trait_answers_for_an_older_provider() {
    use api::Greeter;
    let head = head::<_, dyn Greeter>(&polyglot::German, methods!(dyn Greeter, polyglot::German), 1);
    // The default body's own call reaches the provider.
    assert_eq!(proxy::<dyn Greeter>(&head).languages(), ["en", "hallo, you"]);
}

/// Each kind of argument and result, and names that could meet the macro's own.
#[lcr_core::contract]
#[allow(clippy::too_many_arguments)]
trait Shapes: Send + Sync {
    fn nothing(&self);
    fn numbers(
        &self,
        frame: u8,
        wire0: i64,
        head: f32,
        this: char,
        reply: bool,
    ) -> (u8, i64, f32, char, bool);
    fn lent(&self, names: &[String], point: &Point, rest: (&str, &[u8])) -> usize;
    fn moved(&self, names: Vec<String>, _: Option<Point>) -> Result<Vec<Point>, String>;
    fn named<'a>(&'a self, one: &'a str, two: &'a str) -> String;
    fn r#type(&self, r#in: u32) -> u32;
    #[cfg(any())]
    fn configured_out(&self, what: NoSuchType);
    fn twice(&self, mut n: u32) -> u32 {
        n += n;
        self.r#type(n)
    }
    #[deprecated]
    fn old(&self) -> u32 {
        self.twice(2)
    }
    fn failing(&self, how: &str) -> Result<u32, Failure>;
}

#[derive(Abi, Clone, Debug, PartialEq)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Abi, Clone, Debug, PartialEq)]
struct Failure(String);

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Failure(error.to_string())
    }
}

struct All;

impl Shapes for All {
    fn nothing(&self) {
        std::panic::resume_unwind(Box::new("nothing to do"));
    }

    fn numbers(&self, a: u8, b: i64, c: f32, d: char, e: bool) -> (u8, i64, f32, char, bool) {
        (a, b, c, d, e)
    }

    fn lent(&self, names: &[String], point: &Point, rest: (&str, &[u8])) -> usize {
        names.iter().map(String::len).sum::<usize>() + point.x as usize + rest.0.len() + rest.1.len()
    }

    fn moved(&self, names: Vec<String>, point: Option<Point>) -> Result<Vec<Point>, String> {
        point.map(|p| vec![p; names.len()]).ok_or(names.concat())
    }

    fn named<'a>(&'a self, one: &'a str, two: &'a str) -> String {
        [one, two].concat()
    }

    fn r#type(&self, n: u32) -> u32 {
        n + 1
    }

    fn failing(&self, how: &str) -> Result<u32, Failure> {
        match how {
            "panic" => std::panic::resume_unwind(Box::new("it broke".to_owned())),
            "error" => Err(Failure("it said so".to_owned())),
            _ => Ok(1),
        }
    }
}

fn shapes(count: usize) -> Head {
    head::<_, dyn Shapes>(&All, methods!(dyn Shapes, All), count)
}

#[test]
fn values_cross_in_both_directions() {
    let head = shapes(9);
    let all = proxy::<dyn Shapes>(&head);
    assert_eq!(all.numbers(1, -2, 0.5, 'ß', true), (1, -2, 0.5, 'ß', true));
    let names = ["ab".to_owned(), "c".to_owned()];
    assert_eq!(all.lent(&names, &Point { x: 10, y: 0 }, ("xyz", &[0; 4])), 20);
    let point = Point { x: 1, y: 2 };
    assert_eq!(all.moved(names.to_vec(), Some(point.clone())), Ok(vec![point.clone(), point]));
    assert_eq!(all.moved(names.to_vec(), None), Err("abc".to_owned()));
    assert_eq!(all.named("a", "b"), "ab");
    assert_eq!(all.r#type(1), 2);
    assert_eq!(all.twice(3), 7);
}

#[test]
fn names_in_a_signature_are_plain_and_what_is_configured_out_is_not_there() {
    let methods = <dyn Shapes as Contract>::SIGNATURE.methods();
    let names: Vec<_> = methods.iter().map(lcr_core::contract::Method::name).collect();
    assert_eq!(names, ["nothing", "numbers", "lent", "moved", "named", "type", "twice", "old", "failing"]);
    assert_eq!(methods[0].shape(), "fn()");
    assert_eq!(methods[2].shape(), "fn(&[String], &Point{x: i32, y: i32}, (&str, &[u8])) -> usize");
}

#[test]
fn a_default_body_that_calls_a_default_body_reaches_the_provider_at_last() {
    let head = shapes(6);
    #[allow(deprecated)]
    let old = proxy::<dyn Shapes>(&head).old();
    assert_eq!(old, 5);
}

#[test]
fn a_panic_goes_on_in_the_caller_with_its_message() {
    let head = shapes(9);
    let raised = catch_unwind(AssertUnwindSafe(|| proxy::<dyn Shapes>(&head).nothing())).unwrap_err();
    assert_eq!(raised.downcast_ref::<String>().expect("text"), "nothing to do");
}

#[test]
fn an_error_that_can_hold_a_panic_gets_it() {
    let head = shapes(9);
    let all = proxy::<dyn Shapes>(&head);
    assert_eq!(all.failing("not"), Ok(1));
    assert_eq!(all.failing("error"), Err(Failure("it said so".to_owned())));
    assert_eq!(
        all.failing("panic"),
        Err(Failure("the component panicked in `Shapes::failing`: it broke".to_owned()))
    );
}
