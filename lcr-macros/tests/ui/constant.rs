#[lcr_core::contract]
pub trait Limits: Send + Sync {
    const OPEN: u32;
    fn open(&self) -> u32;
}

fn main() {}
