//! Whose files a program runs as its own code.
//!
//! To load a library is to let its author be the process. So a file is loaded
//! only if nobody but those who could be the process anyway can have written it:
//! root and the process's own (effective) user. The check is made on the opened
//! descriptor, and what is loaded is a private copy of what that descriptor read.
//!
//! **The file** must belong to one of them, and be writable by neither group nor
//! world. One group is an exception: the owner's *private group*. Systems that give
//! each user a group of their own use umask 002, so that everything a compiler
//! writes is group-writable, and nobody but the user is meant by it. A group is
//! private if it has the user's number or the user's name, is the process's own
//! effective group, and neither `/etc/group` nor `/etc/passwd` lists anyone else in
//! it; and if the file has no access control list, for which the group bits stand
//! as a mask. The convention is the one that `pam_umask`'s `usergroups` goes by.
//! Members that only a directory service knows are not seen: a site that puts
//! people into each other's private groups there says
//! [`GroupWritable::Never`].
//!
//! **The directory** that holds the file must belong to one of them too, and follow
//! the same rule about writing, or be sticky (like `/tmp`): who can rename files
//! there chooses *which* trusted file is loaded, an old one with a hole, say. The
//! directories above are not checked: swapping one brings in another directory,
//! which is checked again.
//!
//! **Symbolic links** are followed, for packages are installed that way; the rules
//! hold for the file they lead to, its directory, and the directory of the path as
//! it was named.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;

use super::error::LoadError;

/// Which files may be loaded; the module's page says why. Made by
/// [`Policy::default`], changed by its methods.
///
/// ```
/// use lcr_core::library::{GroupWritable, Policy};
/// let strict = Policy::default().group_writable(GroupWritable::Never);
/// let site = Policy::default().owner(990).max_size(64 << 20);
/// # let _ = (strict, site);
/// ```
#[derive(Debug, Clone)]
pub struct Policy {
    owners: Vec<u32>,
    any_owner: bool,
    group_writable: GroupWritable,
    world_writable: bool,
    directories: bool,
    by_path: bool,
    max_size: u64,
}

/// When a file that its group can write is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupWritable {
    /// Never.
    Never,
    /// If the group is the owner's private group and the process's own.
    Private,
    /// Always.
    Always,
}

impl Default for Policy {
    /// Root and the process's effective user; private groups; directories checked;
    /// a verified copy is loaded, never a path; at most 1 GiB.
    fn default() -> Self {
        Policy {
            owners: vec![0, rustix::process::geteuid().as_raw()],
            any_owner: false,
            group_writable: GroupWritable::Private,
            world_writable: false,
            directories: true,
            by_path: false,
            max_size: 1 << 30,
        }
    }
}

impl Policy {
    /// Trusts one more owner.
    #[must_use]
    pub fn owner(mut self, uid: u32) -> Self {
        self.owners.push(uid);
        self
    }

    /// Trusts whoever owns the file.
    #[must_use]
    pub fn any_owner(mut self) -> Self {
        self.any_owner = true;
        self
    }

    /// Says when a file that its group can write is loaded.
    #[must_use]
    pub fn group_writable(mut self, when: GroupWritable) -> Self {
        self.group_writable = when;
        self
    }

    /// Loads files that everyone can write.
    #[must_use]
    pub fn world_writable(mut self, allowed: bool) -> Self {
        self.world_writable = allowed;
        self
    }

    /// Whether the file's directory is checked as the file is.
    #[must_use]
    pub fn directories(mut self, checked: bool) -> Self {
        self.directories = checked;
        self
    }

    /// Lets the dynamic linker open the path of a library that finds what it needs
    /// by `$ORIGIN`. Such a file is verified, and compared with what was mapped
    /// afterwards; but its constructors have run by then, and overwriting it in
    /// place crashes the process.
    #[must_use]
    pub fn by_path(mut self, allowed: bool) -> Self {
        self.by_path = allowed;
        self
    }

    /// The largest file that is loaded, in bytes.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    pub(super) fn allows_path(&self) -> bool {
        self.by_path
    }

    pub(super) fn largest(&self) -> u64 {
        self.max_size
    }

    /// Checks a file that was opened as `path`.
    pub(super) fn check_file(&self, path: &Path, stat: &Stat, acl: bool) -> Result<(), LoadError> {
        self.check(path, &Facts::of(stat, acl), &Accounts::system)
    }

    /// Checks a directory that was opened as `path`.
    pub(super) fn check_directory(&self, path: &Path, stat: &Stat, acl: bool) -> Result<(), LoadError> {
        if !self.directories {
            return Ok(());
        }
        let mut facts = Facts::of(stat, acl);
        if facts.mode & 0o1000 != 0 {
            facts.mode &= !0o022;
        }
        self.check(path, &facts, &Accounts::system)
    }

    fn check(&self, path: &Path, facts: &Facts, accounts: &dyn Fn() -> Accounts) -> Result<(), LoadError> {
        let Facts { uid, gid, mode, acl, euid, egid } = *facts;
        if !self.any_owner && !self.owners.contains(&uid) {
            let accounts = accounts();
            let mut wanted: Vec<u32> = self.owners.clone();
            wanted.dedup();
            return Err(LoadError::Owner {
                path: path.into(),
                found: accounts.user(uid),
                wanted: wanted.iter().map(|&uid| accounts.user(uid)).collect::<Vec<_>>().join(" or "),
                cure: format!(
                    "if you trust it, run: chown {euid} {} (or, in a Rust program, allow its owner: Policy::owner({uid}))",
                    quoted(path)
                ),
            });
        }
        let world = mode & 0o002 != 0 && !self.world_writable;
        let group = match self.group_writable {
            _ if mode & 0o020 == 0 => None,
            GroupWritable::Always => None,
            GroupWritable::Never => Some(accounts().group_label(gid)),
            GroupWritable::Private if acl => Some("whoever its access control list names".to_owned()),
            GroupWritable::Private if gid != egid => Some(accounts().group_label(gid)),
            GroupWritable::Private => accounts().outsiders(uid, gid),
        };
        let (found, who) = match (&group, world) {
            (None, false) => return Ok(()),
            (Some(group), false) => (format!("so that {group} can write it"), "g"),
            (None, true) => ("so that everyone can write it".to_owned(), "o"),
            (Some(_), true) => ("so that its group and everyone can write it".to_owned(), "go"),
        };
        Err(LoadError::Mode {
            path: path.into(),
            mode: mode & 0o7777,
            found,
            wanted: match self.group_writable {
                GroupWritable::Never => "write permission for its owner alone",
                _ => "write permission for its owner alone (or its owner's private group)",
            },
            cure: format!("chmod {who}-w {}", quoted(path)),
        })
    }
}

/// What decides about a file.
#[derive(Clone, Copy)]
struct Facts {
    uid: u32,
    gid: u32,
    mode: u32,
    acl: bool,
    euid: u32,
    egid: u32,
}

impl Facts {
    fn of(stat: &Stat, acl: bool) -> Self {
        Facts {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode,
            acl,
            euid: rustix::process::geteuid().as_raw(),
            egid: rustix::process::getegid().as_raw(),
        }
    }
}

/// The account files; read only where a decision or a message needs them.
struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    fn system() -> Self {
        let read = |path: &str| {
            fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        };
        Accounts { passwd: read("/etc/passwd"), group: read("/etc/group") }
    }

    /// Name, user and primary group of each user.
    fn users(&self) -> impl Iterator<Item = (&str, u32, u32)> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((name, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        })
    }

    /// Name, number and members of each group.
    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((name, fields.nth(1)?.parse().ok()?, fields.next().unwrap_or("")))
        })
    }

    fn user(&self, uid: u32) -> String {
        match self.users().find(|user| user.1 == uid) {
            Some((name, ..)) => format!("{name} (uid {uid})"),
            None => format!("uid {uid}"),
        }
    }

    fn group_label(&self, gid: u32) -> String {
        match self.groups().find(|group| group.1 == gid) {
            Some((name, ..)) => format!("group {name} (gid {gid})"),
            None => format!("group {gid}"),
        }
    }

    /// Who but `uid` may be in the group; `None` if it is that user's private group.
    fn outsiders(&self, uid: u32, gid: u32) -> Option<String> {
        // Two accounts may share a number: they are one user to the kernel.
        let is_owner = |name: &str| self.users().any(|user| user.0 == name && user.1 == uid);
        let named_alike = self.groups().any(|group| group.1 == gid && is_owner(group.0));
        if uid != gid && !named_alike {
            return Some(self.group_label(gid));
        }
        let listed = self.groups().filter(|group| group.1 == gid).flat_map(|group| group.2.split(','));
        let listed = listed.map(str::trim).filter(|name| !name.is_empty() && !is_owner(name));
        let primary = self.users().filter(|user| user.2 == gid && user.1 != uid).map(|user| user.0);
        let mut others: Vec<&str> = listed.chain(primary).collect();
        others.sort_unstable();
        others.dedup();
        (!others.is_empty()).then(|| format!("{} in {}", others.join(", "), self.group_label(gid)))
    }
}

/// The path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@%:=".contains(c);
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The directory part of a path.
pub(super) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.into(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n\
                     bob:x:1001:1005::/home/bob:/bin/sh\ncarol:x:1002:1000::/:/bin/sh\n\
                     dan:x:1003:1003::/:/bin/sh\n"
                .into(),
            group: "root:x:0:\nalice:x:1000:\nbob:x:1005:bob\nstaff:x:50:alice,dan\ndan:x:1003:dan,alice\n"
                .into(),
        }
    }

    fn facts(uid: u32, gid: u32, mode: u32) -> Facts {
        Facts { uid, gid, mode, acl: false, euid: uid, egid: gid }
    }

    fn policy(euid: u32) -> Policy {
        Policy { owners: vec![0, euid], ..Policy::default() }
    }

    fn says(policy: &Policy, facts: Facts) -> String {
        match policy.check(Path::new("/opt/a b.so"), &facts, &accounts) {
            Ok(()) => "fine".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn files_of_root_and_of_the_user_are_loaded() {
        assert_eq!(says(&policy(1001), facts(1001, 1005, 0o100_755)), "fine");
        assert_eq!(says(&policy(1001), Facts { euid: 1001, ..facts(0, 0, 0o100_644) }), "fine");
    }

    #[test]
    fn a_foreign_owner_is_refused_with_the_chown() {
        let facts = Facts { euid: 1001, egid: 1005, ..facts(1000, 1000, 0o100_755) };
        assert_eq!(
            says(&policy(1001), facts),
            "/opt/a b.so: belongs to alice (uid 1000), wanted root (uid 0) or bob (uid 1001); \
             if you trust it, run: chown 1001 '/opt/a b.so' (or, in a Rust program, allow its owner: Policy::owner(1000))"
        );
        assert_eq!(says(&policy(1001).owner(1000), facts), "fine");
        assert_eq!(says(&policy(1001).any_owner(), facts), "fine");
    }

    #[test]
    fn a_world_writable_file_is_refused_with_the_chmod() {
        assert_eq!(
            says(&policy(1001), facts(1001, 1005, 0o100_757)),
            "/opt/a b.so: has mode 0757, so that everyone can write it; wanted write permission for its owner \
             alone (or its owner's private group); run: chmod o-w '/opt/a b.so'"
        );
        assert_eq!(says(&policy(1001).world_writable(true), facts(1001, 1005, 0o100_757)), "fine");
    }

    #[test]
    fn a_private_group_may_write_and_no_other() {
        // By name, by number.
        assert_eq!(says(&policy(1001), facts(1001, 1005, 0o100_775)), "fine");
        assert_eq!(says(&policy(0), facts(0, 0, 0o100_775)), "fine");
        // Unknown to the account files: the number decides.
        assert_eq!(says(&policy(4711), facts(4711, 4711, 0o100_775)), "fine");
        // Someone else's primary group; someone else listed; another group altogether.
        assert!(
            says(&policy(1000), facts(1000, 1000, 0o100_775))
                .contains("so that carol in group alice (gid 1000)")
        );
        assert!(
            says(&policy(1003), facts(1003, 1003, 0o100_775))
                .contains("so that alice in group dan (gid 1003)")
        );
        let staff = says(&policy(1000), facts(1000, 50, 0o100_664));
        assert!(staff.contains("has mode 0664, so that group staff (gid 50) can write it"), "{staff}");
        assert!(staff.ends_with("run: chmod g-w '/opt/a b.so'"), "{staff}");
        // Not the process's own group.
        let other = Facts { egid: 50, ..facts(1001, 1005, 0o100_775) };
        assert!(says(&policy(1001), other).contains("group bob (gid 1005)"));
        // An access control list hides who can write.
        let acl = Facts { acl: true, ..facts(1001, 1005, 0o100_775) };
        assert!(says(&policy(1001), acl).contains("whoever its access control list names"));
    }

    #[test]
    fn a_site_can_be_stricter_or_laxer_about_groups() {
        let private = facts(1001, 1005, 0o100_775);
        let strict = says(&policy(1001).group_writable(GroupWritable::Never), private);
        assert!(strict.contains("wanted write permission for its owner alone; run: chmod g-w"), "{strict}");
        let staff = facts(1000, 50, 0o100_664);
        assert_eq!(says(&policy(1000).group_writable(GroupWritable::Always), staff), "fine");
    }

    #[test]
    fn one_chmod_cures_both() {
        assert!(says(&policy(1000), facts(1000, 50, 0o100_666)).ends_with("run: chmod go-w '/opt/a b.so'"));
    }
}
