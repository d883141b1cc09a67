//! The driver's parameters: read at its first reference, and handed to its successor.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use lcr_core::{BoxError, Context};
use lcr_lock::parameters;
use lcr_lock::record::Record;

use crate::client;
use crate::leases::HEAD;

/// What it takes, as its documentation lists it.
const PARAMETERS: &[&str] =
    &["directory", "host_id", "lockspace", "io_timeout", "disks", "handler", "client"];
/// The lockspace of disks' leases, as libvirt's plugin names it.
const LOCKSPACE: &str = "__LIBVIRT__DISKS__";

/// What the driver is told at its first reference.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) directory: Option<PathBuf>,
    pub(crate) lockspace: String,
    pub(crate) host_id: Option<u64>,
    pub(crate) io_timeout: u32,
    pub(crate) ignore_disks: bool,
    pub(crate) handler: Option<PathBuf>,
    pub(crate) client: OsString,
}

impl Settings {
    pub(crate) fn of(cx: &Context) -> Result<Settings, BoxError> {
        parameters::only(cx, PARAMETERS)?;
        let text = |name| cx.get(name).map(|_| cx.text(name)).transpose();
        // A number, or its digits: parameters that come from a file are texts.
        let number = |name| -> Result<Option<u64>, BoxError> {
            if cx.get(name).is_none() {
                return Ok(None);
            }
            if let Ok(number) = cx.int(name) {
                return Ok(Some(number.try_into()?));
            }
            let text = cx.text(name)?;
            Ok(Some(text.parse().map_err(|_| format!("the parameter `{name}` is no number: `{text}`"))?))
        };
        let disks = text("disks")?.unwrap_or("lease");
        if !["lease", "ignore"].contains(&disks) {
            return Err(format!("the parameter `disks` is `{disks}`: it can be `lease` or `ignore`").into());
        }
        let host_id = number("host_id")?;
        if host_id.is_some_and(|id| !(1..=2000).contains(&id)) {
            return Err("the parameter `host_id` is from 1 to 2000, and another one on each host".into());
        }
        let lockspace = text("lockspace")?.unwrap_or(LOCKSPACE);
        if lockspace.is_empty() || lockspace.len() > 48 || lockspace.contains([':', ' ', '\\', '/', '\0']) {
            return Err(format!(
                "the parameter `lockspace` is `{lockspace}`: it can have 1 to 48 bytes, and no colon, blank, slash or \
                 backslash"
            )
            .into());
        }
        Ok(Settings {
            directory: text("directory")?.map(PathBuf::from),
            lockspace: lockspace.to_owned(),
            host_id,
            io_timeout: number("io_timeout")?.unwrap_or(0).try_into()?,
            ignore_disks: disks == "ignore",
            handler: text("handler")?.map(PathBuf::from),
            client: text("client")?.unwrap_or(client::USUAL).into(),
        })
    }

    pub(crate) fn record(&self) -> Record {
        let Settings { directory, lockspace, host_id, io_timeout, ignore_disks, handler, client } = self;
        let mut record = Record::new(HEAD);
        record.put_text("lockspace", lockspace).put_text("io_timeout", io_timeout);
        record.put_text("ignore_disks", ignore_disks).put("client", &[client.as_bytes()]);
        if let Some(host_id) = host_id {
            record.put_text("host_id", host_id);
        }
        for (key, path) in [("directory", directory), ("handler", handler)] {
            if let Some(path) = path {
                record.put(key, &[path.as_os_str().as_bytes()]);
            }
        }
        record
    }

    pub(crate) fn of_record(record: &Record) -> Option<Settings> {
        let path = |key: &str| {
            let word = record.words().iter().find(|word| word.key() == key)?;
            Some(PathBuf::from(OsStr::from_bytes(word.parts().first()?)))
        };
        Some(Settings {
            directory: path("directory"),
            lockspace: record.text("lockspace")?.to_owned(),
            host_id: record.value("host_id"),
            io_timeout: record.value("io_timeout")?,
            ignore_disks: record.value("ignore_disks")?,
            handler: path("handler"),
            client: path("client")?.into(),
        })
    }
}
