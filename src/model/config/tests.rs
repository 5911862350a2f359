use super::*;

const HOME: &str = "/home/u";

fn parse(text: &str) -> Result<Config> {
    Config::parse(text.as_bytes(), "config.toml", Some(Path::new(HOME)))
}

fn error(bytes: &[u8]) -> (usize, String, Option<String>) {
    match Config::parse(bytes, "config.toml", Some(Path::new(HOME))) {
        Err(Error::Config {
            line,
            message,
            hint,
            ..
        }) => (line, message, hint),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_configuration_is_read() {
    let config = parse(
        r#"
repository = "~/backups"
[source.brain]
path = "~/brain/"
[source."work.1"]
path = "/srv/work"
include = ["a", ".env.*"]
exclude = ["*.log", "/tmp"]
rebuildable = true
criticality = "tedious"
[guard]
on_fail = "ask"
max_bytes = "1.5G"
max_files = 1_000
summary = "always"
capture = "auto"
rules = ["my.wipe | destructive | wipe | | args"]
[retention]
keep_daily = 14
keep_within = "36h"
keep_tags = ["release"]
guard_within = "2w"
guard_bytes = "2G"
max_size = "500M"
"#,
    )
    .unwrap();
    let retention = Policy {
        daily: 14,
        within: Some(chrono::TimeDelta::hours(36)),
        tags: vec!["release".to_owned()],
        guard_within: chrono::TimeDelta::days(14),
        guard_bytes: 2 << 30,
        max_bytes: Some(500 << 20),
        ..Policy::default()
    };
    assert_eq!(config.retention, retention);
    assert_eq!(
        config.repository.as_deref(),
        Some(Path::new("/home/u/backups"))
    );
    assert_eq!(config.sources[0].path, Path::new("/home/u/brain"));
    assert_eq!(config.sources[0].criticality, Criticality::Irreplaceable);
    assert_eq!(config.sources[1].name, "work.1");
    assert_eq!(config.sources[1].rules.include, ["a", ".env.*"]);
    assert!(config.sources[1].rules.rebuildable);
    let guard = GuardConfig {
        on_fail: OnFail::Ask,
        max_bytes: 1_610_612_736,
        max_files: 1000,
        summary: Summary::Always,
        max_kept: 16 << 30,
        capture: CaptureMode::Auto,
        rules: vec!["my.wipe | destructive | wipe | | args".to_owned()],
    };
    assert_eq!(config.guard, guard);
}

#[test]
fn mistakes_have_a_line_and_a_way_out() {
    for (text, line, message, hint) in [
        (
            "[source.a]\npath=\"/x\"\ninclud=[]\n",
            3,
            "unknown key `includ` in [source.a]",
            "did you mean `include`?",
        ),
        (
            "\n\nrepositroy=\"/x\"\n",
            3,
            "unknown key `repositroy`",
            "did you mean `repository`?",
        ),
        (
            "zebra=1\n",
            1,
            "unknown key `zebra`",
            "known here: repository, not_covered, source, guard",
        ),
        (
            "[sources.a]\n",
            1,
            "unknown key `sources`",
            "did you mean `source`?",
        ),
        (
            "[source.a]\ninclude=[]\n",
            1,
            "[source.a] has no `path`",
            "add path",
        ),
        (
            "[schedule]\nat=\"2.30\"\n",
            2,
            "`2.30` is not a time of day: write it like 02:30",
            "",
        ),
        (
            "[schedule]\nfull=\"someday\"\n",
            2,
            "`someday` is not a day: write it like sunday, or never",
            "",
        ),
        (
            "[schedule]\nmax_age=\"0h\"\n",
            2,
            "`max_age` is less than an hour",
            "a day and a little",
        ),
        (
            "[notify]\nwebhook=\"ftp://x\"\n",
            2,
            "`webhook` is not an http(s) URL",
            "",
        ),
        (
            "[notify]\ncommand=\"tell\"\n",
            2,
            "`command` must be a list of strings",
            "",
        ),
        (
            "[source.a]\npath=3\n",
            2,
            "`path` must be a string, not integer",
            "",
        ),
        (
            "[source.a]\npath=\"x/y\"\n",
            2,
            "`x/y` is not an absolute path",
            "begins with ~/",
        ),
        (
            "[source.a]\npath=\"~bob/y\"\n",
            2,
            "`~bob/y` is not an absolute path",
            "begins with ~/",
        ),
        (
            "[source.a]\npath=\"/x/../y\"\n",
            2,
            "`/x/../y` contains `..`",
            "",
        ),
        (
            "[source.a]\npath=\"/x\"\ninclude=\"y\"\n",
            3,
            "`include` must be a list of strings",
            "",
        ),
        (
            "[source.a]\npath=\"/x\"\ninclude=[\n\"a\",\n\"[\"]\n",
            5,
            "the pattern `[` is wrong",
            "bdr help config",
        ),
        (
            "[source.a]\npath=\"/x\"\ninclude=[\"../a\"]\n",
            3,
            "contains `..`",
            "relative",
        ),
        (
            "[source.a]\npath=\"/x\"\ninclude=[\"~/a\"]\n",
            3,
            "is not relative",
            "relative",
        ),
        (
            "[source.\".a\"]\npath=\"/x\"\n",
            1,
            "`.a` cannot name a source",
            "letters",
        ),
        (
            "[source.a]\npath=\"/x\"\ncriticality=\"tedius\"\n",
            3,
            "`tedius` is not one of the choices",
            "did you mean `tedious`?",
        ),
        (
            "[guard]\nmax_bytes=\"lots\"\n",
            2,
            "`lots` is not a size",
            "512M",
        ),
        (
            "[guard]\nmax_files=-1\n",
            2,
            "`max_files` must be a whole number",
            "",
        ),
        (
            "[hooks]\nmcp_tools=[\"\"]\n",
            2,
            "`mcp_tools` has an empty word",
            "remove it; an empty list watches no MCP tools",
        ),
        (
            "[guard]\nrules=[\"x | harmless | y | | \"]\n",
            2,
            "`harmless` is no effect",
            "docs/guard.md",
        ),
        (
            "guard=1\n",
            1,
            "`guard` must be a table [guard], not integer",
            "",
        ),
        (
            "[source.a]\r\npath=\"/x\"\r\nzip=1\r\n",
            3,
            "unknown key `zip`",
            "",
        ),
    ] {
        let (at, said, help) = error(text.as_bytes());
        assert_eq!(at, line, "{text}");
        assert!(said.contains(message), "{text}: {said}");
        assert!(help.unwrap_or_default().contains(hint), "{text}");
    }
}

#[test]
fn what_is_not_toml_has_a_line_too() {
    for (bytes, line) in [
        (&b"repository=\"/a\"\nrepository=\"/b\"\n"[..], 2),
        (b"[source.a]\npath=\n", 2),
        (b"\n\nx = \xff\n", 3),
        (&vec![b'\n'; MAX_BYTES + 1][..], 1),
    ] {
        assert_eq!(error(bytes).0, line);
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_mistake() {
    let config = Config::parse(b"\xef\xbb\xbf[source.a]\r\npath = \"/x\"\r\n", "c", None).unwrap();
    assert_eq!(config.sources[0].path, Path::new("/x"));
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn what_is_written_is_read_back() {
    let config = Config {
        repository: Some("/home/u/.local/share/bdr".into()),
        not_covered: vec!["/home/u/games".into(), "/srv/\"x\"".into()],
        sources: vec![
            Source {
                name: "a.b".into(),
                path: "/home/u".into(),
                rules: Rules {
                    include: vec![".claude.json".into(), "we\"ird\\\n\u{1}".into()],
                    exclude: vec!["*.log".into()],
                    rebuildable: true,
                    one_file_system: true,
                },
                criticality: Criticality::Tedious,
            },
            Source {
                name: "c".into(),
                path: "/srv/c 'd' \"e\"".into(),
                rules: Rules::default(),
                criticality: Criticality::Irreplaceable,
            },
        ],
        guard: GuardConfig {
            on_fail: OnFail::Run,
            max_bytes: 3 << 30,
            max_files: 7,
            summary: Summary::Json,
            max_kept: 1 << 30,
            capture: CaptureMode::Only,
            rules: vec!["my.look | read | look | ![-w] | ".to_owned()],
        },
        hooks: HooksConfig {
            mcp_tools: vec!["deploy".to_owned(), "a \"b\"".to_owned()],
        },
        mcp: McpConfig {
            unattended: Unattended::Plan,
        },
        retention: Policy {
            yearly: 3,
            within: Some(chrono::TimeDelta::days(3)),
            tags: vec!["release".to_owned()],
            guard_within: chrono::TimeDelta::hours(12),
            max_bytes: Some(5 << 30),
            ..Policy::default()
        },
        schedule: Some(Schedule {
            full: Some(chrono::Weekday::Wed),
            drill: None,
            max_age: chrono::TimeDelta::hours(50),
            ..Schedule::default()
        }),
        privacy: PrivacyConfig {
            profile: crate::privacy::Profile::Strict,
            allow: vec!["00112233aabbccdd".to_owned(), "~/notes/*.md".to_owned()],
            vault: VaultKey::File,
            seal_published: true,
        },
        notify: NotifyConfig {
            desktop: true,
            healthchecks: Some("https://hc.example/ping/1".to_owned()),
            ntfy: Some("http://ntfy.example/topic".to_owned()),
            webhook: Some("https://hooks.example/a?b=\"c\"".to_owned()),
            command: vec!["tell".to_owned(), "a 'b'".to_owned()],
            prometheus: Some("/home/u/metrics/bdr.prom".into()),
        },
        remotes: vec![
            Remote {
                limit: Some(1 << 20),
                automatic: false,
                sync: vec!["laptop".to_owned()],
                keep: Some(Policy {
                    daily: 7,
                    monthly: 12,
                    within: Some(chrono::TimeDelta::days(14)),
                    tags: vec!["a \"tag\"".to_owned()],
                    ..Policy::nothing()
                }),
                ..Remote::new("disk", "file:///mnt/disk")
            },
            Remote {
                recipients: vec!["age1abc".to_owned()],
                ..Remote::new("far", "s3://bucket/prefix?region=a\"b")
            },
        ],
        useless: Vec::new(),
    };
    let text = config.to_toml(Some(Path::new(HOME))).unwrap();
    assert!(
        text.contains("repository = \"~/.local/share/bdr\""),
        "{text}"
    );
    assert_eq!(parse(&text).unwrap(), config, "{text}");
    let text = Config::default().to_toml(None).unwrap();
    assert_eq!(parse(&text).unwrap(), Config::default(), "{text}");
}

#[test]
fn sizes() {
    for (text, bytes) in [
        ("4096", Some(4096)),
        ("512M", Some(512 << 20)),
        ("512MiB", Some(512 << 20)),
        ("250g", Some(250 << 30)),
        ("1.5K", Some(1536)),
        (" 2 TB ", Some(2 << 40)),
        ("0", Some(0)),
        ("100 b", Some(100)),
        ("", None),
        ("M", None),
        ("-1", None),
        ("5X", None),
        ("1i", None),
        ("99999999999T", None),
    ] {
        assert_eq!(parse_size(text).ok(), bytes, "{text:?}");
    }
}

#[test]
fn near_words_are_found() {
    assert_eq!(closest("inculde", &["include", "exclude"]), Some("include"));
    assert_eq!(closest("pth", &["path", "include"]), Some("path"));
    assert_eq!(closest("zebra", &["path", "include"]), None);
}

#[test]
fn a_destination_says_who_can_read_it_or_that_everybody_can() {
    for (text, said) in [
        ("url=\"s3://b\"", "does not say who can read it"),
        ("url=\"s3://b\"\nencrypt=true", "has no `recipients`"),
        ("url=\"file:///b\"\nencrypt=true", "has no `recipients`"),
        (
            "url=\"file:///b\"\nencrypt=false\nrecipients=[\"age1x\"]",
            "not to be encrypted",
        ),
        (
            "url=\"file:///b\"\nrecipients=[\"AGE-SECRET-KEY-1X\"]",
            "a secret key",
        ),
        ("url=\"b\"", "`url` is no URL"),
        ("encrypt=false", "has no `url`"),
        ("url=\"file:///b\"\nuser=\"x\"", "unknown key `user`"),
    ] {
        let error = parse(&format!("[remote.a]\n{text}\n")).unwrap_err();
        assert!(error.to_string().contains(said), "{text}: {error}");
    }
    for name in ["A", "a.b", "..", "-a", "a/b", "\u{e9}"] {
        let error = parse(&format!("[remote.\"{name}\"]\nurl=\"file:///b\"\n")).unwrap_err();
        assert!(
            error.to_string().contains("cannot be the name"),
            "{name}: {error}"
        );
    }
    for text in [
        "url=\"s3://b\"\nencrypt=false",
        "url=\"file:///b\"",
        "url=\"s3://b\"\nrecipients=[\"age1x\"]",
    ] {
        let config = parse(&format!("[remote.a]\n{text}\n")).unwrap();
        assert_eq!(
            config.remote("a").unwrap().recipients.is_empty(),
            !text.contains("age1")
        );
    }
}
