//! The component `english` as a shared object, `libenglish.so`.

lcr_core::library!(english_component);
