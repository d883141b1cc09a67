//! C programs and C components written for corosync's LCR, compiled without a change and
//! linked with liblcr.so and with liblcr.a.

mod headers;
mod offered;
mod probed;
mod promises;
mod rust_libraries;
mod rust_programs;
mod searched;
mod shapes;
mod sized;
mod world;
