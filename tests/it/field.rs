//! The benchmark of the field, on the few incidents that come with it: it runs, bdr brings everything
//! back in it, and a tool that cannot does not.

use std::process::Command;

use crate::support::Place;

#[test]
fn the_incidents_that_come_with_the_benchmark_are_undone() {
    let missing = |program: &str| {
        let found = Command::new(program).arg("--version").output();
        !found.is_ok_and(|output| output.status.success())
    };
    if let Some(program) = ["python3", "bwrap", "git"].into_iter().find(|p| missing(p)) {
        println!("SKIPPED: there is no {program}, which benches/incidents needs");
        return;
    }
    let place = Place::new();
    let report = place.path("report.json");
    let bdr = std::path::Path::new(env!("CARGO_BIN_EXE_bdr"));
    let mut path = bdr.parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    // Somebody else's tool, as somebody else would add it.
    let table = place.path("table.ini");
    let mine = "[mine]\nbefore = cp -a {cwd} {state}/mine\nundo = rm -rf {cwd} && cp -a {state}/mine {cwd}\n\
                [useless]\nrun = sh -c {command}\n[afraid]\nrun = false\n";
    std::fs::write(&table, mine).unwrap();
    let output = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/incidents"))
        .args([
            "--tools",
            "bdr-watched,bdr-capture,bdr-hook,cp,mine,useless,afraid",
        ])
        .arg("--table")
        .arg(&table)
        .arg("--json")
        .arg(&report)
        .arg("--work")
        .arg(place.tree())
        .arg("-v")
        .env("PATH", path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("no sandbox") {
        println!("SKIPPED: {said}");
        return;
    }
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let of = |tool: &str, measure: &str| report["tools"][tool]["summary"][measure].clone();
    for tool in ["bdr-watched", "bdr-capture"] {
        if tool == "bdr-capture" && said.contains("cannot be captured here") {
            println!("SKIPPED: system calls cannot be captured on this machine: {said}");
            continue;
        }
        assert_eq!(of(tool, "refused"), 0, "{said}");
        for measure in ["lost", "beside", "times"] {
            assert_eq!(of(tool, measure), 100.0, "{tool}, {measure}: {said}");
        }
    }
    // What lies outside of the project and is named by nobody is not.
    assert_eq!(of("bdr-hook", "lost"), 80.0, "{said}");
    assert_eq!(of("cp", "lost"), 40.0, "{said}");
    assert_eq!(of("cp", "outside"), 0.0, "{said}");
    assert_eq!(of("mine", "lost"), 40.0, "{said}");
    assert_eq!(of("useless", "lost"), 0.0, "{said}");
    assert_eq!(of("afraid", "refused"), 5, "{said}");
    assert_eq!(of("afraid", "lost"), 0.0, "{said}");
    assert!(
        std::fs::read_dir(place.tree()).unwrap().next().is_none(),
        "worlds were left behind"
    );
}
