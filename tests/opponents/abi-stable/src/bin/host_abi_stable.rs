//! The host, with abi_stable.

fn main() {
    let path = std::env::args_os().nth(1).expect("the plugin's path");
    println!("{}", opponent_abi_stable::load(path.as_ref()).greet("world".into()));
}
