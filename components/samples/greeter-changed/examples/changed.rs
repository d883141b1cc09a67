//! The component `changed` as a shared object, `libchanged.so`.

lcr_core::library!(changed_component);
