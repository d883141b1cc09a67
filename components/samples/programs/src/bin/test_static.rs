//! Both components are compiled in: there are no shared objects.

lcr_core::link!(lcr_sample_a, lcr_sample_b);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    Ok(lcr_sample_programs::run(&lcr_sample_programs::factory()?)?)
}
