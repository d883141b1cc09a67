#[lcr_core::contract]
pub trait Lines: Send + Sync {
    fn write(&self, lines: impl Iterator<Item = String>);
    fn read(&self) -> impl Iterator<Item = String>;
}

fn main() {}
