//! Block devices: two nodes of one are one disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::World;

/// A loop device, given back when dropped.
struct Loop(PathBuf);

impl Loop {
    /// None, which is said, where there is none to be had.
    fn new(file: &str) -> Option<Loop> {
        let output = Command::new("losetup").args(["--find", "--show", file]).output();
        match output {
            Ok(output) if output.status.success() => {
                Some(Loop(String::from_utf8(output.stdout).unwrap().trim().into()))
            }
            other => {
                skip(&format!("no loop device is to be had: {other:?}"));
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

fn skip(why: &str) {
    let line = format!("SKIPPED two_nodes_of_a_block_device_are_one_disk: {why}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Another node of a device. None, which is said, where that is not allowed.
fn node(path: &Path, of: &Path) -> Option<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat, stat};
    let device = stat(of).unwrap().st_rdev;
    match mknodat(CWD, path, FileType::BlockDevice, Mode::RUSR | Mode::WUSR, device) {
        Ok(()) if std::fs::File::open(path).is_ok() => Some(()),
        other => {
            skip(&format!("a node that can be opened cannot be made in {}: {other:?}", path.display()));
            None
        }
    }
}

#[test]
fn two_nodes_of_a_block_device_are_one_disk() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root makes nodes");
    }
    let world = World::new();
    let host = world.host("host");
    let file = world.disk("file");
    std::fs::File::options().write(true).open(&file).unwrap().set_len(1 << 20).unwrap();
    let Some(device) = Loop::new(&file) else { return };
    let (known, other) = (device.0.display().to_string(), world.path("node"));
    let Some(()) = node(&other, &device.0) else { return };
    let other = other.display().to_string();
    let leases = world.path("leases");
    std::fs::create_dir(&leases).unwrap();
    let directory = format!("directory={}", leases.display());
    for more in [&[][..], &["--parameter", &directory]] {
        for (one, another) in [(&known, &other), (&other, &known)] {
            let options: Vec<&str> = more.iter().copied().chain(["--disk", one]).collect();
            let mut web = host.run("web", &options);
            let mut rival = vec!["run", "--name", "rival"];
            rival.extend(more.iter().copied().chain(["--disk", another, "--", "true"]));
            let said = host.refused(125, &rival);
            assert!(said.contains("held by guest web"), "{said}");
            if more.is_empty() {
                // What a guest has is known as the other node, too.
                host.done(&["unplug", "web", "--disk", another]);
                host.done(&rival);
            }
            web.end();
        }
    }
    // The file that lies under it is another disk.
    let mut web = host.run("web", &["--disk", &known]);
    host.done(&["run", "--name", "rival", "--disk", &file, "--", "true"]);
    web.end();
}
