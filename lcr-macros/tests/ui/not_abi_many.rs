pub struct Point {
    pub x: i32,
}
pub struct Line;
use std::collections::HashMap;

#[lcr_core::contract]
pub trait Plane: Send + Sync {
    fn color(&self, at: Vec<Point>, n: u32) -> u32;
    fn lent(&self, s: &str, at: &[Point]) -> String;
    fn origin(&self, at: Point) -> Result<Line, String>;
    fn map(&self) -> HashMap<String, u32> {
        HashMap::new()
    }
    fn pair(&self, _: (Point, u32)) {}
}

fn main() {}
