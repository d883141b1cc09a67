//! `lcr tree`: what requires what, and what is missing or goes in a circle.
//!
//! Every interface of the named files is a root. What it requires is looked for in the
//! named files, then in the directories of `LCR_PATH`, as a factory would: see
//! [`offers`](crate::offers).

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::files::{self, Files};
use crate::offers::{Offer, Offers, all_of};
use crate::output::{BAD, DIM, NAME, Output, path, styled};
use crate::refusal::Refusal;

/// Show what interfaces require, with what is missing or cyclic.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Libraries, executables, and directories of libraries.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Load libraries that say nothing of themselves in a child process, and look inside.
    #[arg(long)]
    probe: bool,
}

/// More nodes than this are no help to anybody.
const MOST: usize = 1 << 16;

pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> crate::Result {
    let named = Files::read(&arguments.files, arguments.probe);
    // What cannot be read there is not what was asked for.
    let searched = Files::read(&files::search_path(), arguments.probe);
    let offers = Offers::of(named.read.iter().chain(&searched.read));
    let mut count = 0;
    let mut roots = Vec::new();
    for offer in named.read.iter().flat_map(all_of) {
        roots.push(Node::of(offer, &offers, &mut Vec::new(), &mut count)?);
    }
    if arguments.json {
        output.json(&roots.iter().map(Node::document).collect());
    } else if roots.is_empty() {
        output.print("no interfaces\n");
    } else {
        for root in &roots {
            let mut text = String::new();
            root.page("", "", &mut text);
            output.print(text);
        }
    }
    named.refusal()
}

/// A name in the tree.
struct Node<'f> {
    name: &'f str,
    status: Status<'f>,
}

enum Status<'f> {
    /// Something offers it.
    Ok(Offer<'f>, Vec<Node<'f>>),
    /// Nothing does.
    Missing,
    /// It stands above itself.
    Cycle(Offer<'f>),
}

impl<'f> Node<'f> {
    fn of(
        offer: Offer<'f>,
        offers: &Offers<'f>,
        above: &mut Vec<&'f str>,
        count: &mut usize,
    ) -> crate::Result<Node<'f>> {
        let name = offer.interface.name.as_str();
        *count += 1;
        if *count > MOST {
            return Err(Refusal::new(format!("the tree has more than {MOST} nodes: name fewer files")));
        }
        if above.contains(&name) {
            return Ok(Node { name, status: Status::Cycle(offer) });
        }
        above.push(name);
        let mut requires = Vec::new();
        for name in &offer.interface.requires {
            requires.push(match offers.find(name) {
                Some(offer) => Node::of(offer, offers, above, count)?,
                None => Node { name, status: Status::Missing },
            });
        }
        above.pop();
        Ok(Node { name, status: Status::Ok(offer, requires) })
    }

    fn document(&self) -> Value {
        let (status, offer, requires) = match &self.status {
            Status::Ok(offer, requires) => ("ok", Some(offer), requires.as_slice()),
            Status::Missing => ("missing", None, [].as_slice()),
            Status::Cycle(offer) => ("cycle", Some(offer), [].as_slice()),
        };
        json!({
            "interface": self.name,
            "version": offer.map(|offer| offer.interface.version),
            "component": offer.map(|offer| &offer.component.name),
            "file": offer.map(|offer| offer.file.path.to_string_lossy()),
            "requires": requires.iter().map(Node::document).collect::<Value>(),
            "status": status,
        })
    }

    /// `first` stands before its own line, `rest` before those below it.
    fn page(&self, first: &str, rest: &str, text: &mut String) {
        let name = styled(NAME, self.name);
        let line = match &self.status {
            Status::Ok(offer, _) => format!("{name} {}  {}", offer.interface.version, origin(offer)),
            Status::Missing => format!("{name}  {}", styled(BAD, "missing: nothing offers it")),
            Status::Cycle(_) => format!("{name}  {}", styled(BAD, "a circle: it is required by itself")),
        };
        text.push_str(first);
        text.push_str(&line);
        text.push('\n');
        let Status::Ok(_, requires) = &self.status else { return };
        for (position, node) in requires.iter().enumerate() {
            let (branch, below) =
                if position + 1 < requires.len() { ("├── ", "│   ") } else { ("└── ", "    ") };
            node.page(&format!("{rest}{branch}"), &format!("{rest}{below}"), text);
        }
    }
}

fn origin(offer: &Offer<'_>) -> String {
    styled(DIM, &format!("{} in {}", offer.component.name, path(&offer.file.path)))
}
