//! The component `counter_one` as a shared object, `libcounter_one.so`.

lcr_core::library!(counter_one_component);
