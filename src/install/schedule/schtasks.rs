//! A task of Windows' Task Scheduler, as XML, because flags of `schtasks` cannot express half of it
//! (<https://learn.microsoft.com/windows/win32/taskschd/task-scheduler-schema>).

use std::ffi::OsStr;
use std::path::PathBuf;

use super::launchd::{plain, text};
use super::{Backend, Entry};
use crate::base::error::Result;

pub const NAME: &str = "\\bdr\\tick";

/// Returns the task as a file for `schtasks`: UTF-16 with a byte order mark.
///
/// # Errors
/// A path is not plain text.
pub fn task(entry: &Entry, user: &str) -> Result<Vec<u8>> {
    let user = text(OsStr::new(user))?;
    let logon = format!(
        "    <LogonTrigger>\n      <Enabled>true</Enabled>\n      <UserId>{user}</UserId>\n      <Delay>PT3M</Delay>\n    </LogonTrigger>\n"
    );
    render(entry, &user, &logon)
}

/// As [`task`], for users who may not have tasks that start at logon.
///
/// # Errors
/// A path is not plain text.
pub fn task_without_logon(entry: &Entry, user: &str) -> Result<Vec<u8>> {
    render(entry, &text(OsStr::new(user))?, "")
}

fn render(entry: &Entry, user: &str, logon: &str) -> Result<Vec<u8>> {
    // A console program in a task opens a window; this option shows none.
    let mut arguments = String::from("--headless ");
    arguments.push_str(&quoted(&text(entry.program.as_os_str())?));
    for arg in entry.argv(Backend::Schtasks) {
        arguments.push(' ');
        arguments.push_str(&quoted(&text(&arg)?));
    }
    let minute = entry.minute;
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?>\n\
         <Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">\n\
         \x20 <RegistrationInfo>\n    <Author>bdr</Author>\n    <Description>Wakes bdr every hour to run backups that are due</Description>\n    <URI>{NAME}</URI>\n  </RegistrationInfo>\n\
         \x20 <Triggers>\n    <CalendarTrigger>\n      <Repetition>\n        <Interval>PT1H</Interval>\n        <Duration>P1D</Duration>\n        <StopAtDurationEnd>false</StopAtDurationEnd>\n      </Repetition>\n\
         \x20     <StartBoundary>2026-01-01T00:{minute:02}:00</StartBoundary>\n      <Enabled>true</Enabled>\n      <ScheduleByDay>\n        <DaysInterval>1</DaysInterval>\n      </ScheduleByDay>\n    </CalendarTrigger>\n{logon}  </Triggers>\n\
         \x20 <Principals>\n    <Principal id=\"Author\">\n      <UserId>{user}</UserId>\n      <LogonType>InteractiveToken</LogonType>\n      <RunLevel>LeastPrivilege</RunLevel>\n    </Principal>\n  </Principals>\n\
         \x20 <Settings>\n    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>\n    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>\n    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>\n    <AllowHardTerminate>true</AllowHardTerminate>\n    <StartWhenAvailable>true</StartWhenAvailable>\n    <RunOnlyIfNetworkAvailable>false</RunOnlyIfNetworkAvailable>\n    <AllowStartOnDemand>true</AllowStartOnDemand>\n    <Enabled>true</Enabled>\n    <Hidden>false</Hidden>\n    <RunOnlyIfIdle>false</RunOnlyIfIdle>\n    <WakeToRun>false</WakeToRun>\n    <ExecutionTimeLimit>PT2H</ExecutionTimeLimit>\n    <Priority>7</Priority>\n  </Settings>\n\
         \x20 <Actions Context=\"Author\">\n    <Exec>\n      <Command>conhost.exe</Command>\n      <Arguments>{arguments}</Arguments>\n    </Exec>\n  </Actions>\n</Task>\n"
    );
    let mut bytes = vec![0xff, 0xfe];
    for unit in xml.replace('\n', "\r\n").encode_utf16() {
        bytes.extend_from_slice(&unit.to_le_bytes());
    }
    Ok(bytes)
}

/// Quotes an argument for the C library of Windows; `"` is an entity by now, and in no file name.
fn quoted(word: &str) -> String {
    if !word.contains([' ', '\t']) && !word.is_empty() {
        return word.to_owned();
    }
    // A backslash before the closing quote would escape it.
    let trailing = word.len() - word.trim_end_matches('\\').len();
    format!("&quot;{word}{}&quot;", "\\".repeat(trailing))
}

/// Returns the program that a task starts, from the output of `schtasks /query /xml`.
pub fn program_in(xml: &[u8]) -> Option<PathBuf> {
    let xml = decoded(xml);
    let (_, rest) = xml.split_once("<Arguments>")?;
    let (arguments, _) = rest.split_once("</Arguments>")?;
    let arguments = plain(arguments);
    let arguments = arguments.strip_prefix("--headless ")?;
    // A console has a character set of its own, and we cannot know which.
    if arguments.contains('\u{fffd}') {
        return None;
    }
    let program = match arguments.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => arguments.split(' ').next()?,
    };
    Some(PathBuf::from(program))
}

/// UTF-16 from a file; the output of a console may be in any encoding, of which ASCII is enough.
fn decoded(bytes: &[u8]) -> String {
    let Some(units) = bytes.strip_prefix(&[0xff, 0xfe]) else {
        return String::from_utf8_lossy(bytes).into_owned();
    };
    let units: Vec<u16> = units
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_what_windows_reads_and_its_program_is_found_again() {
        for program in [
            "C:\\Users\\me\\bdr.exe",
            "C:\\Program Files\\R&D <x>\\bdr.exe",
        ] {
            let entry = Entry {
                program: program.into(),
                args: vec!["--repository".into(), "D:\\my backups\\".into()],
                environment: Vec::new(),
                minute: 9,
            };
            let task = task(&entry, "HOST\\Zoë & co").unwrap();
            assert_eq!(program_in(&task), Some(program.into()));
            let text = decoded(&task);
            assert!(text.contains("<StartBoundary>2026-01-01T00:09:00</StartBoundary>\r\n"));
            assert_eq!(
                text.matches("<UserId>HOST\\Zoë &amp; co</UserId>").count(),
                2
            );
            assert!(
                text.contains("&quot;D:\\my backups\\\\&quot;</Arguments>"),
                "{text}"
            );
            assert!(!text.replace("\r\n", "").contains('\n'));
            let plain = decoded(&task_without_logon(&entry, "me").unwrap());
            assert!(!plain.contains("LogonTrigger"));
        }
    }
}
