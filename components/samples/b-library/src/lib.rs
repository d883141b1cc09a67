//! The sample component `b` as a shared object, `libtest_b.so`.

lcr_core::library!(lcr_sample_b);
