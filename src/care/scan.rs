//! Looks for secrets and PHI in files where they are. It only reads, and says where a secret is,
//! never what it is.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::error::{Error, IoContext as _, Result};
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::{RawName, os_to_bytes};
use crate::privacy::{self, Examined, Rules};
use crate::repo::snapshot::PathNote;

#[derive(Debug, Clone)]
pub struct Scanned {
    pub path: PathBuf,
    /// The findings, and what a backup would do about them.
    pub examined: Examined,
    /// Line of each finding, from 1, in the order of the findings.
    pub lines: Vec<u64>,
    /// What stands there, with every value replaced by its shape: the first of each kind.
    pub samples: Vec<Sample>,
}

/// A finding to look at.
#[derive(Debug, Clone)]
pub struct Sample {
    pub kind: &'static str,
    pub line: u64,
    pub masked: String,
}

/// Most samples of a kind in one file.
const SAMPLES: usize = 3;

#[derive(Debug, Clone, Default)]
pub struct ScanReport {
    /// Files with findings, by path.
    pub files: Vec<Scanned>,
    pub scanned: u64,
    pub bytes: u64,
    /// Files that could not be read.
    pub problems: Vec<PathNote>,
}

/// Scans files and directories; with `sample`, keeps masked examples.
///
/// # Errors
/// A named path cannot be read, or the user stopped it.
pub fn scan(
    paths: &[PathBuf],
    rules: &Rules,
    sample: bool,
    monitor: &dyn Monitor,
) -> Result<ScanReport> {
    let mut report = ScanReport::default();
    let mut files: Vec<(PathBuf, u64)> = Vec::new();
    for path in paths {
        std::fs::symlink_metadata(path).context("read", path)?;
        for entry in walkdir::WalkDir::new(path).sort_by_file_name() {
            match entry {
                Ok(entry) if entry.file_type().is_file() => {
                    let size = entry.metadata().map_or(0, |m| m.len());
                    files.push((entry.into_path(), size));
                }
                Ok(_) => {}
                Err(error) => {
                    let path = error.path().unwrap_or(path).to_owned();
                    report.problems.push(problem(&path, &error));
                }
            }
        }
    }
    report.bytes = files.iter().map(|(_, size)| size).sum();
    monitor.phase(Phase::Scanning, files.len() as u64, report.bytes);
    let next = AtomicUsize::new(0);
    let collected = Mutex::new((Vec::new(), Vec::new(), 0_u64));
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some((path, size)) = files.get(i) else {
                break;
            };
            if monitor.stopped() {
                break;
            }
            let looked = look_at(path, rules, sample);
            monitor.advance(1, *size);
            let Ok(mut collected) = collected.lock() else {
                break;
            };
            match looked {
                Ok(Some(found)) => collected.0.push(found),
                Ok(None) => {}
                Err(error) => {
                    monitor.problem(&os_to_bytes(path.as_os_str()), &error);
                    collected.1.push(problem(path, &error));
                    continue;
                }
            }
            collected.2 += 1;
        }
    };
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .clamp(1, 8);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    if monitor.stopped() {
        return Err(Error::Interrupted);
    }
    let (mut found, problems, scanned) = collected.into_inner().unwrap_or_default();
    found.sort_by(|a: &Scanned, b| a.path.cmp(&b.path));
    report.files = found;
    report.problems.extend(problems);
    report.scanned = scanned;
    Ok(report)
}

fn problem(path: &Path, error: &dyn std::fmt::Display) -> PathNote {
    PathNote {
        path: RawName(path.to_path_buf().into_os_string()),
        reason: error.to_string(),
    }
}

fn look_at(path: &Path, rules: &Rules, sample: bool) -> Result<Option<Scanned>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .context("read", path)?;
    let name = os_to_bytes(path.as_os_str());
    let examined = privacy::examine(&name, &bytes, rules);
    if examined.findings.is_empty() {
        return Ok(None);
    }
    let mut lines = Vec::with_capacity(examined.findings.len());
    let (mut line, mut at) = (1, 0);
    for finding in &examined.findings {
        let start = finding.range.start.min(bytes.len());
        if start >= at {
            line += memchr::memchr_iter(b'\n', &bytes[at..start]).count() as u64;
            at = start;
        }
        lines.push(line);
    }
    let samples = match sample && privacy::is_text(&name, &bytes) {
        true => samples(&bytes, &examined, &lines),
        false => Vec::new(),
    };
    Ok(Some(Scanned {
        path: path.to_path_buf(),
        examined,
        lines,
        samples,
    }))
}

fn samples(bytes: &[u8], examined: &Examined, lines: &[u64]) -> Vec<Sample> {
    let mut found: Vec<Sample> = Vec::new();
    for (number, (finding, line)) in examined.findings.iter().zip(lines).enumerate() {
        if found.iter().filter(|one| one.kind == finding.kind).count() < SAMPLES {
            found.push(Sample {
                kind: finding.kind,
                line: *line,
                masked: privacy::masked(bytes, &examined.findings, number),
            });
        }
    }
    found
}
