//! A program that is asked over its socket: what it answers, whom it refuses, and
//! that nobody can keep it from answering others.

mod ask;
mod hang;
mod hostile;
mod legacy;
mod life;
mod shapes;
mod world;

lcr_core::link!(counter_one_component, counter_two_component);
