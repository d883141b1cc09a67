#[lcr_core::contract]
pub trait Names: Send + Sync {
    fn name(&self) -> &str;
    fn longest<'a>(&self, names: &'a [String]) -> Option<&'a String>;
    fn all(&self) -> Vec<std::borrow::Cow<'_, str>>;
}

fn main() {}
