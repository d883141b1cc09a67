#[lcr_core::contract]
pub trait Counter: Send + Sync {
    fn count(&mut self) -> u64;
}

fn main() {}
