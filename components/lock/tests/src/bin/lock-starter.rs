//! `lock-starter INTERFACE NAME UUID DISK PLUGGED`: starts a guest that ends with the
//! standard input, plugs a disk, says the guest's process and state, and waits to be
//! killed.

use std::process::Command;

use lcr_lock::life::Plugin;
use lcr_lock::{Guest, Mode, Request, Resource};
use lcr_lock_tests as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, name, uuid, disk, plugged] = &arguments[..] else { return Err("five arguments".into()) };
    let plugin = Plugin::load(interface)?;
    let mut guest = plugin.new_guest(&Guest::new(name, uuid.parse()?))?;
    guest.add(&Resource::disk(disk, Mode::Exclusive))?;
    let mut command = Command::new("cat");
    command.stdout(std::process::Stdio::null());
    let (guest, _process) = guest.acquire(&Request::default())?.start(command)?;
    guest.plug(&Resource::disk(plugged, Mode::Exclusive))?;
    println!("{} {}", guest.pid(), guest.state()?);
    loop {
        std::thread::park();
    }
}
