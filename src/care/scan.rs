//! Looks for secrets and PHI in files where they are. It only reads, and says where a secret is,
//! never what it is.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::base::error::{Error, IoContext as _, Result};
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::{RawName, os_to_bytes};
use crate::disk::published::Published;
use crate::privacy::{self, Examined, Finding, Rules};
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

/// What was found and is public already: a backup stores it as it is.
#[derive(Debug, Clone)]
pub struct PublicFinding {
    pub path: PathBuf,
    pub kind: &'static str,
    pub line: u64,
    /// `stands in origin/main, commit 0123abc`
    pub place: Arc<str>,
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
    /// By path and line.
    pub published: Vec<PublicFinding>,
    pub scanned: u64,
    pub bytes: u64,
    /// Files that could not be read.
    pub problems: Vec<PathNote>,
}

/// What the threads found.
#[derive(Default)]
struct Collected {
    found: Vec<Scanned>,
    public: Vec<PublicFinding>,
    problems: Vec<PathNote>,
    scanned: u64,
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
    let published = Published::default();
    let collected = Mutex::new(Collected::default());
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some((path, size)) = files.get(i) else {
                break;
            };
            if monitor.stopped() {
                break;
            }
            let looked = look_at(path, rules, &published, sample);
            monitor.advance(1, *size);
            let Ok(mut collected) = collected.lock() else {
                break;
            };
            match looked {
                Ok((found, public)) => {
                    collected.found.extend(found);
                    collected.public.extend(public);
                }
                Err(error) => {
                    monitor.problem(&os_to_bytes(path.as_os_str()), &error);
                    collected.problems.push(problem(path, &error));
                    continue;
                }
            }
            collected.scanned += 1;
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
    let mut all = collected.into_inner().unwrap_or_default();
    all.found.sort_by(|a: &Scanned, b| a.path.cmp(&b.path));
    // Lines of a file are in order already.
    all.public
        .sort_by(|a: &PublicFinding, b| a.path.cmp(&b.path));
    report.files = all.found;
    report.published = all.public;
    report.problems.extend(all.problems);
    report.scanned = all.scanned;
    Ok(report)
}

fn problem(path: &Path, error: &dyn std::fmt::Display) -> PathNote {
    PathNote {
        path: RawName(path.to_path_buf().into_os_string()),
        reason: error.to_string(),
    }
}

fn look_at(
    path: &Path,
    rules: &Rules,
    published: &Published,
    sample: bool,
) -> Result<(Option<Scanned>, Vec<PublicFinding>)> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .context("read", path)?;
    let name = os_to_bytes(path.as_os_str());
    let mut examined = privacy::examine(&name, &bytes, rules);
    if examined.findings.is_empty() {
        return Ok((None, Vec::new()));
    }
    // What is public is not shown either.
    let all = examined.findings.clone();
    let through = published.let_through(path, &bytes, rules, &mut examined);
    let lines = lines_of(&bytes, through.iter().map(|one| one.finding.range.start));
    let public = through.into_iter().zip(lines);
    let public = public.map(|(one, line)| PublicFinding {
        path: path.to_path_buf(),
        kind: one.finding.kind,
        line,
        place: one.place,
    });
    let public = public.collect();
    if examined.findings.is_empty() {
        return Ok((None, public));
    }
    let lines = lines_of(&bytes, examined.findings.iter().map(|f| f.range.start));
    let samples = match sample && privacy::is_text(&name, &bytes) {
        true => samples(&bytes, (&examined, &all), &lines),
        false => Vec::new(),
    };
    let found = Scanned {
        path: path.to_path_buf(),
        examined,
        lines,
        samples,
    };
    Ok((Some(found), public))
}

/// Returns the lines of places that are in order, from 1.
fn lines_of(bytes: &[u8], places: impl Iterator<Item = usize>) -> Vec<u64> {
    let (mut line, mut at) = (1, 0);
    places
        .map(|place| {
            let place = place.min(bytes.len());
            if place >= at {
                line += memchr::memchr_iter(b'\n', &bytes[at..place]).count() as u64;
                at = place;
            }
            line
        })
        .collect()
}

fn samples(bytes: &[u8], (examined, all): (&Examined, &[Finding]), lines: &[u64]) -> Vec<Sample> {
    let mut found: Vec<Sample> = Vec::new();
    for (finding, line) in examined.findings.iter().zip(lines) {
        if found.iter().filter(|one| one.kind == finding.kind).count() < SAMPLES {
            found.push(Sample {
                kind: finding.kind,
                line: *line,
                masked: privacy::masked(bytes, all, finding),
            });
        }
    }
    found
}
