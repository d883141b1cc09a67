//! `lcr list`: interfaces, where each comes from, and which of them would answer.
//!
//! Of two equal interfaces (name and version) the one that comes first answers: what
//! is compiled into a program before any library, an earlier directory before a later
//! one, within a directory by the files' names. The other one is *shadowed*.

use std::path::PathBuf;

use anstyle::Style;
use lcr_core::metadata::Interface;
use serde_json::json;

use crate::files::{self, File, Files};
use crate::output::{BAD, DIM, NAME, ODD, Output, count, path};
use crate::table::{Cell, Table};

/// List interfaces, versions, where each comes from, and what is shadowed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Directories, libraries and executables; the directories of `LCR_PATH` if none is named.
    #[arg(value_name = "DIR|FILE")]
    places: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Load libraries that say nothing of themselves in a child process, and look inside.
    #[arg(long)]
    probe: bool,
}

/// An interface in a file.
struct Entry<'f> {
    interface: &'f str,
    version: i32,
    component: &'f str,
    file: &'f File,
    /// What answers instead.
    shadowed_by: Option<&'f File>,
    /// Whether the file offers it twice: references to the name fail then.
    is_duplicate: bool,
}

pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> crate::Result {
    let places = if arguments.places.is_empty() { files::search_path() } else { arguments.places.clone() };
    if places.is_empty() {
        crate::usage(
            "list",
            clap::error::ErrorKind::MissingRequiredArgument,
            "nothing to list: name a directory or a file, or set LCR_PATH",
        );
    }
    let files = Files::read(&places, arguments.probe);
    let entries = entries(&files.read);
    if arguments.json {
        output.json(&entries.iter().map(document).collect());
    } else {
        output.print(page(&entries, &places, output.width()));
        let silent = files.silent();
        if silent > 0 {
            let libraries = count(silent, "library says", "libraries say");
            output.print(format!("{libraries} nothing: `--probe` looks inside\n"));
        }
    }
    files.refusal()
}

fn entries(files: &[File]) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    // A program's own components are asked before any library's.
    let (programs, libraries): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.is_program());
    for file in programs.into_iter().chain(libraries) {
        for (component, interface) in file.metadata.interfaces() {
            let first = entries.iter().find(|entry| {
                entry.interface == interface.name
                    && entry.version == interface.version
                    && entry.shadowed_by.is_none()
                    && !std::ptr::eq(entry.file, file)
                    // Two programs are two processes.
                    && !(entry.file.is_program() && file.is_program())
            });
            let equal = |i: &&Interface| i.name == interface.name && i.version == interface.version;
            let is_duplicate = file.metadata.interfaces().map(|(_, i)| i).filter(equal).count() > 1;
            let shadowed_by = first.map(|entry| entry.file);
            entries.push(Entry {
                interface: &interface.name,
                version: interface.version,
                component: &component.name,
                file,
                shadowed_by,
                is_duplicate,
            });
        }
    }
    entries
}

fn document(entry: &Entry<'_>) -> serde_json::Value {
    let Entry { interface, version, component, file, shadowed_by, is_duplicate } = entry;
    json!({
        "interface": interface,
        "version": version,
        "component": component,
        "file": file.path.to_string_lossy(),
        "shadowed_by": shadowed_by.map(|by| by.path.to_string_lossy()),
        "duplicate": is_duplicate,
    })
}

fn page(entries: &[Entry<'_>], places: &[PathBuf], width: Option<usize>) -> String {
    if entries.is_empty() {
        let places: Vec<String> = places.iter().map(|place| path(place)).collect();
        return format!("no interfaces in {}\n", places.join(", "));
    }
    let mut table = Table::new(["INTERFACE", "VERSION", "COMPONENT", "FILE", "SHADOWED BY"]);
    for Entry { interface, version, component, file, shadowed_by, is_duplicate } in entries {
        let (name, rest) = if shadowed_by.is_some() { (DIM, DIM) } else { (NAME, Style::new()) };
        let shadowed = match shadowed_by {
            _ if *is_duplicate => Cell::new("twice in this file: references fail", BAD),
            Some(by) => Cell::new(path(&by.path), ODD),
            None => Cell::new("-", DIM),
        };
        table.row([
            Cell::new(interface, name),
            Cell::new(version.to_string(), rest),
            Cell::new(component, rest),
            Cell::new(path(&file.path), rest),
            shadowed,
        ]);
    }
    table.render(0, width)
}
