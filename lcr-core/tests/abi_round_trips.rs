//! Whatever crosses arrives as it was sent: moved, lent behind `&T`, lent in a slice.

use std::collections::hash_map::RandomState;
use std::fmt::Debug;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lcr_core::abi::{Abi, Frame, OptionWire, RawSlice, ResultPayload, ResultWire, TimeWire};

/// SplitMix64: <https://prng.di.unimi.it/splitmix64.c>.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A type of which any value can be made.
trait Any {
    fn any(random: &mut Random) -> Self;
}

macro_rules! any {
    ($($ty:ty => |$random:ident| $value:expr;)*) => { $(
        impl Any for $ty {
            fn any($random: &mut Random) -> Self {
                $value
            }
        }
    )* };
}

any! {
    u8 => |r| r.next() as u8;
    u16 => |r| r.next() as u16;
    u32 => |r| r.next() as u32;
    u64 => |r| r.next();
    usize => |r| r.next() as usize;
    i8 => |r| r.next() as i8;
    i16 => |r| r.next() as i16;
    i32 => |r| r.next() as i32;
    i64 => |r| r.next() as i64;
    isize => |r| r.next() as isize;
    u128 => |r| u128::from(r.next()) << 64 | u128::from(r.next());
    i128 => |r| u128::any(r) as i128;
    f32 => |r| r.next() as f32 / 3.0;
    f64 => |r| r.next() as f64 / 3.0;
    bool => |r| r.below(2) == 1;
    char => |r| char::from_u32(r.below(0xd800) as u32).unwrap();
    () => |_r| ();
    String => |r| (0..r.below(20)).map(|_| char::any(r)).collect();
    Duration => |r| Duration::new(r.next() >> 1, r.below(1_000_000_000) as u32);
    PathBuf => |r| PathBuf::from(String::any(r));
    Point => |r| Point { x: Any::any(r), y: Any::any(r) };
    Id => |r| Id(Any::any(r));
    Nothing => |_r| Nothing;
    Entry => |r| Entry { name: Any::any(r), at: Any::any(r), tags: Any::any(r), r#type: Any::any(r) };
    Color => |r| [Color::Red, Color::Green][r.below(2)];
    Only => |_r| Only::One;
    Shape => |r| match r.below(4) {
        0 => Shape::Circle(Any::any(r)),
        1 => Shape::Square { side: Any::any(r), name: Any::any(r) },
        2 => Shape::Path(Any::any(r), Any::any(r)),
        _ => Shape::Empty,
    };
}

impl<T: Any> Any for Vec<T> {
    fn any(r: &mut Random) -> Self {
        let mut values: Vec<T> = (0..r.below(5)).map(|_| T::any(r)).collect();
        if r.below(2) == 0 {
            values.reserve(r.below(9));
        }
        values
    }
}

impl<T: Any> Any for Box<T> {
    fn any(r: &mut Random) -> Self {
        Box::new(T::any(r))
    }
}

impl<T: Any> Any for Option<T> {
    fn any(r: &mut Random) -> Self {
        (r.below(3) > 0).then(|| T::any(r))
    }
}

impl<T: Any, E: Any> Any for Result<T, E> {
    fn any(r: &mut Random) -> Self {
        if r.below(2) == 0 { Ok(T::any(r)) } else { Err(E::any(r)) }
    }
}

impl<T: Any, const N: usize> Any for [T; N] {
    fn any(r: &mut Random) -> Self {
        std::array::from_fn(|_| T::any(r))
    }
}

impl<A: Any, B: Any> Any for Pair<A, B> {
    fn any(r: &mut Random) -> Self {
        Pair { first: A::any(r), rest: Any::any(r) }
    }
}

impl<A: Any> Any for (A,) {
    fn any(r: &mut Random) -> Self {
        (A::any(r),)
    }
}

impl<A: Any, B: Any, C: Any> Any for (A, B, C) {
    fn any(r: &mut Random) -> Self {
        (A::any(r), B::any(r), C::any(r))
    }
}

type Eight = (u8, String, u16, Vec<u32>, u64, (), Option<i8>, char);

impl Any for Eight {
    fn any(r: &mut Random) -> Self {
        let r = &mut *r;
        (
            Any::any(r),
            Any::any(r),
            Any::any(r),
            Any::any(r),
            Any::any(r),
            Any::any(r),
            Any::any(r),
            Any::any(r),
        )
    }
}

#[repr(C)]
#[derive(Abi, Clone, Debug, PartialEq)]
struct Point {
    x: i32,
    y: i64,
}

#[repr(transparent)]
#[derive(Abi, Clone, Debug, PartialEq)]
struct Id(u64);

#[derive(Abi, Clone, Debug, PartialEq)]
struct Nothing;

#[derive(Abi, Clone, Debug, PartialEq)]
struct Entry {
    name: String,
    at: Point,
    tags: Vec<String>,
    r#type: Option<Color>,
}

#[derive(Abi, Clone, Copy, Debug, PartialEq)]
enum Color {
    Red = 7,
    Green = 3,
}

#[derive(Abi, Clone, Debug, PartialEq)]
enum Only {
    One,
}

#[derive(Abi, Clone, Debug, PartialEq)]
enum Shape {
    Circle(f64),
    Square { side: f64, name: String },
    Path(Vec<Point>, Option<Box<Entry>>),
    Empty,
}

#[derive(Abi, Clone, Debug, PartialEq)]
struct Pair<A, B> {
    first: A,
    rest: Vec<(A, B, u8)>,
}

#[derive(Abi, Clone, Copy, Debug, PartialEq)]
struct Line<'a, const N: usize> {
    text: &'a str,
    words: &'a [String],
    sums: [u16; N],
}

fn moved<T>(value: T) -> T
where
    T: for<'f> Abi<At<'f> = T>,
{
    let (sender, receiver) = (Frame::new(), Frame::new());
    let wire = value.into_wire(&sender);
    // SAFETY: the wire is of this type, and is taken once.
    unsafe { T::from_wire(wire, &receiver) }
}

/// Shows `check` what a receiver of `value` gets.
fn lent<T: Abi, R>(value: T, check: impl for<'f> FnOnce(T::At<'f>) -> R) -> R {
    let sender = Frame::new();
    let wire = value.into_wire(&sender);
    let receiver = Frame::new();
    // SAFETY: the wire is of this type, and what is borrowed lives in the two
    // frames and in what the test's caller holds.
    check(unsafe { T::from_wire(wire, &receiver) })
}

fn round_trip<T>()
where
    T: for<'f> Abi<At<'f> = T> + Any + Clone + Debug + PartialEq,
{
    let seed = if cfg!(miri) { 1 } else { RandomState::new().build_hasher().finish() };
    let mut random = Random(seed);
    for round in 0..if cfg!(miri) { 8 } else { 200 } {
        let value = T::any(&mut random);
        let at = format!("seed {seed:#x}, round {round}");
        assert_eq!(moved(value.clone()), value, "{at}");
        lent::<&T, _>(&value, |view| assert_eq!(view, &value, "{at}"));
        lent::<&&T, _>(&&value, |view| assert_eq!(*view, &value, "{at}"));
        let values = Vec::<T>::any(&mut random);
        lent::<&[T], _>(&values, |view| assert_eq!(view, values, "{at}"));
        lent::<&Vec<T>, _>(&values, |view| assert_eq!(view, &values, "{at}"));
        let nested = [values];
        let clone = lent::<&[Vec<T>], _>(&nested, |view| view.to_vec());
        assert_eq!(clone, nested, "{at}");
        lent::<Option<&T>, _>(Some(&value), |view| assert_eq!(view, Some(&value), "{at}"));
    }
}

macro_rules! round_trips {
    ($($name:ident: $($ty:ty),+;)*) => { $(
        #[test]
        fn $name() {
            $(round_trip::<$ty>();)+
        }
    )* };
}

round_trips! {
    numbers: u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, f32, f64;
    wide_numbers: u128, i128;
    small_values: bool, char, ();
    texts: String, PathBuf;
    spans_of_time: Duration;
    vectors: Vec<u8>, Vec<String>, Vec<Vec<String>>, Vec<()>, Vec<bool>, Vec<u128>, Vec<[u64; 0]>;
    boxes: Box<u32>, Box<String>, Box<()>, Box<Nothing>, Box<Box<Vec<u8>>>;
    options_and_results: Option<u8>, Option<Option<String>>, Result<String, Vec<u8>>, Result<(), u128>,
        Option<Result<String, Vec<u8>>>;
    tuples: (u8,), (u8, String, u64), ((), Vec<Nothing>, Option<()>), Eight;
    arrays: [u8; 3], [String; 2], [(); 4], [Vec<String>; 1], [u8; 0];
    structs: Point, Id, Nothing, Entry, Pair<u8, String>, Pair<String, Vec<Option<char>>>;
    enums: Color, Only, Shape, Result<Shape, Entry>;
}

#[test]
fn plain_slices_are_not_converted() {
    let points = [Point { x: 1, y: 2 }, Point { x: 3, y: 4 }];
    lent::<&[Point], _>(&points, |view| assert_eq!(view.as_ptr(), points.as_ptr()));
    lent::<&Point, _>(&points[1], |view| assert!(std::ptr::eq(view, &points[1])));
    let arrays = vec![[Id(1), Id(2)]];
    lent::<&Vec<[Id; 2]>, _>(&arrays, |view| assert_eq!(view.as_ptr(), arrays.as_ptr()));
}

#[test]
fn lent_texts_are_not_copied() {
    let texts = vec!["one".to_string(), "two".to_string()];
    lent::<&[String], _>(&texts, |view| assert_eq!(view[1].as_ptr(), texts[1].as_ptr()));
    let path = PathBuf::from("/a/b");
    lent::<&PathBuf, _>(&path, |view| assert_eq!(view.as_os_str().len(), 4));
}

#[test]
fn moved_buffers_are_not_copied() {
    let bytes = vec![1u8, 2, 3];
    let at = bytes.as_ptr();
    let bytes = moved(bytes);
    assert_eq!(bytes.as_ptr(), at);
    let texts = vec!["one".to_string(), "two".to_string()];
    let at: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
    assert!(moved(texts).iter().map(|text| text.as_ptr()).eq(at));
}

#[test]
fn borrowed_values_cross_in_every_nesting() {
    lent::<&str, _>("text", |view| assert_eq!(view, "text"));
    lent::<&str, _>("", |view| assert_eq!(view, ""));
    lent::<&[&str], _>(&["a", "", "c"], |view| assert_eq!(view, ["a", "", "c"]));
    lent::<Vec<&str>, _>(vec!["a", "b"], |view| assert_eq!(view, ["a", "b"]));
    lent::<(&str, Option<&[u8]>), _>(("a", Some(b"b")), |view| assert_eq!(view, ("a", Some(&b"b"[..]))));
    lent::<&Path, _>(Path::new("/etc"), |view| assert_eq!(view, Path::new("/etc")));
    lent::<&[&[&str]], _>(&[&["a"], &[]], |view| assert_eq!(view, [&["a"][..], &[]]));
    let words = ["x".to_string()];
    let line = Line { text: "t", words: &words, sums: [1, 2] };
    lent::<Line<'_, 2>, _>(line, |view| assert_eq!(view, line));
    lent::<&[Line<'_, 2>], _>(&[line, line], |view| assert_eq!(view, [line, line]));
}

#[test]
fn times_keep_their_nanoseconds_on_both_sides_of_1970() {
    for (secs, nanos) in [(0, 0), (1, 999_999_999), (1 << 33, 5)] {
        let span = Duration::new(secs, nanos);
        for time in [UNIX_EPOCH + span, UNIX_EPOCH - span] {
            assert_eq!(moved(time), time);
            lent::<&SystemTime, _>(&time, |view| assert_eq!(view, &time));
        }
    }
    let wire = (UNIX_EPOCH - Duration::from_nanos(1)).into_wire(&Frame::new());
    assert_eq!(wire, TimeWire { secs: -1, nanos: 999_999_999 });
}

#[test]
fn descriptors_move_and_are_lent() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let writer = OwnedFd::from(writer);
    let number = writer.as_raw_fd();
    lent::<&OwnedFd, _>(&writer, |view| assert_eq!(view.as_raw_fd(), number));
    lent::<BorrowedFd<'_>, _>(writer.as_fd(), |view| assert_eq!(view.as_raw_fd(), number));
    let writer = moved(writer);
    assert_eq!(writer.as_raw_fd(), number);
    // The only end to write is closed exactly once: the reader sees the end.
    drop(File::from(writer));
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

/// The message with which a receiver refuses `wire`, moved; lent, it is the same.
fn refusal<T: Abi>(wire: T::Wire) -> String {
    let message = |receive: &dyn Fn(&Frame)| {
        let frame = Frame::new();
        let panic = catch_unwind(AssertUnwindSafe(|| receive(&frame))).expect_err("the wire was accepted");
        panic.downcast_ref::<String>().expect("a message with details").clone()
    };
    let moved = message(&|frame| {
        // SAFETY: it is this that must not be undefined.
        drop(unsafe { T::from_wire(wire, frame) });
    });
    let lent = message(&|frame| {
        // SAFETY: as above.
        let _ = unsafe { T::borrow(wire, frame) };
    });
    assert_eq!(moved, lent);
    moved
}

#[test]
fn what_should_not_have_been_sent_is_refused_by_name() {
    assert_eq!(refusal::<bool>(2), "a `bool` came from another module as 2, which is neither 0 nor 1");
    assert_eq!(
        refusal::<char>(0xd800),
        "a `char` came from another module as 0xd800, which is no Unicode scalar value"
    );
    let tag = |name: &str, tag: u32, known: &str| {
        format!(
            "`{name}` came from another module as variant number {tag}, and this side knows {known}: \
             the two were built from different declarations of `{name}`, rebuild both from one"
        )
    };
    let wire = OptionWire { tag: 2, value: MaybeUninit::uninit() };
    assert_eq!(refusal::<Option<u8>>(wire), tag("Option", 2, "2 (None, Some)"));
    let wire = ResultWire { tag: 9, payload: ResultPayload { ok: 0 } };
    assert_eq!(refusal::<Result<u8, u8>>(wire), tag("Result", 9, "2 (Ok, Err)"));
    let mut wire = Shape::Empty.into_wire(&Frame::new());
    wire.tag = 4;
    assert_eq!(refusal::<Shape>(wire), tag("Shape", 4, "4 (Circle, Square, Path, Empty)"));
    let mut wire = Color::Red.into_wire(&Frame::new());
    wire.tag = 7;
    assert_eq!(refusal::<Color>(wire), tag("Color", 7, "2 (Red, Green)"));
    assert_eq!(
        refusal::<OwnedFd>(-1),
        "a descriptor (`OwnedFd`) came from another module as -1, which is none"
    );
    let mut wire = Duration::ZERO.into_wire(&Frame::new());
    wire.nanos = 1_000_000_000;
    assert_eq!(
        refusal::<Duration>(wire),
        "a `Duration` came from another module with 1000000000 nanoseconds in a second"
    );
}

#[test]
fn an_invalid_element_leaves_no_view_to_be_dropped() {
    let frame = Frame::new();
    let text = "kept".to_string();
    let wires = [(text.lend(&frame), 1), (text.lend(&frame), 2)].map(|(text, flag)| {
        let mut wire = (String::new(), true).lend(&frame);
        (wire.0, wire.1) = (text, flag);
        wire
    });
    let wire = RawSlice::new(&wires);
    // SAFETY: the texts are lent properly, and a wrong `bool` is refused.
    let refused = catch_unwind(|| unsafe { <&[(String, bool)]>::from_wire(wire, &Frame::new()).len() });
    assert!(refused.is_err());
    assert_eq!(text, "kept");
}
