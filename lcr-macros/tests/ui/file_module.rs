#[lcr_core::component]
mod english;

fn main() {}
