//! A is compiled in, B is found through the search path.

lcr_core::link!(lcr_sample_a);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    Ok(lcr_sample_programs::run(&lcr_sample_programs::factory()?)?)
}
