//! The host, with stabby.

use opponent_stabby::WorkDyn as _;

fn main() {
    let path = std::env::args_os().nth(1).expect("the plugin's path");
    let work = opponent_stabby::load(path.as_ref());
    println!("{}", work.greet("world".into()));
}
