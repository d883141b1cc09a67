#[lcr_core::contract]
pub trait Plane: Send + Sync {
    fn color(&self, (x, y): (i32, i32)) -> u32 {
        (x + y) as u32
    }
    fn fill(&self, buffer: &mut Vec<u8>);
}

fn main() {}
