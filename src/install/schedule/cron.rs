//! A block in the user's crontab (crontab(5)). Everything is bytes, because other lines may be in
//! any encoding.
//!
//! The block comes first. So no assignment of the user (`SHELL`, `MAILTO`, `PATH`) applies to it,
//! it makes none itself, and all existing lines follow it byte for byte.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::{Backend, Entry};
use crate::base::error::{Error, Result};
use crate::base::path::{os_from_bytes, os_to_bytes};
use crate::disk::fsutil;

const BEGIN: &[u8] = b"# >>> bdr schedule >>> made by bdr; changes between these lines are lost";
const END: &[u8] = b"# <<< bdr schedule <<<";
/// Marks the two lines, whatever else they say.
const BEGIN_MARK: &[u8] = b"# >>> bdr schedule >>>";

/// Names of cron daemons, as the kernel has them.
const DAEMONS: [&str; 6] = [
    "cron",
    "crond",
    "fcron",
    "dcron",
    "bcron-start",
    "busybox-crond",
];

/// Returns whether a cron daemon is running; `None` if the system does not tell.
pub fn daemon_runs() -> Option<bool> {
    // A user who cannot see even the first process cannot see a daemon either.
    std::fs::read_to_string("/proc/1/comm").ok()?;
    let processes = fsutil::read_dir("/proc").ok()?.flatten();
    let names = processes.filter_map(|entry| {
        let is_process = entry
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit);
        let comm = entry.path().join("comm");
        is_process.then(|| std::fs::read_to_string(comm).ok())?
    });
    Some(
        names
            .into_iter()
            .any(|name| DAEMONS.contains(&name.trim_end())),
    )
}

/// Returns the block.
///
/// # Errors
/// A path has a line end.
pub fn block(entry: &Entry) -> Result<Vec<u8>> {
    let mut command = Vec::new();
    if !entry.environment.is_empty() {
        // Not `NAME=value bdr`, because the user's shell may be any.
        command.extend_from_slice(b"/usr/bin/env ");
        for (name, value) in &entry.environment {
            let mut pair = std::ffi::OsString::from(format!("{name}="));
            pair.push(value);
            quote(&mut command, &pair)?;
            command.push(b' ');
        }
    }
    quote(&mut command, entry.program.as_os_str())?;
    for arg in entry.argv(Backend::Cron) {
        command.push(b' ');
        quote(&mut command, &arg)?;
    }
    let mut block = Vec::new();
    for line in [
        BEGIN,
        &[format!("{} * * * * ", entry.minute).as_bytes(), &command].concat(),
        &[b"@reboot ".as_slice(), &command].concat(),
        END,
    ] {
        block.extend_from_slice(line);
        block.push(b'\n');
    }
    Ok(block)
}

/// Single quotes mean the same to every shell; `%` is a line end to cron, even inside quotes.
fn quote(out: &mut Vec<u8>, word: &OsStr) -> Result<()> {
    let bytes = os_to_bytes(word);
    if bytes.contains(&b'\n') || bytes.contains(&0) {
        return Err(Error::invalid(
            "cron cannot start a program whose path contains a line break",
            Some("move bdr to another directory"),
        ));
    }
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./=:,+@".contains(b);
    if bytes.iter().all(plain) && !bytes.is_empty() {
        out.extend_from_slice(&bytes);
        return Ok(());
    }
    out.push(b'\'');
    for byte in bytes.iter() {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            b'%' => out.extend_from_slice(b"\\%"),
            byte => out.push(*byte),
        }
    }
    out.push(b'\'');
    Ok(())
}

/// Returns a crontab with the block added, replaced or removed.
///
/// # Errors
/// The marking lines are not a pair: somebody has changed them.
pub fn edit(old: &[u8], block: Option<&[u8]>) -> Result<Vec<u8>> {
    let block = block.unwrap_or_default();
    Ok(match find(old)? {
        Some((from, to)) => [&old[..from], block, &old[to..]].concat(),
        None => [block, old].concat(),
    })
}

/// Returns the range of the block, from the beginning of its first line to the end of its last.
fn find(text: &[u8]) -> Result<Option<(usize, usize)>> {
    let (mut begins, mut ends) = (Vec::new(), Vec::new());
    let mut at = 0;
    for (number, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
        let words = line.trim_ascii();
        if words.starts_with(BEGIN_MARK) {
            begins.push((number + 1, at));
        } else if words == END {
            ends.push((number + 1, at + line.len()));
        }
        at += line.len();
    }
    match (&begins[..], &ends[..]) {
        ([], []) => Ok(None),
        ([(_, from)], [(_, to)]) if from < to => Ok(Some((*from, *to))),
        _ => {
            let mut lines: Vec<usize> = begins.iter().chain(&ends).map(|(line, _)| *line).collect();
            lines.sort_unstable();
            let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
            Err(Error::invalid(
                format!(
                    "the crontab's markers around bdr's lines do not match (line {})",
                    lines.join(", ")
                ),
                Some("remove these lines with `crontab -e`, then run this again"),
            ))
        }
    }
}

/// Returns a crontab without the three header lines that some programs add.
pub fn without_header(text: &[u8]) -> &[u8] {
    if !text.starts_with(b"# DO NOT EDIT THIS FILE") {
        return text;
    }
    let mut rest = text;
    for _ in 0..3 {
        let end = rest.iter().position(|b| *b == b'\n');
        match end {
            Some(end) if rest.starts_with(b"#") => rest = &rest[end + 1..],
            _ => break,
        }
    }
    rest
}

/// Returns the program that the block starts; `None` if there is no block.
///
/// # Errors
/// The marking lines are not a pair.
pub fn program_in(text: &[u8]) -> Result<Option<Option<PathBuf>>> {
    let Some((from, to)) = find(text)? else {
        return Ok(None);
    };
    let line = text[from..to]
        .split(|b| *b == b'\n')
        .find_map(|line| line.strip_prefix(b"@reboot "));
    let mut words = line.map(words).unwrap_or_default().into_iter().peekable();
    if words.next_if(|word| word == b"/usr/bin/env").is_some() {
        while words.next_if(|word| word.contains(&b'=')).is_some() {}
    }
    let program = words.next().map(|word| PathBuf::from(os_from_bytes(&word)));
    Ok(Some(program))
}

/// Inverse of [`quote`].
fn words(line: &[u8]) -> Vec<Vec<u8>> {
    let mut words = vec![Vec::new()];
    let mut quoted = false;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        let Some(word) = words.last_mut() else { break };
        match byte {
            b'\'' => quoted = !quoted,
            // Inside quotes it is cron's, and only before `%`.
            b'\\' if !quoted || bytes.clone().next() == Some(b'%') => word.extend(bytes.next()),
            b' ' if !quoted => words.push(Vec::new()),
            byte => word.push(byte),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(program: &str) -> Entry {
        Entry {
            program: program.into(),
            args: vec!["--repository".into(), "/mnt/my disk/100%".into()],
            environment: Vec::new(),
            minute: 17,
        }
    }

    #[test]
    fn the_block_says_what_is_started() {
        let text = block(&entry("/home/me/.local/bin/bdr")).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "# >>> bdr schedule >>> made by bdr; changes between these lines are lost\n\
             17 * * * * /home/me/.local/bin/bdr tick --quiet --scheduler cron --repository '/mnt/my disk/100\\%'\n\
             @reboot /home/me/.local/bin/bdr tick --quiet --scheduler cron --repository '/mnt/my disk/100\\%'\n\
             # <<< bdr schedule <<<\n"
        );
        for program in [
            "/a/b",
            "/with space/bdr",
            "/it's/100%/\"bdr\"",
            "/back\\slash/b",
        ] {
            let mut entry = entry(program);
            for environment in [vec![], vec![("BDR_HOME".to_owned(), "/x y/z'".into())]] {
                entry.environment = environment;
                let found = program_in(&block(&entry).unwrap()).unwrap();
                assert_eq!(found, Some(Some(program.into())));
            }
        }
        assert!(block(&entry("/line\nend/bdr")).is_err());
    }

    #[test]
    fn what_others_have_there_stays_byte_for_byte() {
        let first = block(&entry("/old/bdr")).unwrap();
        let second = block(&entry("/new/bdr")).unwrap();
        for old in [
            b"".as_slice(),
            b"MAILTO=me\n0 1 * * * true\n",
            b"# d\xe9j\xe0 vu\n* * * * * /opt/\xff\xfe\n",
            b"0 1 * * * no final newline",
            b"\n\n  \n# >>> resticprofile >>>\n0 0 * * * r\n# <<< resticprofile <<<\n",
            b"\r\n* * * * * windows\r\n",
        ] {
            let with = edit(old, Some(&first)).unwrap();
            assert_eq!(edit(&with, Some(&first)).unwrap(), with, "twice is once");
            let other = edit(&with, Some(&second)).unwrap();
            assert_eq!(program_in(&other).unwrap(), Some(Some("/new/bdr".into())));
            assert_eq!(edit(&other, None).unwrap(), old);
            assert_eq!(edit(old, None).unwrap(), old);
            assert_eq!(program_in(old).unwrap(), None);
        }
        // Wherever the user has moved it.
        let moved = [b"0 1 * * * true\n".as_slice(), &first, b"0 2 * * * true\n"].concat();
        assert_eq!(
            edit(&moved, None).unwrap(),
            b"0 1 * * * true\n0 2 * * * true\n"
        );
    }

    #[test]
    fn a_block_that_somebody_has_changed_is_not_touched() {
        let block = block(&entry("/x/bdr")).unwrap();
        let text = String::from_utf8(block.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for broken in [
            lines[0].to_owned(),
            lines[3].to_owned(),
            format!("{}\n{}\n", lines[3], lines[0]),
            format!("{text}{text}"),
            format!("{}\n{text}", lines[0]),
        ] {
            let error = edit(broken.as_bytes(), Some(&block)).unwrap_err();
            assert!(error.to_string().contains("line 1"), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn a_header_that_is_only_shown_is_not_installed() {
        let header = b"# DO NOT EDIT THIS FILE - edit the master and reinstall.\n# (/tmp/x installed on Mon)\n# (Cron version)\n0 1 * * * x\n";
        assert_eq!(without_header(header), b"0 1 * * * x\n");
        assert_eq!(without_header(b"# mine\n"), b"# mine\n");
        assert_eq!(
            without_header(b"# DO NOT EDIT THIS FILE, says my boss\n0 1 * * * x\n"),
            b"0 1 * * * x\n"
        );
    }
}
