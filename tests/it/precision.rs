//! What is no secret is left alone: program text, notations, and what documentation makes up. Each case
//! has its opposite beside it, which is found.

use bdr::privacy::{Group, Profile, scan};

fn secrets(name: &str, text: &str, profile: Profile) -> Vec<String> {
    let found = scan(name.as_bytes(), text.as_bytes(), profile);
    let secrets = found.iter().filter(|one| one.group == Group::Secret);
    secrets
        .map(|one| text[one.range.clone()].to_owned())
        .collect()
}

const NAMES: [&str; 8] = [
    "password",
    "DB_PASSWORD",
    "client_secret",
    "api_key",
    "ACCESS_TOKEN",
    "SESSION_COOKIE",
    "private_key",
    "authToken",
];

/// A file of each language, and how it assigns.
const LANGUAGES: [(&str, &str); 9] = [
    ("a.c", "NAME = VALUE;"),
    ("a.h", "static const char *NAME = VALUE;"),
    ("a.rs", "let NAME: &str = VALUE;"),
    ("a.go", "NAME := VALUE"),
    ("A.java", "String NAME = VALUE;"),
    ("a.ts", "const NAME = VALUE;"),
    ("a.py", "NAME = VALUE"),
    ("a.cs", "NAME = VALUE;"),
    ("a.swift", "let NAME = VALUE"),
];

#[test]
fn code_is_no_secret_and_a_literal_is_one() {
    let code = [
        "V4L2_CID_MPEG_VIDEO_H264_B_FRAME_QP",
        "_bn_mul8x_mont_neon",
        "vget_lane_u64(v, 1)",
        "hkdf(&salt, X25519_RECIPIENT_KEY_LABEL, b\"\")",
        "_bindgen_ty_24::IFLA_VXLAN_LOCALBYPASS",
        "ed25519.Ed25519PrivateKey",
        "D3DKMT_PRESENTHISTORYTOKEN_0",
        "sqlite3Strlen30NN(z)",
        "0x4d595df4d0f33173",
    ];
    let literals = ["hunter2-Xk9!vQ", "q7Tz4mPw9LrB2xYcV8nK3dJf"];
    for (file, form) in LANGUAGES {
        for name in NAMES {
            let line = |value: &str| {
                let line = form.replace("NAME", name).replace("VALUE", value);
                format!("first();\n{line}\nlast();\n")
            };
            for value in code {
                let text = line(value);
                let found = secrets(file, &text, Profile::Hipaa);
                assert!(found.is_empty(), "{file}: {text}: {found:?}");
            }
            let text = format!("#define {name} V4L2_CID_MPEG_VIDEO_H264_B_FRAME_QP\n");
            assert!(secrets("a.h", &text, Profile::Hipaa).is_empty(), "{text}");
            for value in literals {
                let text = line(&format!("\"{value}\""));
                let found = secrets(file, &text, Profile::Hipaa).concat();
                assert!(found.contains(value), "{file}: {text}: {found}");
            }
        }
    }
}

#[test]
fn what_a_string_or_a_comment_says_counts_in_every_language() {
    for (file, text) in [
        ("a.py", "# api_key: q7Tz4mPw9LrB2xYcV8nK3dJf\n"),
        (
            "a.rs",
            "// api_key: q7Tz4mPw9LrB2xYcV8nK3dJf\nfn f<'a>() {}\n",
        ),
        (
            "a.c",
            "/* quoted: \" and '\n api_key=q7Tz4mPw9LrB2xYcV8nK3dJf */\n",
        ),
        (
            "a.go",
            "dsn := \"user=x api_key=q7Tz4mPw9LrB2xYcV8nK3dJf host=y\"\n",
        ),
        (
            "a.js",
            "const c = `\nAPI_KEY=q7Tz4mPw9LrB2xYcV8nK3dJf\n`;\n",
        ),
        (
            "a.ts",
            "x = /[\"'`]/; const c = `\nAPI_KEY=q7Tz4mPw9LrB2xYcV8nK3dJf\n`;\n",
        ),
        ("a.py", "c = '''\nAPI_KEY=q7Tz4mPw9LrB2xYcV8nK3dJf\n'''\n"),
        (
            "a.rs",
            "let c = r#\"\nAPI_KEY=q7Tz4mPw9LrB2xYcV8nK3dJf \"\n\"#;\n",
        ),
        (
            "a.cpp",
            "auto c = R\"(\nAPI_KEY=q7Tz4mPw9LrB2xYcV8nK3dJf\n)\";\n",
        ),
        (
            "A.java",
            "String c = \"\"\"\nAPI_KEY=q7Tz4mPw9LrB2xYcV8nK3dJf\n\"\"\";\n",
        ),
        // It is not certain what is what, so all of it counts.
        ("a.js", "API_KEY=q7Tz4mPw9LrB2xYcV8nK3dJf `"),
        // Not program text, whatever is around.
        ("a.sh", "PASSWORD=hunter2-Xk9!vQ make\n"),
        ("a.env", "PASSWORD=V4L2_CID_MPEG_VIDEO_H264_B_FRAME_QP\n"),
        ("a.yaml", "password: hunter2-Xk9!vQ\n"),
        ("a.txt", "password = hunter2-Xk9!vQ\n"),
    ] {
        assert_eq!(
            secrets(file, text, Profile::Hipaa).len(),
            1,
            "{file}: {text}"
        );
    }
    let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n-----END PRIVATE KEY-----\n";
    assert_eq!(secrets("a.rs", key, Profile::Hipaa).len(), 1);
}

#[test]
fn notations_and_lists_are_no_secrets() {
    for (file, no, yes) in [
        (
            "a.json",
            r#"{"pattern": "arn:aws:secretsmanager:secret:[a-zA-Z0-9/_+=.@-]{1,512}"}"#,
            r#"{"x": "arn:aws:secretsmanager:x", "secret": "q7Tz4mPw9LrB2xYcV8nK3dJf"}"#,
        ),
        (
            "a.json",
            r#"{"AWS::IAM::AccessKey": "72c2d9dd90025459"}"#,
            r#"{"IAM_AccessKey": "72c2d9dd90025459a8f1"}"#,
        ),
        (
            "a.h",
            "#define TLS1_TXT_DHE_PSK_WITH_CAMELLIA_128 \"DHE-PSK-CAMELLIA128-SHA256\"\n",
            "#define WIFI_PSK \"DHE-q7Tz4mPw9LrB2xYc\"\n",
        ),
        (
            "a.js",
            "const minipass_1 = require(\"minipass\");\n",
            "const pass_1 = String(\"hunter2-Xk9!vQ\");\n",
        ),
        (
            "a.md",
            "https://codecov.io/gh/a/b/graph/badge.svg?token=3KA3R2D9fV\n",
            "https://codecov.io/upload?token=3KA3R2D9fVq7Tz4mPw9LrB2xYcV8nK3d\n",
        ),
        (
            "a.json",
            r#"{"ChangeToken": "abcd12f2-46da-4fdb-b8d5-fbd4c466928f"}"#,
            r#"{"AccessToken": "abcd12f2-46da-4fdb-b8d5-fbd4c466928f"}"#,
        ),
        (
            "a.json",
            r#"{"key": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1Olb3zMAFFxXKHiIkQO5cJ3Yhl5i6UPp+IhuteBJbuHcA5UogKo0EWtlWwW6KSaKoTNEYL7JlCQiVnkhBktUgg=="}"#,
            r#"{"private_key": "q7Tz4mPw9LrB2xYcV8nK3dJfq7Tz4mPw9LrB2xYcV8nK3dJf"}"#,
        ),
        (
            "Cargo.toml",
            "[features]\npassword = [\"zeroize\"]\ntoken = [\"dep:age\", \"std\"]\n",
            "[package.metadata]\npassword = \"hunter2-Xk9!vQ\"\n",
        ),
        (
            "a.rs",
            "let pat = r\"(\\d+\\s?(years|year|y))?\\s?(\\d+\\s?(months|m))?\";\n",
            "let pat = \"q7Tz4mPw9LrB2xYcV8nK3dJf\";\n",
        ),
        (
            "a.json",
            r#"{"ARN": "arn:aws:secretsmanager:us-west-2:123456789012:secret:MyTestDatabaseSecret-a1b2c3"}"#,
            r#"{"ARN": "arn:aws:x", "secret": "MyTestDatabaseSecret-a1b2c3"}"#,
        ),
        (
            "RECORD",
            "a/tokens.py,sha256=jhYWZKEY-EfXz6mJQNMSAJLdDHjEaGl5D2nWM-BVsYI,34221\n",
            "a/tokens.py,token=jhYWZKEY-EfXz6mJQNMSAJLdDHjEaGl5D2nWM-BVsYI,34221\n",
        ),
        (
            "a.py",
            "password = password.encode(\"utf-8\")\nSSE_KEY = 'fs.s3.enableServerSideEncryption'\n",
            "password = b\"hunter2-Xk9!vQ\"\n",
        ),
        (
            "a.sh",
            "export CONNECTION_STRING=redis://127.0.0.1:6379\n",
            "export CONNECTION_STRING=redis://u:hunter2-Xk9vQ@127.0.0.1:6379\n",
        ),
    ] {
        let found = secrets(file, no, Profile::Hipaa);
        assert!(found.is_empty(), "{file}: {no}: {found:?}");
        let found = secrets(file, yes, Profile::Hipaa);
        assert!(!found.is_empty(), "{file}: {yes}");
    }
}

#[test]
fn what_documentation_makes_up_is_sealed_only_by_the_strict_profile() {
    for (file, text) in [
        (
            "a.json",
            r#"{"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY"}"#,
        ),
        ("a.md", "ftp://rms:secret123@example.com/\n"),
        ("a.md", "https://rms:secret123@www.example.org:8443/x\n"),
        ("a.yaml", "url: amqp://rms:secret123@host.test\n"),
        (
            "test-vectors.json",
            r#"{"psk": "0247fd33b913760fa1fa51e1892d9f307fbe65eb171e8132c2af18555a738b82"}"#,
        ),
    ] {
        let found = secrets(file, text, Profile::Hipaa);
        assert!(found.is_empty(), "{text}: {found:?}");
        assert_eq!(secrets(file, text, Profile::Strict).len(), 1, "{text}");
    }
    for text in [
        "ftp://rms:secret123@example.company.com/",
        "ftp://rms:secret123@myexample.com/",
    ] {
        assert_eq!(secrets("a.md", text, Profile::Hipaa).len(), 1, "{text}");
    }
    let ssn = |number: &str| {
        let text = format!("patient name: Jane Roe, SSN: {number}, diagnosis: diabetes\n");
        let found = scan(b"a.txt", text.as_bytes(), Profile::Hipaa);
        found.iter().any(|one| one.kind == "us-ssn")
    };
    assert!(!ssn("111-22-3333") && !ssn("078-05-1120"));
    assert!(ssn("536-22-8174"));
}
