#[lcr_core::contract]
pub trait Bus: Send + Sync {
    fn subscribe(&self, listener: Box<dyn Fn(u32) + Send>);
    fn twin(&self) -> Box<Self>;
}

fn main() {}
