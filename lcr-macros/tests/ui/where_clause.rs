#[lcr_core::contract]
pub trait Greeter: Send + Sync {
    fn greet(&self, who: &str) -> String;
    fn boxed(&self) -> u32
    where
        Self: Sized,
    {
        1
    }
}

fn main() {}
