#[lcr_core::component(version = 2)]
struct English;

fn main() {}
