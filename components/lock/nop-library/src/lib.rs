//! The driver `lock.nop` as a shared object, `liblock_nop.so`.

lcr_core::library!(lcr_lock_nop);
