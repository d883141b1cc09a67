//! Lock drivers: those that are compiled in, and those that the factory finds.

use lcr_core::{Context, Factory};
use lcr_lock::life::Plugin;

use crate::arguments::Parameter;
use crate::refusal::Refusal;

// A driver is compiled in by a line here, and one in Cargo.toml.
lcr_core::link!(lcr_lock_file);
lcr_core::link!(lcr_lock_nop);
lcr_core::link!(lcr_lock_sanlock);

/// The interface that a person means: `file` is `lock.file`.
pub(crate) fn interface(driver: &str) -> String {
    if driver.contains('.') { driver.to_owned() } else { format!("lock.{driver}") }
}

/// Whether it can be asked about a guest just to look: it needs no daemon that might not
/// answer, and joins nothing for it.
pub(crate) fn only_looks(interface: &str) -> bool {
    ["lock.file", "lock.nop"].contains(&interface)
}

/// The driver, with its parameters.
pub(crate) fn load(interface: &str, parameters: &[Parameter]) -> Result<Plugin, Refusal> {
    let context = parameters
        .iter()
        .fold(Context::new(), |context, Parameter(key, value)| context.with(key.as_str(), value.as_str()));
    Plugin::load_from(Factory::process(), interface, &context).map_err(|error| {
        let components = Factory::process().compiled_in();
        let interfaces = components.iter().flat_map(|component| &component.interfaces);
        let names: Vec<&str> = interfaces
            .map(|interface| interface.name.as_str())
            .filter(|name| name.starts_with("lock."))
            .collect();
        if names.contains(&interface) {
            return Refusal::new(format!("lock driver {interface} cannot be used: {error}"));
        }
        Refusal::new(format!("no lock driver {interface}: {error}")).detail(format!(
            "compiled in: {}; others are looked for in the directories and files of LCR_PATH",
            names.join(", ")
        ))
    })
}
