//! The component `counter_two` as a shared object, `libcounter_two.so`.

lcr_core::library!(counter_two_component);
