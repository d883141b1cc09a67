//! No component is compiled in: both are found through the search path.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    Ok(lcr_sample_programs::run(&lcr_sample_programs::factory()?)?)
}
