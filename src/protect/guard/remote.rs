//! What can be saved when part of a command acts elsewhere.
//!
//! A forced push removes commits from a branch of another repository. The remote-tracking branch
//! tells where that branch was; the operation records it, so that the commits can be pushed again.

use std::path::Path;

const MAX_NAMED: usize = 16;

/// Returns the parts of a command that cannot be undone, each with what is known about the state at
/// the other end.
///
/// Reads the repository around `cwd` as files: no network, no hooks, nothing of the caller's
/// environment.
pub fn with_what_was(parts: &[String], cwd: &Path) -> Vec<String> {
    let told = |part: &String| match lost_by(part, cwd) {
        Some(was) if !was.is_empty() => format!("{part} ({})", was.join(", ")),
        _ => part.clone(),
    };
    parts.iter().map(told).collect()
}

/// Returns what a push removes at the other end, from the lines that git passes to its hook: local
/// name and id, remote name and id.
///
/// Source: githooks(5), pre-push.
pub fn lost_by_push(input: &str, remote: &str, cwd: &Path) -> Vec<String> {
    let Ok(repository) = git2::Repository::discover(cwd) else {
        return Vec::new();
    };
    let is_lost = |(new, old): (git2::Oid, git2::Oid)| {
        // A commit that is unknown here cannot be an ancestor either.
        !old.is_zero()
            && new != old
            && (new.is_zero() || !repository.graph_descendant_of(new, old).unwrap_or(false))
    };
    let lost = input.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, new, name, old] = words[..] else {
            return None;
        };
        let ids = (
            git2::Oid::from_str(new).ok()?,
            git2::Oid::from_str(old).ok()?,
        );
        let name = name.strip_prefix("refs/heads/").unwrap_or(name);
        is_lost(ids).then(|| format!("git push {remote} {name} ({remote}/{name} was {old})"))
    });
    lost.take(MAX_NAMED).collect()
}

/// Returns "origin/main was 1566ecb…" for every branch that a push may have rewritten or deleted.
fn lost_by(part: &str, cwd: &Path) -> Option<Vec<String>> {
    let words: Vec<&str> = part.split_whitespace().collect();
    let push = words.iter().position(|word| *word == "push")?;
    let is_git = words[..push].iter().any(|word| {
        let name = word.rsplit(['/', '\\']).next().unwrap_or_default();
        matches!(name, "git" | "git.exe")
    });
    if !is_git {
        return None;
    }
    let repository = git2::Repository::discover(cwd).ok()?;
    let given = &words[push + 1..];
    let all = given
        .iter()
        .any(|word| matches!(*word, "--mirror" | "--all" | "--prune" | "--branches"));
    let mut names = given.iter().filter(|word| !word.starts_with('-'));
    let head = repository.head().ok();
    let branch = head.as_ref().and_then(|head| head.shorthand().ok());
    let config = repository.config().ok()?;
    let configured = |key: String| config.get_string(&key).ok();
    let remote = match names.next() {
        Some(name) => (*name).to_owned(),
        None => branch
            .and_then(|branch| configured(format!("branch.{branch}.remote")))
            .unwrap_or_else(|| "origin".to_owned()),
    };
    let mut wanted: Vec<String> = names.filter_map(|refspec| destination(refspec)).collect();
    if wanted.is_empty() {
        let upstream = branch.and_then(|branch| configured(format!("branch.{branch}.merge")));
        wanted.extend(upstream.as_deref().and_then(destination));
        wanted.extend(branch.filter(|_| wanted.is_empty()).map(str::to_owned));
    }
    let prefix = format!("refs/remotes/{remote}/");
    let mut found = Vec::new();
    for reference in repository
        .references_glob(&format!("{prefix}*"))
        .ok()?
        .flatten()
    {
        let name = reference
            .name()
            .ok()
            .and_then(|name| name.strip_prefix(&prefix));
        let (Some(name), Some(oid)) = (name, reference.target()) else {
            continue;
        };
        if (all || wanted.iter().any(|w| w == name)) && found.len() < MAX_NAMED {
            found.push(format!("{remote}/{name} was {oid}"));
        }
    }
    Some(found)
}

/// Returns the remote branch that a refspec names.
fn destination(refspec: &str) -> Option<String> {
    let refspec = refspec.strip_prefix('+').unwrap_or(refspec);
    let (_, to) = refspec.split_once(':').unwrap_or(("", refspec));
    let name = to.strip_prefix("refs/heads/").unwrap_or(to);
    (!name.is_empty() && name != "HEAD").then(|| name.to_owned())
}
