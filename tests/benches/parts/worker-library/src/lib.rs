//! The benchmarks' components as a shared object, `libworker.so`.

lcr_core::library!(bench_worker);
