//! What a line says in whatever way is covered: words, quoted text, literals, what lists and links lead to.

#![cfg(unix)]

use std::path::Path;

use crate::support::Place;

/// A workspace `ws`, and beside it what a line destroys.
fn place() -> Place {
    let place = Place::with_repository();
    place.write("ws/own", b"own");
    fresh(&place);
    let made = std::process::Command::new("git")
        .args(["init", "-q", "ws"])
        .current_dir(place.tree())
        .status();
    assert!(made.unwrap().success());
    place
}

fn fresh(place: &Place) {
    let _ = std::fs::remove_dir_all(place.tree().join("outside"));
    for (file, text) in [("o", "o"), ("d/p", "p"), ("e/q", "q")] {
        place.write(&format!("outside/{file}"), text.as_bytes());
    }
}

fn in_workspace(place: &Place, args: &[&str]) -> std::process::Output {
    let mut bdr = place.bdr(args);
    bdr.current_dir(place.tree().join("ws"))
        .env("BDR_BACKGROUND", "0");
    bdr.output().unwrap()
}

fn picture(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let walk = walkdir::WalkDir::new(dir).sort_by_file_name();
    let files = walk
        .into_iter()
        .flatten()
        .filter(|e| e.file_type().is_file());
    files
        .map(|e| (e.path().to_owned(), std::fs::read(e.path()).unwrap()))
        .collect()
}

#[track_caller]
fn comes_back(place: &Place, line: &str) {
    fresh(place);
    let outside = place.tree().join("outside");
    let before = picture(&outside);
    let said = in_workspace(place, &["guard", "--", "bash", "-c", line]);
    assert_ne!(picture(&outside), before, "did nothing: {line}: {said:?}");
    let undone = in_workspace(place, &["undo", "--yes"]);
    assert_eq!(
        picture(&outside),
        before,
        "lost: {line}: {said:?} {undone:?}"
    );
}

#[test]
fn what_a_line_mentions_comes_back() {
    let place = place();
    for line in [
        "find ../outside -type f | xargs rm -f",
        "find ../outside -type f | while read -r f; do rm \"$f\"; done",
        "grep -rl o ../outside | xargs sed -i s/o/X/",
        "rm -rf $(find ../outside -type f)",
        "D=$(realpath ../outside); rm -rf \"$D/d\"",
        "a=(../outside/o ../outside/d); rm -rf \"${a[@]}\"",
        "D=../outside; cd \"$D\" && rm -f o",
        "test -d ../outside && rm -rf \"$_\"",
        "env -C ../outside rm -f o",
        "git --git-dir=.git --work-tree=../outside clean -fdxq",
        "GIT_WORK_TREE=../outside GIT_DIR=$PWD/.git git clean -fdxq",
        "bash -s <<< 'rm -rf ../outside/d'",
        "echo 'rm -rf ../outside/d' | bash",
        "source /dev/stdin <<< 'rm -rf ../outside/d'",
        "trap 'rm -rf ../outside/d' EXIT; true",
        "$'rm' -rf $'../outs\\x69de'",
        "awk 'BEGIN{system(\"rm -rf ../outside/d\")}'",
        "gzip ../outside/o",
        "gzip -c own > own.gz; cp own.gz ../outside/o.gz; gunzip -f ../outside/o.gz",
    ] {
        comes_back(&place, line);
    }
}

#[test]
fn what_a_link_leads_to_is_covered_also_above_what_is_named() {
    let place = place();
    std::os::unix::fs::symlink("outside", place.tree().join("lk")).unwrap();
    for line in [
        "rm -rf ../lk/",
        "rm -rf ../lk/d ../lk/",
        "rm -rf ../outside/d ../lk/",
    ] {
        comes_back(&place, line);
    }
    std::os::unix::fs::symlink("../outside", place.tree().join("ws/l")).unwrap();
    for line in [
        "echo log > ../outside/d/p; rm -rf l/*",
        "for n in l/*; do rm -rf $n; done; rm -f ../outside/o",
    ] {
        comes_back(&place, line);
    }
}

#[test]
fn many_links_that_lead_out_are_all_followed() {
    let place = place();
    for n in 0..90 {
        place.write(&format!("far/{n}/f"), b"far");
        std::os::unix::fs::symlink(
            format!("../far/{n}/f"),
            place.tree().join(format!("ws/l{n}")),
        )
        .unwrap();
    }
    let before = picture(&place.tree().join("far"));
    place.write("ws/wipe.sh", b"for l in l*; do : > $l; done");
    in_workspace(&place, &["guard", "--", "sh", "wipe.sh"]);
    assert_ne!(picture(&place.tree().join("far")), before);
    in_workspace(&place, &["undo", "--yes"]);
    assert_eq!(picture(&place.tree().join("far")), before);
}

#[test]
fn what_is_only_mentioned_stops_no_command() {
    let place = place();
    let big = std::fs::File::create(place.tree().join("big")).unwrap();
    big.set_len(100 << 20).unwrap();
    let locked = place.tree().join("locked");
    std::fs::create_dir(&locked).unwrap();
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o000);
    let said = in_workspace(
        &place,
        &["guard", "--", "sh", "-c", "true ../big ../locked; rm own"],
    );
    mode(0o700);
    assert!(said.status.success(), "{said:?}");
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(
        text.contains("not captured") && text.contains("big"),
        "{text}"
    );
    in_workspace(&place, &["undo", "--yes"]);
    assert!(place.tree().join("ws/own").exists());
}
