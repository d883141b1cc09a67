pub struct Point {
    pub x: i32,
    pub y: i32,
}

#[lcr_core::contract]
pub trait Plane: Send + Sync {
    fn color(&self, at: Point) -> u32;
    fn origin(&self) -> Vec<Point>;
}

fn main() {}
