//! What was named on the command line, read.
//!
//! A directory stands for its libraries, as a factory sees them: `*.so` and
//! `*.lcrso`, sorted by name, not deeper. Something in a directory that is no ELF
//! file (a linker script is called `.so` too) is passed over, as a factory does;
//! what somebody named is not.

use std::fs;
use std::path::{Path, PathBuf};

use lcr_core::metadata::{FileKind, Metadata};

use crate::probe;
use crate::refusal::Refusal;

/// A file and what it holds.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) metadata: Metadata,
    /// Whether its components were seen by running it, not by reading it.
    pub(crate) is_probed: bool,
    /// Why components in it were passed over.
    pub(crate) passed_over: Vec<String>,
}

impl File {
    /// Reads a file. With `probe`, a library that says nothing of itself is loaded
    /// in a child process.
    pub(crate) fn read(path: &Path, probe: bool) -> crate::Result<File> {
        File::with(path, Metadata::read(path).map_err(Refusal::new)?, probe)
    }

    fn with(path: &Path, mut metadata: Metadata, probe: bool) -> crate::Result<File> {
        let is_probed = probe && metadata.components.is_empty() && metadata.kind == FileKind::Library;
        let mut passed_over = Vec::new();
        if is_probed {
            let probed = probe::probed(path)?;
            (metadata.components, passed_over) = (probed.components, probed.passed_over);
        }
        Ok(File { path: path.into(), metadata, is_probed, passed_over })
    }

    pub(crate) fn is_program(&self) -> bool {
        self.metadata.kind == FileKind::Executable
    }

    /// Whether it is a library of which nothing is known.
    pub(crate) fn is_silent(&self) -> bool {
        !self.is_program() && self.metadata.components.is_empty() && !self.is_probed
    }
}

/// What was read of several places.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) read: Vec<File>,
    pub(crate) refused: Vec<Refusal>,
    /// How many files there were: some are read in part, and refused in part.
    total: usize,
}

impl Files {
    /// Reads these files, and the libraries in these directories.
    pub(crate) fn read(places: &[PathBuf], probe: bool) -> Files {
        let mut files = Files::default();
        for place in places {
            files.add(place, probe);
        }
        files
    }

    /// Reads these files; a directory is none.
    pub(crate) fn read_each(paths: &[PathBuf], probe: bool) -> Files {
        let mut files = Files::default();
        for path in paths {
            files.take(File::read(path, probe));
        }
        files
    }

    fn add(&mut self, place: &Path, probe: bool) {
        if !place.is_dir() {
            return self.take(File::read(place, probe));
        }
        let paths = match libraries_in(place) {
            Ok(paths) => paths,
            Err(error) => {
                let reason = format!("{}: cannot read the directory: {error}", place.display());
                return self.take(Err(Refusal::new(reason)));
            }
        };
        for path in paths {
            match Metadata::read(&path) {
                Ok(metadata) => self.take(File::with(&path, metadata, probe)),
                Err(error) if error.is_not_elf() => {}
                Err(error) => self.take(Err(Refusal::new(error))),
            }
        }
    }

    fn take(&mut self, file: crate::Result<File>) {
        self.total += 1;
        let file = match file {
            Ok(file) => file,
            Err(refusal) => return self.refused.push(refusal),
        };
        let is_whole = file.passed_over.is_empty();
        if !is_whole {
            let reasons = file.passed_over.join("; ");
            let reason = format!("{}: passed over: {reasons}", file.path.display());
            self.refused.push(Refusal::new(reason));
        }
        if is_whole || !file.metadata.components.is_empty() {
            self.read.push(file);
        }
    }

    /// Why not all of it was read.
    pub(crate) fn refusal(self) -> crate::Result {
        let is_either = self.read.len() + self.refused.len() == self.total;
        let what = if is_either { "files could not be read" } else { "files could not be read whole" };
        match Refusal::of_several(self.refused, self.total, what) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Libraries of which nothing is known.
    pub(crate) fn silent(&self) -> usize {
        self.read.iter().filter(|file| file.is_silent()).count()
    }
}

fn libraries_in(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "so" || extension == "lcrso") {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// The directories of `LCR_PATH`.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let Some(path) = std::env::var_os("LCR_PATH") else { return Vec::new() };
    std::env::split_paths(&path).filter(|place| !place.as_os_str().is_empty()).collect()
}
