//! The frozen layouts and shapes. A test that fails here says that libraries built
//! before the change would be misread: change the ABI version, not the test.

#![cfg(target_pointer_width = "64")]

use std::mem::offset_of;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lcr_core::abi::{Abi, ArrayWire, Buffer, DurationWire, RawSlice, RawStr, TimeWire, U128Wire};
use lcr_core::allocator::Allocator;
use lcr_core::text::{self, Piece};

fn shape_of(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .map(|piece| match *piece {
            Piece::Str(text) => text.to_string(),
            Piece::Int(number) => number.to_string(),
            Piece::Hex(number) => format!("{number:016x}"),
            Piece::List(pieces) => shape_of(pieces),
            Piece::Repeat(text, times) => text.repeat(times),
        })
        .collect()
}

/// Size, alignment and shape.
macro_rules! frozen {
    ($($ty:ty: $size:literal $align:literal $shape:literal),* $(,)?) => { $( {
        let wire = (size_of::<<$ty as Abi>::Wire>(), align_of::<<$ty as Abi>::Wire>());
        assert_eq!(wire, ($size, $align), "wire of {}", $shape);
        assert_eq!(shape_of(<$ty as Abi>::SHAPE), $shape);
    } )* };
}

#[repr(C)]
#[derive(Abi)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Abi)]
struct Id(u64);

#[derive(Abi)]
struct Nothing;

#[derive(Abi)]
struct Line<'a, T> {
    r#type: u8,
    text: &'a str,
    value: T,
}

#[derive(Abi)]
enum Color {
    #[allow(dead_code)]
    Red = 9,
}

#[derive(Abi)]
#[allow(dead_code)]
enum Shape {
    Circle(f64),
    Square { side: f64, name: String },
    Empty,
    Byte(u8, u16),
}

mod elsewhere {
    pub(crate) type Alias = std::vec::Vec<std::primitive::u8>;
}

#[test]
fn sizes_alignments_and_shapes() {
    frozen! {
        u8: 1 1 "u8",
        i8: 1 1 "i8",
        u16: 2 2 "u16",
        i16: 2 2 "i16",
        u32: 4 4 "u32",
        i32: 4 4 "i32",
        u64: 8 8 "u64",
        i64: 8 8 "i64",
        usize: 8 8 "usize",
        isize: 8 8 "isize",
        u128: 16 8 "u128",
        i128: 16 8 "i128",
        f32: 4 4 "f32",
        f64: 8 8 "f64",
        bool: 1 1 "bool",
        char: 4 4 "char",
        (): 0 1 "()",
        &str: 16 8 "&str",
        &[u8]: 16 8 "&[u8]",
        &[String]: 16 8 "&[String]",
        &u8: 8 8 "&u8",
        &String: 8 8 "&String",
        &Path: 16 8 "&Path",
        String: 32 8 "String",
        Vec<u8>: 32 8 "Vec<u8>",
        Vec<Vec<String>>: 32 8 "Vec<Vec<String>>",
        elsewhere::Alias: 32 8 "Vec<u8>",
        Box<u8>: 32 8 "Box<u8>",
        PathBuf: 32 8 "PathBuf",
        OwnedFd: 4 4 "OwnedFd",
        BorrowedFd<'_>: 4 4 "BorrowedFd",
        Duration: 16 8 "Duration",
        SystemTime: 16 8 "SystemTime",
        Option<()>: 4 4 "Option<()>",
        Option<u8>: 8 4 "Option<u8>",
        Option<u64>: 16 8 "Option<u64>",
        Option<String>: 40 8 "Option<String>",
        Option<Result<String, Vec<u8>>>: 48 8 "Option<Result<String, Vec<u8>>>",
        Result<(), ()>: 4 4 "Result<(), ()>",
        Result<u8, u16>: 8 4 "Result<u8, u16>",
        Result<String, u8>: 40 8 "Result<String, u8>",
        (u8,): 1 1 "(u8,)",
        (u8, u64): 16 8 "(u8, u64)",
        (u8, u16, u8): 6 2 "(u8, u16, u8)",
        (u8, u8, u8, u8): 4 1 "(u8, u8, u8, u8)",
        (u8, u8, u8, u8, u8): 5 1 "(u8, u8, u8, u8, u8)",
        (u8, u8, u8, u8, u8, u8): 6 1 "(u8, u8, u8, u8, u8, u8)",
        (u8, u8, u8, u8, u8, u8, u8): 7 1 "(u8, u8, u8, u8, u8, u8, u8)",
        (u8, u8, u8, u8, u8, u8, u8, u64): 16 8 "(u8, u8, u8, u8, u8, u8, u8, u64)",
        [u8; 4]: 4 1 "[u8; 4]",
        [String; 2]: 64 8 "[String; 2]",
        [u64; 0]: 0 8 "[u64; 0]",
        Point: 8 4 "Point{x: i32, y: i32}",
        &[Point]: 16 8 "&[Point{x: i32, y: i32}]",
        Id: 8 8 "Id(u64)",
        Nothing: 0 1 "Nothing{}",
        Line<'_, Option<Id>>: 40 8 "Line{type: u8, text: &str, value: Option<Id(u64)>}",
        Color: 4 4 "enum Color{Red}",
        Shape: 48 8 "enum Shape{Circle(f64), Square{side: f64, name: String}, Empty, Byte(u8, u16)}",
    };
}

#[test]
fn offsets() {
    let buffer = [
        offset_of!(Buffer<u8>, ptr),
        offset_of!(Buffer<u8>, len),
        offset_of!(Buffer<u8>, cap),
        offset_of!(Buffer<u8>, owner),
    ];
    assert_eq!(buffer, [0, 8, 16, 24]);
    let allocator =
        [offset_of!(Allocator, alloc), offset_of!(Allocator, dealloc), offset_of!(Allocator, realloc)];
    assert_eq!((allocator, size_of::<Allocator>()), ([0, 8, 16], 32));
    assert_eq!([offset_of!(U128Wire, low), offset_of!(U128Wire, high)], [0, 8]);
    assert_eq!([offset_of!(DurationWire, secs), offset_of!(DurationWire, nanos)], [0, 8]);
    assert_eq!([offset_of!(TimeWire, secs), offset_of!(TimeWire, nanos)], [0, 8]);
    assert_eq!(offset_of!(ArrayWire<u8, 3>, 0), 0);

    type Maybe = <Option<u64> as Abi>::Wire;
    assert_eq!([offset_of!(Maybe, tag), offset_of!(Maybe, value)], [0, 8]);
    type Either = <Result<u8, u64> as Abi>::Wire;
    assert_eq!([offset_of!(Either, tag), offset_of!(Either, payload)], [0, 8]);
    type Three = <(u8, u16, u64) as Abi>::Wire;
    assert_eq!([offset_of!(Three, 0), offset_of!(Three, 1), offset_of!(Three, 2)], [0, 2, 8]);

    type Struct = <Line<'static, u16> as Abi>::Wire;
    assert_eq!([offset_of!(Struct, __0), offset_of!(Struct, __1), offset_of!(Struct, __2)], [0, 8, 24]);
    type Enum = <Shape as Abi>::Wire;
    assert_eq!([offset_of!(Enum, tag), offset_of!(Enum, payload)], [0, 8]);
    assert_eq!(offset_of!(Enum, payload.Square.__1), 16);
    assert_eq!(offset_of!(Enum, payload.Byte.__1), 10);
}

#[test]
fn pairs_are_an_address_and_a_length() {
    // The fields are private: their places show in the bytes.
    let text = "four";
    // SAFETY: both are two words without padding.
    let words: [usize; 2] = unsafe { std::mem::transmute(RawStr::new(text)) };
    assert_eq!(words, [text.as_ptr().addr(), 4]);
    let slice = [1u64, 2, 3];
    // SAFETY: as above.
    let words: [usize; 2] = unsafe { std::mem::transmute(RawSlice::new(&slice)) };
    assert_eq!(words, [slice.as_ptr().addr(), 3]);
}

#[test]
fn tags_count_variants_from_zero_in_their_order() {
    let frame = lcr_core::abi::Frame::new();
    assert_eq!(None::<u8>.into_wire(&frame).tag, 0);
    assert_eq!(Some(1u8).into_wire(&frame).tag, 1);
    assert_eq!(Ok::<u8, u8>(1).into_wire(&frame).tag, 0);
    assert_eq!(Err::<u8, u8>(1).into_wire(&frame).tag, 1);
    assert_eq!(Color::Red.into_wire(&frame).tag, 0);
    assert_eq!(Shape::Circle(1.0).into_wire(&frame).tag, 0);
    assert_eq!(Shape::Byte(1, 2).into_wire(&frame).tag, 3);
}

#[test]
fn the_hash_of_a_shape_is_frozen() {
    // Of the text `Result<Vec<String>, Point{x: i32, y: i32}>`.
    assert_eq!(text::hash(<Result<Vec<String>, Point> as Abi>::SHAPE), 0x67b94c1e8d39ead6);
}

#[test]
fn only_types_with_references_borrow() {
    const {
        lcr_core::abi::assert_owned::<Result<Vec<Shape>, Point>>();
        assert!(<&str>::BORROWS && <Vec<&str>>::BORROWS && <Result<u8, &u8>>::BORROWS);
        assert!(<Line<'_, u8>>::BORROWS && !<Point>::BORROWS && !<Shape>::BORROWS);
    };
}

#[test]
fn plain_is_what_has_its_wires_layout_for_certain() {
    const {
        assert!(u8::PLAIN && <[f64; 3]>::PLAIN && Point::PLAIN && <[Point; 2]>::PLAIN);
        assert!(!Id::PLAIN, "a struct without `repr` has no promised layout");
        assert!(!bool::PLAIN && !u128::PLAIN && !String::PLAIN && !<(u8, u8)>::PLAIN && !Color::PLAIN);
    };
}
