//! A launchd agent on macOS (launchd.plist(5), launchctl(1)).

use std::path::{Path, PathBuf};

use super::{Backend, Entry};
use crate::base::error::{Error, Result};

pub const LABEL: &str = "dev.bdr.tick";

/// Returns the property list.
///
/// # Errors
/// A path is not UTF-8, or cannot be written in XML.
pub fn agent(entry: &Entry, home: &Path) -> Result<String> {
    let mut arguments = format!(
        "\t\t<string>{}</string>\n",
        text(entry.program.as_os_str())?
    );
    for arg in entry.argv(Backend::Launchd) {
        arguments.push_str(&format!("\t\t<string>{}</string>\n", text(&arg)?));
    }
    let mut environment = String::new();
    for (name, value) in &entry.environment {
        environment.push_str(&format!(
            "\t\t<key>{name}</key>\n\t\t<string>{}</string>\n",
            text(value)?
        ));
    }
    if !environment.is_empty() {
        environment =
            format!("\t<key>EnvironmentVariables</key>\n\t<dict>\n{environment}\t</dict>\n");
    }
    let log = text(home.join("Library/Logs/bdr.log").as_os_str())?;
    // RunAtLoad catches up after the machine was off. After sleep launchd catches up by itself.
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n\
         \t<key>Label</key>\n\t<string>{LABEL}</string>\n\
         \t<key>ProgramArguments</key>\n\t<array>\n{arguments}\t</array>\n{environment}\
         \t<key>StartCalendarInterval</key>\n\t<dict>\n\t\t<key>Minute</key>\n\t\t<integer>{}</integer>\n\t</dict>\n\
         \t<key>RunAtLoad</key>\n\t<true/>\n\
         \t<key>ProcessType</key>\n\t<string>Background</string>\n\
         \t<key>LowPriorityIO</key>\n\t<true/>\n\
         \t<key>Nice</key>\n\t<integer>10</integer>\n\
         \t<key>StandardOutPath</key>\n\t<string>{log}</string>\n\
         \t<key>StandardErrorPath</key>\n\t<string>{log}</string>\n\
         </dict>\n</plist>\n",
        entry.minute
    ))
}

/// Returns the program that an agent starts.
pub fn program_in(plist: &[u8]) -> Option<PathBuf> {
    let plist = std::str::from_utf8(plist).ok()?;
    let (_, arguments) = plist.split_once("<key>ProgramArguments</key>")?;
    let (_, rest) = arguments.split_once("<string>")?;
    let (program, _) = rest.split_once("</string>")?;
    Some(PathBuf::from(plain(program)))
}

/// Escapes text for XML.
pub(super) fn text(text: &std::ffi::OsStr) -> Result<String> {
    let text = text.to_str().filter(|text| {
        !text.contains(|c: char| c.is_control() || c == '\u{fffe}' || c == '\u{ffff}')
    });
    let text = text.ok_or_else(|| {
        Error::invalid(
            "the scheduler cannot take a path that is not plain text",
            Some("move bdr to another directory"),
        )
    })?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Inverse of [`text`].
pub(super) fn plain(xml: &str) -> String {
    xml.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_starts_its_program_hourly_and_at_login() {
        let mut entry = Entry {
            program: "/Users/me/R&D <x>/bdr".into(),
            args: Vec::new(),
            environment: vec![("BDR_HOME".to_owned(), "/x & y".into())],
            minute: 41,
        };
        let text = agent(&entry, Path::new("/Users/me")).unwrap();
        assert_eq!(program_in(text.as_bytes()), Some(entry.program.clone()));
        assert!(
            text.contains("<key>Minute</key>\n\t\t<integer>41</integer>"),
            "{text}"
        );
        assert!(
            text.contains("<key>BDR_HOME</key>\n\t\t<string>/x &amp; y</string>"),
            "{text}"
        );
        assert!(text.contains("<key>RunAtLoad</key>\n\t<true/>"), "{text}");
        entry.program = "/a\u{1}b".into();
        assert!(agent(&entry, Path::new("/")).is_err());
    }
}
