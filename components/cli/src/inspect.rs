//! `lcr inspect`: what files hold.
//!
//! Nothing of a file is run: its notes are read. A library without notes, as every
//! C library is, may be looked into with `--probe`, which does run it, in a child.

use std::fmt::Write;
use std::path::PathBuf;

use lcr_core::metadata::{Component, Contract, FileKind, Interface, Metadata};
use serde_json::{Value, json};

use crate::files::{File, Files};
use crate::output::{DIM, NAME, Output, count, path, plain, styled};
use crate::table::{Cell, Table};

/// Show what a library or an executable holds, read without running it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Libraries and executables.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Load libraries that say nothing of themselves in a child process, and look inside.
    #[arg(long)]
    probe: bool,
}

pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> crate::Result {
    let files = Files::read_each(&arguments.files, arguments.probe);
    if arguments.json {
        output.json(&files.read.iter().map(document).collect());
    } else {
        for (position, file) in files.read.iter().enumerate() {
            if position > 0 {
                output.print("\n");
            }
            output.print(page(file, output.width()));
        }
    }
    files.refusal()
}

/// The JSON of a file.
fn document(file: &File) -> Value {
    let mut document = file.metadata.to_json(&file.path);
    if file.is_probed {
        document["probed"] = json!(true);
        for component in document["components"].as_array_mut().into_iter().flatten() {
            // Descriptors in C do not say what package they come from.
            for unknown in ["package", "package_version", "rustc"] {
                component[unknown] = Value::Null;
            }
        }
    }
    document
}

/// The same for a person.
fn page(file: &File, width: Option<usize>) -> String {
    let Metadata { kind, components, contracts, library, core } = &file.metadata;
    let is_program = *kind == FileKind::Executable;
    let mut text = format!("{}: {kind}", styled(NAME, &path(&file.path)));
    if let Some(library) = library {
        let _ = write!(text, " {} {}", plain(&library.package), plain(&library.package_version));
        let _ = write!(text, ", rustc {}", plain(&library.rustc));
        if library.own_allocator {
            text.push_str(", allocator of its own");
        }
        if library.stay {
            text.push_str(", stays loaded");
        }
    }
    if is_program && core.as_ref().is_some_and(|core| !core.dlopen) {
        text.push_str(", loads no libraries");
    }
    let _ = writeln!(text, ", {}", count(components.len(), "component", "components"));
    if file.is_silent() {
        text.push_str(
            "  It says nothing of itself: it is no lcr library, or one in C, which has no notes.\n  \
             `lcr inspect --probe` loads it in a child process, which runs its constructors, and looks inside.\n",
        );
    } else if is_program && components.is_empty() {
        text.push_str(
            "  Components in C, which have no notes, may be compiled in: they are not seen here.\n",
        );
    } else if file.is_probed && components.is_empty() {
        text.push_str("  Loaded in a child process, it registered no component.\n");
    }
    for component in components {
        text.push('\n');
        text.push_str(&component_page(component, file.is_probed, width));
    }
    if !contracts.is_empty() {
        let names: Vec<String> = contracts
            .iter()
            .map(|contract| format!("{} ({} {})", contract.name, contract.package, contract.package_version))
            .collect();
        let mut table = Table::new(["", ""]);
        table.row(["Knows the contracts".into(), names.join(", ").into()]);
        text.push('\n');
        text.push_str(&table.render(2, width));
    }
    text
}

fn component_page(component: &Component, is_probed: bool, width: Option<usize>) -> String {
    let Component { name, package, package_version, rustc, interfaces } = component;
    let origin = if is_probed {
        "seen by loading it".into()
    } else {
        format!("{package} {package_version}, rustc {rustc}")
    };
    let mut text = format!("  Component {}  {}\n", styled(NAME, name), styled(DIM, &origin));
    let mut table = Table::new(["INTERFACE", "VERSION", "REPLACES", "REQUIRES", "CONTRACT", "KIND"]);
    for interface in interfaces {
        let contract = interface.contract.as_ref().map_or("raw table", |contract| &contract.name);
        table.row([
            Cell::new(&interface.name, NAME),
            interface.version.to_string().into(),
            versions(&interface.replaces).into(),
            listed(&interface.requires).into(),
            contract.into(),
            kind(interface).into(),
        ]);
    }
    text.push_str(&table.render(4, width));
    // Several versions of an interface often have one contract: it is printed once.
    let mut shown: Vec<&Contract> = Vec::new();
    for interface in interfaces {
        if let Some(contract) = &interface.contract
            && !shown.contains(&contract)
        {
            shown.push(contract);
            text.push_str(&contract_page(contract, interface, width));
        }
    }
    text
}

fn contract_page(contract: &Contract, interface: &Interface, width: Option<usize>) -> String {
    let Contract { name, methods } = contract;
    let mut text =
        format!("\n    {}, as {} {} has it\n", styled(NAME, name), plain(&interface.name), interface.version);
    let mut table = Table::new(["", "", ""]);
    for method in methods {
        let has_default = if method.has_default { "has a default" } else { "" };
        table.row([
            method.name.as_str().into(),
            method.signature.as_str().into(),
            Cell::new(has_default, DIM),
        ]);
    }
    text.push_str(&table.render(6, width));
    text
}

/// How an interface is constructed and replaced.
fn kind(interface: &Interface) -> String {
    let mut said = Vec::new();
    if interface.per_reference || interface.contract.is_none() {
        said.push("per reference");
    } else {
        said.push("singleton");
    }
    if interface.state {
        said.push("state");
    }
    said.join(", ")
}

/// Versions as a list, `-` for none.
fn versions(versions: &[i32]) -> String {
    listed(&versions.iter().map(i32::to_string).collect::<Vec<_>>())
}

/// Names as a list, `-` for none.
fn listed(names: &[String]) -> String {
    if names.is_empty() { "-".into() } else { names.join(", ") }
}
