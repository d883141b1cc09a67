//! The sample component `a` as a shared object, `libtest_a.so`.

lcr_core::library!(lcr_sample_a);
