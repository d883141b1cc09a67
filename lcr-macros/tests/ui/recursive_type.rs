#[derive(lcr_core::Abi)]
pub struct Tree {
    pub children: Vec<Tree>,
}

#[derive(lcr_core::Abi)]
pub struct Even(Option<Box<Odd>>);

#[derive(lcr_core::Abi)]
pub struct Odd(Option<Box<Even>>);

#[lcr_core::contract]
pub trait Forest: Send + Sync {
    fn plant(&self, tree: Tree);
}

fn main() {}
