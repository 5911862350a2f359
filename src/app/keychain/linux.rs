//! The Secret Service of a desktop (GNOME Keyring, KWallet, KeePassXC), through `secret-tool` of
//! libsecret, with the kernel's keyring as a cache.
//!
//! Used only on request: cron, an SSH session and a container have none, and a vault whose key is
//! out of reach there would be useless. A D-Bus client would make the program a third larger, for
//! each guarded command. `secret-tool` is called once in half a day, and the kernel's keyring in
//! between. <https://specifications.freedesktop.org/secret-service/>, keyrings(7).

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use linux_keyutils::{KeyRing, KeyRingIdentifier};

/// New keys go there only on request.
pub(crate) const ALWAYS: bool = false;

/// A locked keychain asks for a password where nobody may see it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Somebody who turns it on is there to unlock it.
const PATIENCE_TO_STORE: Duration = Duration::from_secs(60);
/// How long the kernel remembers the key, in seconds.
const REMEMBERED: usize = 12 * 3600;

fn name_of(id: &str) -> String {
    format!("bdr:vault:{id}")
}

/// The kernel's keyring of this user; there may be none, or an unreadable one.
fn kernel() -> Option<KeyRing> {
    KeyRing::from_special_id(KeyRingIdentifier::User, false).ok()
}

/// Returns the secret under a name.
pub(crate) fn get(id: &str) -> Result<Option<Vec<u8>>, String> {
    let remembered = kernel().and_then(|ring| ring.search(&name_of(id)).ok());
    if let Some(secret) = remembered.and_then(|key| key.read_to_vec().ok()) {
        return Ok(Some(secret));
    }
    let args = ["lookup", "service", "bdr", "vault", id];
    let (found, text) = secret_tool(&args, None, PATIENCE)?;
    // Its status is 1 both for a missing key and a missing service; only in the latter case it
    // prints a message.
    if !found {
        return Ok(None);
    }
    let secret = hex::decode(text.trim()).map_err(|_| "the keychain's entry is not a key")?;
    if let Some(ring) = kernel()
        && let Ok(key) = ring.add_key(&name_of(id), &secret)
    {
        // Without a timeout it stays until the user's last process ends, which is fine too.
        let _ = key.set_timeout(REMEMBERED);
    }
    Ok(Some(secret))
}

pub(crate) fn set(id: &str, secret: &[u8]) -> Result<(), String> {
    let label = format!("bdr: vault {id}");
    let args = ["store", "--label", &label, "service", "bdr", "vault", id];
    let (kept, _) = secret_tool(&args, Some(&hex::encode(secret)), PATIENCE_TO_STORE)?;
    match kept {
        true => Ok(()),
        false => Err("the keychain did not accept the key".to_owned()),
    }
}

pub(crate) fn remove(id: &str) -> Result<(), String> {
    if let Some(ring) = kernel()
        && let Ok(key) = ring.search(&name_of(id))
    {
        let _ = key.invalidate();
    }
    let args = ["clear", "service", "bdr", "vault", id];
    secret_tool(&args, None, PATIENCE).map(|_| ())
}

/// Runs `secret-tool`; returns whether it succeeded, and its output.
fn secret_tool(
    args: &[&str],
    input: Option<&str>,
    patience: Duration,
) -> Result<(bool, String), String> {
    let mut child = Command::new("secret-tool")
        .args(args)
        .stdin(input.map_or_else(Stdio::null, |_| Stdio::piped()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                "secret-tool is not installed (Debian: libsecret-tools)".to_owned()
            }
            _ => format!("secret-tool: {e}"),
        })?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // If it does not read, its exit status says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("the keychain is locked or does not answer".to_owned());
            }
        }
    };
    // Both are at most a line, so they fit into a pipe.
    let text = |stream: Option<&mut dyn std::io::Read>| {
        let mut text = String::new();
        if let Some(stream) = stream {
            let _ = stream.take(4096).read_to_string(&mut text);
        }
        text
    };
    let said = text(child.stderr.as_mut().map(|s| s as _));
    if let Some(why) = said.lines().find(|line| !line.trim().is_empty()) {
        return Err(format!("secret-tool: {}", why.trim()));
    }
    Ok((
        status.success(),
        text(child.stdout.as_mut().map(|s| s as _)),
    ))
}
