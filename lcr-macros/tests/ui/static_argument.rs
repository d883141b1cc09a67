#[lcr_core::contract]
pub trait Names: Send + Sync {
    fn add(&self, name: &'static str);
}

fn main() {}
