#[lcr_core::contract]
pub trait Store: Send + Sync {
    type Key;
    fn get(&self, key: u64) -> Vec<u8>;
}

fn main() {}
