#[lcr_core::contract]
pub unsafe trait Store<K>: Send + Sync {
    fn get(&self, key: u64) -> Vec<u8>;
}

fn main() {}
