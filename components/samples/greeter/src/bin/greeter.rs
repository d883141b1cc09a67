//! Both components are compiled in.

use greeter_api::Greeter;
use lcr_core::Handle;

lcr_core::link!(clock_component, english_component);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let greeter: Handle<dyn Greeter> = lcr_core::reference("greeter", 2)?;
    for who in std::env::args().skip(1) {
        println!("{}", greeter.greet(&who));
    }
    Ok(())
}
