//! The same component as a library.

lcr_core::library!(opponent_lcr);
