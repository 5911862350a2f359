//! A timer and a service of the user's systemd (systemd.timer(5), systemd.service(5), systemd.syntax(7)).

use std::ffi::OsStr;
use std::path::PathBuf;

use super::{Backend, Entry};
use crate::base::error::{Error, Result};

pub const SERVICE: &str = "bdr-tick.service";
pub const TIMER: &str = "bdr-tick.timer";

const HEAD: &str = "# Made by bdr; changes are lost. To change it: bdr schedule install\n";

/// Returns the service, which says what to start.
///
/// # Errors
/// A path is not UTF-8, or has a line end.
pub fn service(entry: &Entry) -> Result<String> {
    let mut start = quoted(entry.program.as_os_str(), true)?;
    for arg in entry.argv(Backend::Systemd) {
        start.push(' ');
        start.push_str(&quoted(&arg, true)?);
    }
    let mut environment = String::new();
    for (name, value) in &entry.environment {
        let mut pair = std::ffi::OsString::from(format!("{name}="));
        pair.push(value);
        environment.push_str(&format!("Environment={}\n", quoted(&pair, false)?));
    }
    Ok(format!(
        "{HEAD}[Unit]\nDescription=Backups that are due (bdr)\n\n\
         [Service]\nType=oneshot\nExecStart={start}\n{environment}\
         Nice=10\nIOSchedulingClass=idle\nTimeoutStartSec=2h\nUMask=0077\n"
    ))
}

/// Returns the timer, which says when to start it.
pub fn timer(entry: &Entry) -> String {
    format!(
        "{HEAD}[Unit]\nDescription=Wakes bdr every hour\n\n\
         [Timer]\nOnCalendar=*-*-* *:{:02}:00\nOnStartupSec=3min\nPersistent=true\nAccuracySec=1min\n\n\
         [Install]\nWantedBy=timers.target\n",
        entry.minute
    )
}

/// In a command `$` begins a variable and `%` a specifier; in an assignment only `%` does.
fn quoted(text: &OsStr, command: bool) -> Result<String> {
    let text = text
        .to_str()
        .filter(|text| !text.contains(['\n', '\r', '\0']));
    let text = text.ok_or_else(|| {
        Error::invalid(
            "systemd cannot start a program whose path is not plain text",
            Some("move bdr to another directory, or: bdr schedule install --backend cron"),
        )
    })?;
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '%' => out.push_str("%%"),
            '$' if command => out.push_str("$$"),
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(out)
}

pub fn program_in(service: &[u8]) -> Option<PathBuf> {
    let text = std::str::from_utf8(service).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))?;
    let mut chars = line.strip_prefix('"')?.chars().peekable();
    let mut path = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(PathBuf::from(path)),
            '\\' => path.push(chars.next()?),
            c @ ('%' | '$') => {
                chars.next_if_eq(&c);
                path.push(c);
            }
            c => path.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_say_what_is_started_and_when() {
        let mut entry = Entry {
            program: "/home/me/.local/bin/bdr".into(),
            args: Vec::new(),
            environment: Vec::new(),
            minute: 7,
        };
        assert_eq!(
            service(&entry).unwrap(),
            "# Made by bdr; changes are lost. To change it: bdr schedule install\n\
             [Unit]\nDescription=Backups that are due (bdr)\n\n\
             [Service]\nType=oneshot\n\
             ExecStart=\"/home/me/.local/bin/bdr\" \"tick\" \"--quiet\" \"--scheduler\" \"systemd\"\n\
             Nice=10\nIOSchedulingClass=idle\nTimeoutStartSec=2h\nUMask=0077\n"
        );
        assert!(
            timer(&entry)
                .contains("\nOnCalendar=*-*-* *:07:00\nOnStartupSec=3min\nPersistent=true\n")
        );
        entry
            .environment
            .push(("BDR_HOME".to_owned(), "/a $b/100%".into()));
        entry.args = vec!["--repository".into(), "/mnt/$x \"y\"".into()];
        let text = service(&entry).unwrap();
        assert!(
            text.contains("\nEnvironment=\"BDR_HOME=/a $b/100%%\"\n"),
            "{text}"
        );
        assert!(
            text.contains("\"--repository\" \"/mnt/$$x \\\"y\\\"\"\n"),
            "{text}"
        );
        for program in ["/a/b", "/with space/100%/$b/\"c\"/d\\e"] {
            entry.program = program.into();
            assert_eq!(
                program_in(service(&entry).unwrap().as_bytes()),
                Some(program.into())
            );
        }
        entry.program = "/line\nend".into();
        assert!(service(&entry).is_err());
        assert_eq!(program_in(b"[Service]\nExecStart=/bin/other\n"), None);
    }
}
