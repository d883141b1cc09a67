#[lcr_core::contract]
pub trait Store: Send + Sync {
    fn put<T: Into<String>>(&self, value: T);
}

fn main() {}
