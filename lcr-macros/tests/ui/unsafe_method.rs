#[lcr_core::contract]
pub trait Memory: Send + Sync {
    unsafe fn poke(&self, address: usize);
    extern "C" fn peek(&self, address: usize) -> u8;
}

fn main() {}
