//! The command and running programs: real processes over real sockets.

mod ask;
mod back;
mod world;

lcr_core::link!(counter_one_component);
