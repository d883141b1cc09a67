#[lcr_core::contract]
pub trait Session: Send + Sync {
    fn close(self);
    fn open(name: &str);
    fn share(self: std::sync::Arc<Self>);
}

fn main() {}
