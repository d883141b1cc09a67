type Name = &'static str;

#[lcr_core::contract]
pub trait Names: Send + Sync {
    fn add(&self, name: Name);
    fn last(&self) -> Name;
}

fn main() {}
