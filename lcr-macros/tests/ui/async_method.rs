#[lcr_core::contract]
pub trait Fetch: Send + Sync {
    async fn fetch(&self, uri: &str) -> Vec<u8>;
}

fn main() {}
