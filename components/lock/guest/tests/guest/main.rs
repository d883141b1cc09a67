//! `lcr-guest`, as a person and a program use it: whole processes, no root, no daemon.

mod devices;
mod family;
mod hot_plug;
mod lost;
mod migration;
mod readme;
mod refusals;
mod replaced;
mod signals;
mod start;
mod supervisor;
mod users;
mod world;
