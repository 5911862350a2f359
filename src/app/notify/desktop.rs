//! A desktop notification, by the program that the system has for it.

use std::process::{Command as Process, Stdio};

use super::Message;

pub(crate) fn show(message: &Message) -> Result<(), String> {
    let mut tried = Vec::new();
    for mut command in commands(message) {
        let name = command.get_program().to_string_lossy().into_owned();
        let ended = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match ended {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => tried.push(format!("{name} exited with {status}")),
            Err(_) => tried.push(format!("{name} is not installed")),
        }
    }
    Err(tried.join(", "))
}

#[cfg(target_os = "macos")]
fn commands(message: &Message) -> Vec<Process> {
    // As arguments, not as part of the script.
    let script =
        "on run argv\ndisplay notification (item 2 of argv) with title (item 1 of argv)\nend run";
    let mut command = Process::new("osascript");
    command.args(["-e", script, &message.alert.title, &message.alert.message]);
    vec![command]
}

#[cfg(windows)]
fn commands(message: &Message) -> Vec<Process> {
    // In the environment, not as part of the script.
    let script = "Add-Type -AssemblyName System.Windows.Forms; \
        $n = New-Object System.Windows.Forms.NotifyIcon; \
        $n.Icon = [System.Drawing.SystemIcons]::Information; $n.Visible = $true; \
        $n.ShowBalloonTip(10000, $env:BDR_NOTE_TITLE, $env:BDR_NOTE_BODY, 'Info'); \
        Start-Sleep -Seconds 10; $n.Dispose()";
    let mut command = Process::new("powershell.exe");
    command
        .args([
            "-NoProfile",
            "-NonInteractive",
            "-WindowStyle",
            "Hidden",
            "-Command",
            script,
        ])
        .env("BDR_NOTE_TITLE", &message.alert.title)
        .env("BDR_NOTE_BODY", &message.alert.message);
    vec![command]
}

/// The interface of all desktops (<https://specifications.freedesktop.org/notification-spec/>), by
/// the program made for it, or else by one that comes with systemd.
#[cfg(not(any(target_os = "macos", windows)))]
fn commands(message: &Message) -> Vec<Process> {
    use bdr::care::status::Level;

    let urgency = match message.level {
        Level::Critical => "critical",
        Level::Good | Level::Warning => "normal",
    };
    let mut send = Process::new("notify-send");
    send.args([
        "--app-name=bdr",
        "--urgency",
        urgency,
        "--",
        &message.alert.title,
        &message.alert.message,
    ]);
    let mut call = Process::new("busctl");
    call.args([
        "--user",
        "call",
        // The last argument and any title may begin with a dash.
        "--",
        "org.freedesktop.Notifications",
        "/org/freedesktop/Notifications",
        "org.freedesktop.Notifications",
        "Notify",
        "susssasa{sv}i",
        "bdr",
        "0",
        "",
        &message.alert.title,
        &message.alert.message,
        "0",
        "0",
        "-1",
    ]);
    let mut commands = vec![send, call];
    // A cron job does not know the address of the session's bus.
    if crate::app::context::variable("DBUS_SESSION_BUS_ADDRESS").is_none() {
        let bus = format!("/run/user/{}/bus", bdr::disk::fsutil::user_number());
        for command in &mut commands {
            command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={bus}"));
        }
    }
    commands
}
