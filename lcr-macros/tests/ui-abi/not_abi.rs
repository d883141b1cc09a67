//! What the trait says of a type that cannot cross.

struct Mine;

fn crosses<T: lcr_core::Abi>() {}

fn main() {
    crosses::<Mine>();
    crosses::<Vec<Option<Mine>>>();
    crosses::<Box<dyn Fn()>>();
}
