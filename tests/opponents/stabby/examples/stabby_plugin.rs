//! The component and its library, with stabby.

use opponent_stabby::{Work, WorkBox};

struct Adder(u64);

impl Work for Adder {
    extern "C" fn add(&self, x: u64) -> u64 {
        (x >> 1).checked_add(self.0).expect("half of a number and one")
    }

    extern "C" fn greet<'a>(&'a self, who: stabby::str::Str<'a>) -> stabby::string::String {
        let mut text = stabby::string::String::new();
        text += "Hello, ";
        text += who.as_str();
        text
    }

    extern "C" fn turn(&self, mut data: stabby::vec::Vec<u8>) -> stabby::vec::Vec<u8> {
        data[0] = data[0].wrapping_add(1);
        data
    }
}

#[stabby::export]
pub extern "C" fn new_work() -> WorkBox {
    stabby::boxed::Box::new(Adder(std::hint::black_box(1))).into()
}
