//! Two C components are compiled in; one registers itself in the section `.ctors`.

fn main() {
    lcr_build::export();
    lcr_build::Components::new()
        .file("../c/plain.c")
        .file("../c/ctors.c")
        .with(|cc| {
            cc.flag("-Wno-missing-field-initializers");
        })
        .compile("lcr_host_components");
}
