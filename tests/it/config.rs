//! `bdr config`: changes that keep what a person wrote, and never a configuration that does not hold.

use crate::support::Place;
use crate::support::cli::stderr;

fn place() -> Place {
    let place = Place::with_repository();
    place.write("notes.md", b"n");
    place.init();
    place
}

fn text(place: &Place) -> String {
    std::fs::read_to_string(place.path("bdr/config.toml")).unwrap()
}

fn out(place: &Place, args: &[&str]) -> String {
    String::from_utf8(place.run(args, 0).stdout).unwrap()
}

#[test]
fn values_are_set_and_taken_out_and_comments_stay() {
    let place = place();
    let before = text(&place);
    let preview = out(
        &place,
        &["config", "set", "retention.keep_daily", "14", "--dry-run"],
    );
    assert!(preview.contains("keep_daily = 14") && text(&place) == before);
    place.run(&["config", "set", "retention.keep_daily", "14"], 0);
    place.run(
        &["config", "set", "source.tree.exclude", "*.log", "/cache"],
        0,
    );
    place.run(&["config", "set", "notify.desktop", "true"], 0);
    let show = place.json(&["config", "show"]);
    assert_eq!(show["retention"]["keep_daily"], 14);
    assert_eq!(
        show["sources"][0]["exclude"],
        serde_json::json!(["*.log", "/cache"])
    );
    assert_eq!(show["notify"]["desktop"], true);
    for line in before.lines().filter(|line| line.starts_with('#')) {
        assert!(text(&place).contains(line), "{line}");
    }
    // The one before the last change is beside it.
    assert!(
        !std::fs::read_to_string(place.path("bdr/config.toml.old"))
            .unwrap()
            .contains("desktop")
    );
    place.run(&["config", "unset", "retention.keep_daily"], 0);
    place.run(&["config", "unset", "notify"], 0);
    let show = place.json(&["config", "show"]);
    assert_eq!(
        (&show["retention"]["keep_daily"], &show["notify"]["desktop"]),
        (&7.into(), &false.into())
    );
    let said = stderr(&place.run(&["config", "unset", "retention.keep_daily"], 2));
    assert!(said.contains("is not set"), "{said}");
}

#[test]
fn what_is_no_configuration_is_refused_and_nothing_changes() {
    let place = place();
    let before = text(&place);
    for (args, says) in [
        (
            &["retention.keep_dayly", "3"][..],
            "did you mean `keep_daily`?",
        ),
        (&["retention.keep_daily", "many"], "must be a whole number"),
        (&["schedule.at", "noon"], "is not a time of day"),
        (&["source.x.include", "a"], "has no `path`"),
        (&["repository.x", "a"], "must be a string"),
        (&["a..b", "1"], "is not a key"),
    ] {
        let mut all = vec!["config", "set"];
        all.extend_from_slice(args);
        let said = stderr(&place.run(&all, 2));
        assert!(said.contains(says), "{args:?}: {said}");
        assert_eq!(text(&place), before);
    }
}

#[test]
fn a_configuration_that_is_a_symlink_stays_one() {
    let place = place();
    let (file, real) = (place.path("bdr/config.toml"), place.path("dotfiles.toml"));
    std::fs::rename(&file, &real).unwrap();
    std::os::unix::fs::symlink(&real, &file).unwrap();
    place.run(&["config", "set", "guard.summary", "always"], 0);
    assert!(file.is_symlink());
    assert!(
        std::fs::read_to_string(&real)
            .unwrap()
            .contains("summary = \"always\"")
    );
}

#[test]
fn an_edit_holds_when_it_is_a_configuration() {
    let place = place();
    let edit = |script: &str, code: i32| {
        let mut command = place.bdr(&["config", "edit"]);
        let output = command.env("EDITOR", script).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{script}: {}",
            stderr(&output)
        );
        stderr(&output)
    };
    let before = text(&place);
    edit("true", 0);
    assert_eq!(text(&place), before);
    // Wrong: it is kept for the next try, and the old one holds.
    let said = edit("f() { echo 'zebra = 1' >> \"$1\"; }; f", 2);
    assert!(
        said.contains("unknown key `zebra`") && said.contains("continue with"),
        "{said}"
    );
    assert_eq!(text(&place), before);
    edit(
        "sed -i -e /zebra/d -e 's/# keep_daily = 7/keep_daily = 9/'",
        0,
    );
    assert_eq!(
        place.json(&["config", "show"])["retention"]["keep_daily"],
        9
    );
    assert!(!place.path("bdr/config.toml.draft.toml").exists());
    let said = edit("false", 2);
    assert!(said.contains("nothing was changed"), "{said}");
}

#[test]
fn an_export_reads_back_and_keeps_addresses_to_itself() {
    let place = place();
    place.configure("[schedule]\nat = \"04:00\"\n[notify]\nwebhook = \"https://hooks.example/secret\"\ndesktop = true\n");
    let output = place.run(&["config", "export"], 0);
    let toml = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(
        !toml.contains("secret") && !toml.contains("[schedule]"),
        "{toml}"
    );
    assert!(stderr(&output).contains("--include-secrets"));
    let whole = out(
        &place,
        &[
            "config",
            "export",
            "--include-schedules",
            "--include-secrets",
        ],
    );
    let read = |text: &str| {
        bdr::model::config::Config::parse(text.as_bytes(), "x", Some(&place.path("home"))).unwrap()
    };
    assert_eq!(read(&whole), read(&text(&place)));
    let json: serde_json::Value = serde_json::from_str(&out(
        &place,
        &[
            "config",
            "export",
            "--format",
            "json",
            "--include-schedules",
        ],
    ))
    .unwrap();
    assert_eq!(
        (&json["schedule"]["at"], &json["notify"]["webhook"]),
        (&"04:00".into(), &serde_json::Value::Null)
    );
    assert!(json["next"]["backup"].is_string());
    place.run(&["config", "export", "--output", "out.toml"], 0);
    assert_eq!(
        std::fs::read_to_string(place.tree().join("out.toml")).unwrap(),
        toml
    );
}
