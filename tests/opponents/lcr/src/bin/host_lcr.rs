//! The host: calls the component, which is compiled in.

use opponent_lcr::Work;

lcr_core::link!(opponent_lcr);

fn main() -> Result<(), lcr_core::ReferenceError> {
    let work: lcr_core::Handle<dyn Work> = lcr_core::reference("work", 1)?;
    println!("{} {} {}", work.add(1), work.greet("lcr"), work.turn(vec![1, 2, 3]).len());
    Ok(())
}
