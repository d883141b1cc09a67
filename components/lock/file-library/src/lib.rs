//! The driver `lock.file` as a shared object, `liblock_file.so`.

lcr_core::library!(lcr_lock_file);
