//! The original's places, in the original's order: the directory that the process is
//! in, the built-in one, `LD_LIBRARY_PATH`, `/etc/ld.so.conf` with what it includes.
//!
//! They are found out once, at the first look-up that needs them, and all made
//! absolute then: a later `chdir` changes nothing. Programs rely on them, so they are the
//! C library's default; they are no good idea otherwise, for whoever can make a file
//! there chooses what runs. So only `*.lcrso` count there, who wrote them is checked
//! as for any library, and a program that runs with more rights than its caller
//! (`AT_SECURE`) looks into the built-in directory and ld.so.conf alone, as the dynamic
//! linker does.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::library::is_secure;

/// The file that lists the system's directories.
const CONF: &str = "/etc/ld.so.conf";
/// A file that includes itself, or a chain of such, ends here.
const DEEPEST: usize = 8;

/// The places, now.
pub(super) fn places(built_in: Option<PathBuf>) -> Vec<PathBuf> {
    let is_secure = is_secure();
    let here = env::current_dir().ok();
    let listed = env::var_os("LD_LIBRARY_PATH").filter(|_| !is_secure).unwrap_or_default();
    let absolute = |path: PathBuf| here.as_ref().map(|here| here.join(&path)).unwrap_or(path);
    let mut all: Vec<PathBuf> = here.iter().filter(|_| !is_secure).cloned().collect();
    all.extend(built_in);
    // The dynamic linker takes both for a separator.
    let listed = listed.as_bytes().split(|byte| matches!(byte, b':' | b';'));
    let listed = listed.filter(|path| !path.is_empty());
    all.extend(listed.map(|path| absolute(PathBuf::from(OsStr::from_bytes(path)))));
    read_conf(Path::new(CONF), DEEPEST, &mut all);
    let mut unique: Vec<PathBuf> = Vec::with_capacity(all.len());
    for path in all {
        if path.is_absolute() && !unique.contains(&path) {
            unique.push(path);
        }
    }
    unique
}

/// Adds the directories of a file in the form of ld.so.conf: one or more a line, a `#`
/// begins a comment, `include PATTERN…` takes in other files, relative to this one's
/// directory, and `hwcap` lines, which mean nothing any more, are passed over.
fn read_conf(conf: &Path, depth: usize, all: &mut Vec<PathBuf>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let Ok(text) = fs::read(conf) else { return };
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        match line.split(u8::is_ascii_whitespace).next() {
            Some(b"include") => {
                for pattern in words.skip(1) {
                    let directory = conf.parent().unwrap_or(Path::new("/"));
                    for file in matching(&directory.join(OsStr::from_bytes(pattern))) {
                        read_conf(&file, depth, all);
                    }
                }
            }
            Some(b"hwcap") => {}
            _ => {
                // Older files separate by commas and colons, and say `=TYPE` behind a path.
                let paths = words.by_ref().flat_map(|word| word.split(|byte| matches!(byte, b':' | b',')));
                let paths = paths.filter_map(|path| path.split(|byte| *byte == b'=').next());
                all.extend(
                    paths
                        .filter(|path| path.first() == Some(&b'/'))
                        .map(|path| PathBuf::from(OsStr::from_bytes(path))),
                );
            }
        }
    }
}

/// The files that a pattern names, sorted: `*` and `?` in its last part, as every
/// distribution writes it.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else { return Vec::new() };
    let name = name.as_bytes();
    if !name.iter().any(|byte| matches!(byte, b'*' | b'?')) {
        return vec![pattern.to_owned()];
    }
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    let names = names.filter(|found| !found.as_bytes().starts_with(b".") && fits(name, found.as_bytes()));
    let mut files: Vec<PathBuf> = names.map(|found| directory.join(found)).collect();
    files.sort_unstable();
    files
}

fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', pattern)), _) => (0..=text.len()).any(|skip| fits(pattern, &text[skip..])),
        (Some((b'?', pattern)), Some((_, text))) => fits(pattern, text),
        (Some((a, pattern)), Some((b, text))) => a == b && fits(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_paths_and_includes_are_followed() {
        let directory = env::temp_dir().join(format!("lcr-ld-so-conf-{}", std::process::id()));
        fs::create_dir_all(directory.join("conf.d")).unwrap();
        let conf = directory.join("ld.so.conf");
        let absolute = directory.join("elsewhere.conf");
        fs::write(&absolute, "/d\n").unwrap();
        fs::write(
            &conf,
            format!(
                "# /comment\n/a /b:/c # /tail\n\ninclude conf.d/*.conf\ninclude {}\n\
                 include ld.so.conf\nhwcap 1 nosegneg\nrelative\n/old=libc5\n",
                absolute.display()
            ),
        )
        .unwrap();
        fs::write(directory.join("conf.d/2.conf"), "/two\n").unwrap();
        fs::write(directory.join("conf.d/1.conf"), "#/none\n/one").unwrap();
        fs::write(directory.join("conf.d/other"), "/none\n").unwrap();
        let mut all = Vec::new();
        read_conf(&conf, 1, &mut all);
        assert_eq!(all, ["/a", "/b", "/c", "/old"].map(PathBuf::from), "no include is followed too deep");
        all.clear();
        // The file includes itself, once more here.
        read_conf(&conf, 2, &mut all);
        let paths: Vec<_> = all.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/a", "/b", "/c", "/one", "/two", "/d", "/a", "/b", "/c", "/old", "/old"]);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn patterns_fit_what_they_name() {
        assert!(fits(b"*.conf", b"a.conf") && fits(b"?.c*", b"a.conf") && fits(b"*", b""));
        assert!(!fits(b"*.conf", b"a.conf~") && !fits(b"?", b""));
    }
}
