//! The driver `lock.sanlock` as a shared object, `liblock_sanlock.so`.

lcr_core::library!(lcr_lock_sanlock);
