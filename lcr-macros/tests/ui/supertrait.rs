pub trait Named {
    fn name(&self) -> String;
}

#[lcr_core::contract]
pub trait Greeter: Named + Send + Sync {
    fn greet(&self, who: &str) -> String;
}

fn main() {}
