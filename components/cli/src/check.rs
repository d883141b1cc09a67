//! `lcr check`: will these libraries load into that program?
//!
//! Everything that a factory in the program would find out is found out here, from
//! notes alone, with nothing run: whether the file may be loaded at all (owner, mode,
//! `$ORIGIN`: [`Candidate::open`], as this user), whether each contract that the program
//! was compiled against is what the library provides, method by method, whether
//! everything that is required is there, and whether a name stands twice.
//!
//! Other libraries of the same command line count as there, but only those that would
//! load themselves: so the requirements are gone through again until nothing changes.
//!
//! What a library *needs* in the dynamic linker's sense, libc and the like, is that
//! linker's business, and not verified.

use std::path::{Path, PathBuf};

use lcr_core::contract::{MethodView, compatible};
use lcr_core::library::{Candidate, LoadError, Policy};
use lcr_core::metadata::{Contract, ContractNote, FileKind, Interface, Metadata};
use serde_json::{Value, json};

use crate::elf::Linkage;
use crate::files::File;
use crate::offers::Offers;
use crate::output::{BAD, DIM, GOOD, NAME, ODD, Output, path, plain, styled};
use crate::probe;
use crate::refusal::Refusal;
use crate::table::{Cell, Table};

/// Tell whether libraries will load into a program, and if not, why.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The program.
    #[arg(long, value_name = "BIN")]
    host: PathBuf,
    /// The libraries, in the order in which they would be searched.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Load libraries that say nothing of themselves in a child process, and look inside.
    #[arg(long)]
    probe: bool,
}

/// Why a library would not load, or one of its interfaces not be given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reason {
    /// The interface, where it is about one.
    interface: Option<(String, i32)>,
    kind: String,
    expected: String,
    found: String,
    /// What to do about it.
    cure: Option<String>,
}

/// A library, and what is to be said of it.
#[derive(Debug)]
struct Checked {
    path: PathBuf,
    /// What could be read of it.
    file: Option<File>,
    needed: Vec<String>,
    reasons: Vec<Reason>,
    /// What does not keep it from loading.
    remarks: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> crate::Result {
    let host = File::read(&arguments.host, false)?;
    let linkage = Linkage::read(&host.path)
        .map_err(|error| Refusal::new(format!("{}: cannot read it: {error}", host.path.display())))?;
    let is_static = host.is_program() && !linkage.is_started_by_linker;
    let mut all: Vec<Checked> =
        arguments.files.iter().map(|path| Checked::alone(path, arguments.probe)).collect();
    for checked in &mut all {
        if is_static {
            checked.reasons.push(fully_static());
        }
        if host.metadata.core.as_ref().is_some_and(|core| !core.dlopen) {
            checked.reasons.push(loads_nothing());
        }
        checked.against(&host);
    }
    together(&host, &mut all);
    if arguments.json {
        output.json(&all.iter().map(Checked::document).collect());
    } else {
        for checked in &all {
            output.print(checked.page(output.width()));
        }
        output.print(closing(&all));
    }
    refusal(&host, &all)
}

fn fully_static() -> Reason {
    Reason {
        interface: None,
        kind: "static".into(),
        expected: "a program that has a dynamic linker".into(),
        found: "a fully static one".into(),
        cure: Some("link the program without crt-static, or compile the component in".into()),
    }
}

fn loads_nothing() -> Reason {
    Reason {
        interface: None,
        kind: "dlopen".into(),
        expected: "a program that loads libraries".into(),
        found: "one whose lcr-core was built without its feature `dlopen`".into(),
        cure: Some("switch the feature on, or compile the component in".into()),
    }
}

impl Checked {
    /// What can be said of a file without any other.
    fn alone(path: &Path, probe: bool) -> Checked {
        let mut reasons = Vec::new();
        let metadata = match Candidate::open(path, &Policy::default()) {
            // What is verified is what is read.
            Ok(candidate) => Metadata::read_from(candidate.file(), path),
            // The command itself cannot load: that says nothing about the program.
            Err(LoadError::Static { .. }) => Metadata::read(path),
            Err(error) => {
                reasons.push(Reason::refused(&error));
                Metadata::read(path)
            }
        };
        let mut checked = Checked {
            path: path.into(),
            file: None,
            needed: Linkage::read(path).map(|linkage| linkage.needed).unwrap_or_default(),
            reasons,
            remarks: Vec::new(),
        };
        match metadata {
            Ok(metadata) => checked.hold(metadata, probe),
            // The loader has said it already, of a file that is none of ours at all.
            Err(_) if !checked.reasons.is_empty() => {}
            Err(error) => checked.reasons.push(Reason {
                interface: None,
                kind: "metadata".into(),
                expected: "notes that can be read".into(),
                found: error.problem().to_string(),
                cure: None,
            }),
        }
        checked
    }

    /// Takes what was read.
    fn hold(&mut self, mut metadata: Metadata, probe: bool) {
        let reason = |kind: &str, expected: &str, found: &str, cure: &str| Reason {
            interface: None,
            kind: kind.into(),
            expected: expected.into(),
            found: found.into(),
            cure: Some(cure.into()),
        };
        let (mut is_probed, mut passed_over) = (false, Vec::new());
        if metadata.kind == FileKind::Executable {
            self.reasons.push(reason("executable", "a library", "an executable", "name the shared object"));
        } else if !metadata.components.is_empty() && metadata.library.is_none() {
            self.reasons.push(reason(
                "entry",
                "the note of `library!`",
                "none",
                "its root crate says lcr_core::library!(…)",
            ));
        } else if metadata.components.is_empty() && metadata.library.is_none() {
            if probe {
                match probe::probed(&self.path) {
                    Ok(probed) => {
                        is_probed = true;
                        (metadata.components, passed_over) = (probed.components, probed.passed_over);
                    }
                    Err(refusal) => self.reasons.push(Reason {
                        interface: None,
                        kind: "probe".into(),
                        expected: "a library that can be loaded".into(),
                        found: refusal.reason,
                        cure: None,
                    }),
                }
            }
            self.reasons.extend(passed_over.iter().map(|found| Reason {
                interface: None,
                kind: "passed-over".into(),
                expected: "components that can be referenced".into(),
                found: found.clone(),
                cure: None,
            }));
            if metadata.components.is_empty() && passed_over.is_empty() {
                self.reasons.push(reason(
                    "empty",
                    "a component",
                    "none",
                    "it is no lcr library; one in C has no notes, and `--probe` looks inside",
                ));
            }
        }
        self.file = Some(File { path: self.path.clone(), metadata, is_probed, passed_over });
        self.twice();
    }

    /// Names that stand twice in the library: a reference to them fails.
    fn twice(&mut self) {
        let Some(file) = &self.file else { return };
        let all: Vec<_> = file.metadata.interfaces().collect();
        for (at, (component, interface)) in all.iter().enumerate() {
            let equal =
                |other: &Interface| other.name == interface.name && other.version == interface.version;
            if let Some((first, _)) = all[..at].iter().find(|(_, other)| equal(other)) {
                self.reasons.push(Reason {
                    interface: Some((interface.name.clone(), interface.version)),
                    kind: "duplicate".into(),
                    expected: "each version of an interface once".into(),
                    found: format!(
                        "it twice, in component {} and in component {}",
                        first.name, component.name
                    ),
                    cure: Some("drop one of them, or give it another version".into()),
                });
            }
        }
    }

    /// Compares what it provides with what the program was compiled against.
    fn against(&mut self, host: &File) {
        let Some(file) = &self.file else { return };
        for (_, interface) in file.metadata.interfaces() {
            let Some(contract) = &interface.contract else { continue };
            let wanted: Vec<&ContractNote> =
                host.metadata.contracts.iter().filter(|wanted| wanted.name == contract.name).collect();
            if wanted.is_empty() {
                self.remarks.push(format!(
                    "{} {}: the program knows no contract {}: only libraries can call it",
                    interface.name, interface.version, contract.name
                ));
            } else if let Some(reason) = unfit(&wanted, contract, interface) {
                self.reasons.push(reason);
            }
        }
    }

    fn loads(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl Reason {
    /// The loader's refusal in parts.
    fn refused(error: &LoadError) -> Reason {
        let (kind, expected, found, cure) = match error {
            LoadError::Open { source, .. } => {
                ("open", "a file that can be read".into(), source.to_string(), None)
            }
            LoadError::NotRegular { found, .. } => ("file", "a regular file".into(), (*found).into(), None),
            LoadError::Owner { found, wanted, cure, .. } => {
                ("owner", format!("owned by {wanted}"), format!("owned by {found}"), Some(cure.clone()))
            }
            LoadError::Mode { mode, found, wanted, cure, .. } => {
                ("mode", (*wanted).into(), format!("mode {mode:04o}, {found}"), Some(format!("run: {cure}")))
            }
            LoadError::TooLarge { found, wanted, .. } => {
                ("size", format!("at most {wanted} bytes"), format!("{found} bytes"), None)
            }
            LoadError::NotElf { found, .. } => {
                ("elf", "a shared object for this machine".into(), found.clone(), None)
            }
            LoadError::Origin { runpath, .. } => (
                "origin",
                "no $ORIGIN: a private copy is loaded, which has another place".into(),
                format!("RUNPATH {runpath}"),
                Some(
                    "link it without $ORIGIN, or allow loading by path in the program (Policy::by_path)"
                        .into(),
                ),
            ),
            other => ("load", "a library that can be loaded".into(), other.to_string(), None),
        };
        Reason { interface: None, kind: kind.into(), expected, found, cure }
    }

    /// In one line.
    fn sentence(&self) -> String {
        let about = self.about();
        let colon = if about.is_empty() { "" } else { ": " };
        format!("{about}{colon}expected {}, found {}", self.expected, self.found)
    }

    fn about(&self) -> String {
        match &self.interface {
            Some((name, version)) => format!("{name} {version}"),
            None => String::new(),
        }
    }
}

/// Why none of the contracts of one name that a caller has fits what is provided.
fn unfit(wanted: &[&ContractNote], offered: &Contract, interface: &Interface) -> Option<Reason> {
    let mut differs = None;
    for wanted in wanted {
        let expected = (wanted.name.as_str(), wanted.methods.iter().map(MethodView::from));
        let found = (offered.name.as_str(), offered.methods.iter().map(MethodView::from));
        match compatible(expected, found) {
            Ok(()) => return None,
            Err(mismatch) => differs = differs.or(Some(mismatch)),
        }
    }
    let differs = differs?;
    Some(Reason {
        interface: Some((interface.name.clone(), interface.version)),
        kind: differs.kind().into(),
        expected: differs.expected().into(),
        found: differs.found().into(),
        cure: Some("methods may only be appended to a contract: rebuild the older side".into()),
    })
}

/// What can be said of libraries only together: who shadows whom, who requires whom.
fn together(host: &File, all: &mut [Checked]) {
    shadows(host, all);
    loop {
        let mut found: Vec<(usize, Reason)> = Vec::new();
        let sound = all.iter().filter(|checked| checked.loads()).filter_map(|checked| checked.file.as_ref());
        let offers = Offers::of(std::iter::once(host).chain(sound));
        for (at, checked) in all.iter().enumerate().filter(|(_, checked)| checked.loads()) {
            let Some(file) = &checked.file else { continue };
            for (_, interface) in file.metadata.interfaces() {
                let reasons = requirements(file, interface, &offers, all);
                found.extend(reasons.into_iter().map(|reason| (at, reason)));
            }
        }
        if found.is_empty() {
            return;
        }
        for (at, reason) in found {
            all[at].reasons.push(reason);
        }
    }
}

fn shadows(host: &File, all: &mut [Checked]) {
    for at in 0..all.len() {
        let (before, rest) = all.split_at_mut(at);
        let Some(checked) = rest.first_mut() else { return };
        let Some(file) = &checked.file else { continue };
        let mut remarks = Vec::new();
        for (_, interface) in file.metadata.interfaces() {
            let earlier =
                std::iter::once(host).chain(before.iter().filter_map(|checked| checked.file.as_ref()));
            let mut earlier = earlier.filter(|file| {
                file.metadata
                    .interfaces()
                    .any(|(_, i)| i.name == interface.name && i.version == interface.version)
            });
            if let Some(by) = earlier.next() {
                remarks.push(format!(
                    "{} {}: shadowed by {}, which is asked first",
                    interface.name,
                    interface.version,
                    by.path.display()
                ));
            }
        }
        checked.remarks.append(&mut remarks);
    }
}

/// What an interface requires and cannot have.
fn requirements(file: &File, interface: &Interface, offers: &Offers<'_>, all: &[Checked]) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut refuse = |kind: &str, expected: String, found: String, cure: &str| {
        reasons.push(Reason {
            interface: Some((interface.name.clone(), interface.version)),
            kind: kind.into(),
            expected,
            found,
            cure: Some(cure.into()),
        });
    };
    for name in &interface.requires {
        let Some(provider) = offers.find(name) else {
            let broken = all.iter().filter(|checked| !checked.loads()).find(|checked| {
                let interfaces = checked.file.iter().flat_map(|file| file.metadata.interfaces());
                interfaces.into_iter().any(|(_, interface)| interface.name == *name)
            });
            match broken {
                Some(broken) => {
                    let found = format!("it only in {}, which would not load", broken.path.display());
                    refuse("missing-requirement", format!("`{name}`"), found, "see the reasons there");
                }
                None => {
                    let cure = "name the library that offers it too, or compile it into the program";
                    refuse("missing-requirement", format!("`{name}`"), "nothing that offers it".into(), cure);
                }
            }
            continue;
        };
        // What the library was compiled against stands in its own notes.
        if let Some(contract) = &provider.interface.contract {
            let known: Vec<&ContractNote> =
                file.metadata.contracts.iter().filter(|known| known.name == contract.name).collect();
            if !known.is_empty()
                && let Some(reason) = unfit(&known, contract, provider.interface)
            {
                let found = format!("{}, in {}", reason.found, provider.file.path.display());
                refuse(&reason.kind, reason.expected, found, reason.cure.as_deref().unwrap_or_default());
            }
        }
    }
    if let Some(path) = circle(interface, offers, &mut vec![&interface.name], &mut Vec::new()) {
        let cure = "break the circle: one of them has to do without";
        refuse("cycle", "requirements without a circle".into(), path.join(" → "), cure);
    }
    reasons
}

/// The way from an interface to a name that stands in it twice. Below a name that is
/// `sound` there is none.
fn circle<'n>(
    interface: &'n Interface,
    offers: &Offers<'n>,
    path: &mut Vec<&'n str>,
    sound: &mut Vec<&'n str>,
) -> Option<Vec<&'n str>> {
    for name in &interface.requires {
        if sound.contains(&name.as_str()) {
            continue;
        }
        let is_circle = path.contains(&name.as_str());
        path.push(name);
        if is_circle {
            return Some(path.clone());
        }
        if let Some(next) = offers.find(name)
            && let Some(found) = circle(next.interface, offers, path, sound)
        {
            return Some(found);
        }
        path.pop();
        sound.push(name);
    }
    None
}

impl Checked {
    fn document(&self) -> Value {
        let Checked { path, file: _, needed, reasons, remarks } = self;
        let reason = |reason: &Reason| {
            let Reason { interface, kind, expected, found, cure } = reason;
            json!({
                "interface": interface.as_ref().map(|(name, _)| name),
                "version": interface.as_ref().map(|(_, version)| version),
                "kind": kind,
                "expected": expected,
                "found": found,
                "cure": cure,
            })
        };
        json!({
            "file": path.to_string_lossy(),
            "loads": self.loads(),
            "reasons": reasons.iter().map(reason).collect::<Value>(),
            "remarks": remarks,
            "needed": needed,
        })
    }

    fn page(&self, width: Option<usize>) -> String {
        let verdict = if self.loads() { styled(GOOD, "loads") } else { styled(BAD, "does not load") };
        let mut text = format!("{}: {verdict}\n", styled(NAME, &path(&self.path)));
        let interfaces = self.file.iter().flat_map(|file| file.metadata.interfaces());
        for (_, interface) in interfaces.into_iter().filter(|_| self.loads()) {
            let Interface { name, version, contract, .. } = interface;
            let contract = contract.as_ref().map_or("raw table", |contract| &contract.name);
            let line = format!("  {} {version}  {}\n", plain(name), styled(DIM, contract));
            text.push_str(&line);
        }
        for reason in &self.reasons {
            let about = match &reason.interface {
                Some(_) => format!("{}: {}", reason.about(), reason.kind),
                None => reason.kind.clone(),
            };
            text.push_str(&format!("  {}\n", styled(BAD, &about)));
            let mut table = Table::new(["", ""]);
            table.row(["expected".into(), reason.expected.as_str().into()]);
            table.row(["found".into(), reason.found.as_str().into()]);
            if let Some(cure) = &reason.cure {
                table.row([Cell::new("do", NAME), cure.as_str().into()]);
            }
            text.push_str(&table.render(4, width));
        }
        for remark in &self.remarks {
            text.push_str(&format!("  {}\n", styled(ODD, remark)));
        }
        text
    }
}

/// What was not looked at.
fn closing(all: &[Checked]) -> String {
    let mut needed: Vec<&str> = all.iter().flat_map(|checked| &checked.needed).map(String::as_str).collect();
    needed.sort_unstable();
    needed.dedup();
    let needed = if needed.is_empty() { String::new() } else { format!(" ({})", plain(&needed.join(", "))) };
    format!(
        "Not verified: the shared objects that they need{needed} are the dynamic linker's business.\n\
         Owner and mode were judged for the user who runs this command.\n"
    )
}

fn refusal(host: &File, all: &[Checked]) -> crate::Result {
    let failing: Vec<&Checked> = all.iter().filter(|checked| !checked.loads()).collect();
    let of = |checked: &Checked| checked.path.display().to_string();
    let into = host.path.display();
    let mut refusal = match failing.as_slice() {
        [] => return Ok(()),
        [one] => Refusal::new(format!("{} would not load into {into}", of(one))),
        several => {
            Refusal::new(format!("{} of {} libraries would not load into {into}", several.len(), all.len()))
        }
    };
    for checked in &failing {
        for reason in &checked.reasons {
            let line = reason.sentence();
            refusal =
                refusal.detail(if failing.len() > 1 { format!("{}: {line}", of(checked)) } else { line });
        }
    }
    Err(refusal)
}
