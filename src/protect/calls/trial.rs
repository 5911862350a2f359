//! Whether commands can be captured on this machine.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::disk::calls::{Call, Caller, Next, call_of, watch};
use crate::disk::fsutil;

/// Says whether commands can be captured here, by capturing one: that a filter can be installed does
/// not mean that its notifications arrive. `program` is one that removes the file that is its last
/// argument; `scratch` is a directory for it.
///
/// # Errors
/// Says why not.
pub fn usable(program: &Path, scratch: &Path) -> std::result::Result<(), String> {
    let file = scratch.join(format!("probe-{}", std::process::id()));
    fsutil::write_derived(&file, b"x").map_err(|error| error.to_string())?;
    let tried = try_it(program, &file);
    let _ = fsutil::remove_file(&file);
    tried
}

fn try_it(program: &Path, file: &Path) -> std::result::Result<(), String> {
    let said = |error: io::Error| error.to_string();
    let mut command = Command::new(program);
    command.arg("-f").arg("--").arg(file);
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let waiting = watch(&mut command).map_err(said)?;
    waiting.patience(Duration::from_secs(2)).map_err(said)?;
    let (stop, stopped) = UnixStream::pair().map_err(said)?;
    std::thread::scope(|scope| {
        let answers = std::thread::Builder::new().spawn_scoped(scope, move || {
            let listener = waiting.listener()?;
            let mut saw = false;
            while let Next::Call(call) = listener.next(&[stopped.as_fd()], None)? {
                let number = u32::try_from(call.number).unwrap_or(u32::MAX);
                if let Some(Call::Remove { place }) = call_of(call.arch, number) {
                    let spot = Caller::new(&call).spot(place, false)?;
                    saw |= spot.is_some_and(|spot| {
                        spot.path.file_name() == file.file_name()
                            && matches!(spot.stat(), Ok(Some(_)))
                    });
                }
                listener.allow(call.id);
            }
            Ok::<_, io::Error>(saw)
        });
        let answers = answers.map_err(said)?;
        let status = command.status();
        drop(stop);
        let saw = answers
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("it failed")));
        match (status, saw) {
            (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
            (Ok(_), Ok(false)) => Err("what a program does does not arrive".to_owned()),
            (Ok(status), Ok(true)) => match status.success() && !file.exists() {
                true => Ok(()),
                false => Err("a program fails that works without it".to_owned()),
            },
        }
    })
}
