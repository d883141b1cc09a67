//! What the tests of liblcr stand on: the library as it is shipped, a C compiler, the
//! samples in `tests/c`, and a directory of one test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};

use lcr_tests::{Artifacts, Profile, Scratch, build, is_ci, program, run, told};

/// liblcr, built once: as it is shipped in CI, in less time elsewhere.
pub(crate) fn liblcr() -> Arc<Artifacts> {
    build(&["lcr-capi"], if is_ci() { Profile::Release } else { Profile::Dev })
}

/// What looks on while the samples run: the environment says so by `LCR_C_TOOL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Valgrind,
    /// The samples, host and components, are compiled with `-fsanitize=address`,
    Address,
    /// or with `-fsanitize=undefined`.
    Undefined,
}

pub(crate) fn tool() -> Option<Tool> {
    let tool = std::env::var("LCR_C_TOOL").unwrap_or_default();
    match &*tool {
        "" => None,
        "valgrind" => Some(Tool::Valgrind),
        "address" => Some(Tool::Address),
        "undefined" => Some(Tool::Undefined),
        other => panic!("LCR_C_TOOL is {other}: it may be valgrind, address or undefined"),
    }
}

/// How a program is linked with liblcr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Shared,
    /// `liblcr.a`, with `-rdynamic` so that components find the calls in the program.
    Static,
}

pub(crate) const BOTH: [Link; 2] = [Link::Shared, Link::Static];

/// A place of one test, with a compiler.
pub(crate) struct World {
    gcc: PathBuf,
    scratch: Scratch,
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn include() -> PathBuf {
    package().join("include")
}

/// A sample's source.
pub(crate) fn sample(name: &str) -> PathBuf {
    package().join("tests/c").join(name)
}

impl World {
    /// None, said loudly, where there is no compiler.
    #[track_caller]
    pub(crate) fn new() -> Option<World> {
        let gcc = program("gcc", "install gcc")?;
        Some(World { gcc, scratch: Scratch::new() })
    }

    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// A directory in it.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The C compiler, as the samples want it: they must be free of warnings.
    pub(crate) fn gcc(&self) -> Command {
        let mut gcc = Command::new(&self.gcc);
        gcc.current_dir(self.path()).args(["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-I"]).arg(include());
        // Elements that are left out are zero: samples rely on it, as components do.
        gcc.arg("-Wno-missing-field-initializers");
        match tool() {
            Some(Tool::Address) => gcc.args(["-fsanitize=address", "-fno-omit-frame-pointer"]),
            Some(Tool::Undefined) => gcc.args(["-fsanitize=undefined", "-fno-sanitize-recover=all"]),
            Some(Tool::Valgrind) | None => &mut gcc,
        };
        gcc
    }

    /// A component library of a sample, `FILE` in the test's directory.
    #[track_caller]
    pub(crate) fn library(&self, file: &str, source: &str, flags: &[&str]) -> PathBuf {
        self.library_of(file, &sample(source), flags)
    }

    #[track_caller]
    pub(crate) fn library_of(&self, file: &str, source: &Path, flags: &[&str]) -> PathBuf {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        must(self.gcc().args(["-shared", "-fPIC", "-o"]).arg(&path).arg(source).args(flags));
        path
    }

    /// The host program, with further sources compiled in.
    #[track_caller]
    pub(crate) fn host(&self, link: Link, sources: &[&str], flags: &[&str]) -> PathBuf {
        let sources: Vec<_> = ["host.c"].iter().chain(sources).map(|name| sample(name)).collect();
        self.program(&format!("host-{link:?}"), link, &sources, flags)
    }

    #[track_caller]
    pub(crate) fn program(&self, name: &str, link: Link, sources: &[PathBuf], flags: &[&str]) -> PathBuf {
        let path = self.path().join(name);
        must(self.gcc().arg("-o").arg(&path).args(sources).args(flags).args(link_line(link)));
        path
    }

    /// A command in the test's directory, with nothing of ours in its environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = match tool() {
            Some(Tool::Valgrind) => {
                let mut valgrind = Command::new("valgrind");
                valgrind.args(["--quiet", "--error-exitcode=99", "--trace-children=no"]).arg(program);
                valgrind
            }
            _ => Command::new(program),
        };
        command.args(arguments).current_dir(self.path());
        for name in ["LCR_PATH", "LCR_LEGACY_SEARCH", "LD_LIBRARY_PATH", "LCR_RUNTIME_DIR"] {
            command.env_remove(name);
        }
        command
    }

    /// What the program prints.
    #[track_caller]
    pub(crate) fn says(&self, program: &Path, arguments: &[&str]) -> String {
        said(&mut self.command(program, arguments))
    }
}

/// The end of the line that links a program: what the manual page says.
pub(crate) fn link_line(link: Link) -> Vec<String> {
    let directory = liblcr().directory().display().to_string();
    match link {
        Link::Shared => {
            vec![
                format!("-L{directory}"),
                "-llcr".into(),
                format!("-Wl,-rpath,{directory}"),
                "-lpthread".into(),
            ]
        }
        Link::Static => ["-rdynamic".into(), format!("{directory}/liblcr.a")]
            .into_iter()
            // Its debug information takes longer than all the rest.
            .chain(["-Wl,-S".to_owned()])
            .chain(["-lgcc_s", "-lpthread", "-ldl", "-lm"].map(str::to_owned))
            .collect(),
    }
}

/// Can a program look into a library here? Valgrind up to 3.19 knows no pidfd_open.
pub(crate) fn can_probe() -> bool {
    tool() != Some(Tool::Valgrind)
}

#[track_caller]
pub(crate) fn must(command: &mut Command) -> Output {
    let output = run(command);
    assert!(output.status.success(), "{}", told(command, &output));
    output
}

/// What a command prints on its standard output; nothing may be on its standard error.
#[track_caller]
pub(crate) fn said(command: &mut Command) -> String {
    let output = must(command);
    assert!(output.stderr.is_empty(), "{}", told(command, &output));
    String::from_utf8(output.stdout).unwrap()
}

/// Is the test run in this environment at all? Both archives and shared objects, once.
pub(crate) fn each_link(mut test: impl FnMut(&World, Link)) {
    static WARMED: OnceLock<()> = OnceLock::new();
    WARMED.get_or_init(|| drop(liblcr()));
    for link in BOTH {
        let Some(world) = World::new() else { return };
        test(&world, link);
    }
}
