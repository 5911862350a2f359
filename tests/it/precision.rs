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

/// How each language writes a text that a secret may stand in.
const FORMS: [(&str, &str); 34] = [
    ("a.c", "char *s = \"TEXT\";"),
    ("a.c", "char *s = \"some \" \"TEXT\";"),
    ("a.c", "char *s = \"a \\\nTEXT\";"),
    ("a.c", "// TEXT"),
    ("a.c", "// first \\\n TEXT"),
    ("a.c", "/* it's \"\n * TEXT\n */"),
    ("a.cpp", "auto s = R\"sql(\nTEXT\n)sql\";"),
    ("a.rs", "let s = \"TEXT\";"),
    ("a.rs", "let s = b\"TEXT\";"),
    ("a.rs", "let s = r#\"\"x\" TEXT\"#;"),
    ("a.rs", "let s = \"first\nTEXT\";"),
    ("a.rs", "/* a /* b */ TEXT */"),
    ("a.rs", "fn f<'a>(c: char) { c == '\"'; } /// TEXT"),
    ("a.go", "s := \"TEXT\""),
    ("a.go", "s := `\nTEXT\n`"),
    ("A.java", "String s = \"TEXT\";"),
    ("A.java", "String s = \"\"\"\n    TEXT\n    \"\"\";"),
    ("a.cs", "var s = \"TEXT\";"),
    ("a.cs", "var s = @\"c:\\x\\\" + @\"\nTEXT\n\";"),
    ("a.cs", "var s = $@\"{a}\nTEXT\n\";"),
    ("a.kt", "val s = \"\"\"c:\\\"\"\" + \"\"\"\nTEXT\n\"\"\""),
    ("a.swift", "let s = #\"TEXT\"#"),
    ("a.swift", "let s = \"\"\"\nTEXT\n\"\"\""),
    ("a.zig", "const s =\n    \\\\first\n    \\\\TEXT\n;"),
    ("a.dart", "var s = '''\nTEXT\n''';"),
    ("a.js", "const s = 'TEXT';"),
    ("a.js", "const s = `\nTEXT\n`;"),
    ("a.js", "const s = `${x ? `TEXT` : ''}`;"),
    ("a.js", "if (/[`'\"]/.test(x)) { s = `\nTEXT\n`; }"),
    ("a.tsx", "return <p>TEXT</p>;"),
    ("a.py", "s = 'TEXT'"),
    ("a.py", "s = f\"{a['b']} TEXT\""),
    ("a.py", "s = \"\"\"\nTEXT\n\"\"\""),
    ("a.py", "s = 'a \\\nTEXT'"),
];

/// Every form, with every way in which a text says a secret, among other lines.
#[test]
fn a_secret_is_found_in_every_literal_of_every_language() {
    let texts = [
        "api_key=q7Tz4mPw9LrB2xYcV8nK3dJf",
        "Authorization: Bearer q7Tz4mPw9LrB2xYcV8nK3dJf",
        "postgres://app:q7Tz4mPw9LrB2xYc@db.internal:5432/x",
        "ghp_q7Tz4mPw9LrB2xYcV8nK3dJfq7Tz4mPw9LrB",
        "client_secret: q7Tz4mPw9LrB2xYcV8nK3dJf",
    ];
    for (file, form) in FORMS {
        for text in texts {
            let program = format!("first(a, b);\n{}\nlast(c);\n", form.replace("TEXT", text));
            let found = secrets(file, &program, Profile::Hipaa).concat();
            let value = if text.starts_with("postgres") {
                "q7Tz4mPw9LrB2xYc"
            } else {
                "q7Tz4mPw9LrB2xYcV8nK3dJf"
            };
            assert!(found.contains(value), "{file}: {program}: {found}");
        }
    }
}

/// A file that is not what its name says: settings, a log, data.
#[test]
fn what_is_no_program_counts_whatever_its_name_says() {
    for name in ["a.py", "a.h", "a.ts", "a.go", "a.java", "a.rs", "a.c"] {
        for text in [
            "DB_HOST=localhost\nPASSWORD=hunter2-Xk9!vQ\nPORT=5432\n",
            "export API_KEY=q7Tz4mPw9LrB2xYcV8nK3dJf\nexport HOME=/x\n",
            "2026-11-29 12:00:00 INFO up\n2026-11-29 12:00:01 INFO token=q7Tz4mPw9LrB2xYcV8nK3dJf\n",
            "{\n  \"password\": \"hunter2-Xk9!vQ\"\n}\n",
            "x = 1\nAPI_KEY=q7Tz4mPw9LrB2xYcV8nK3dJf\ny = 2\nz = 3\n",
            "x = ghp_q7Tz4mPw9LrB2xYcV8nK3dJfq7Tz4mPw9LrB\ny = 2\n",
        ] {
            let found = secrets(name, text, Profile::Hipaa);
            assert_eq!(found.len(), 1, "{name}: {text}: {found:?}");
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
            "rules.php",
            "['password' => 'required|min:8|confirmed', 'api_token' => 'nullable|string|max:60']\n",
            "['password' => 'hunter|2:8|Xk9vQ!', 'x' => 1]\n",
        ),
        (
            "de.json",
            r#"{"password": "Passwort", "token": "Zugangstoken", "api_key": "API-Schlüssel"}"#,
            r#"{"password": "Passwort7!", "label": "Zugangstoken"}"#,
        ),
        (
            "es.yml",
            "es:\n  password: Contraseña\npl:\n  password: Hasło\n",
            "es:\n  password: Contraseña99\n",
        ),
        (
            "play.yml",
            "admin_password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\nwifi_password: !secret wifi\n",
            "admin_password: q7Tz4mPw9!vault\n",
        ),
        (
            "a.cs",
            "var s = \"Server=db;Password=\" + password; t = \"a;Password={password};b=1\";\n",
            "var s = \"Server=db;User ID=app;Password=Hn4!vbQx81Lp;Encrypt=True\";\n",
        ),
        (
            "a.java",
            "a.user=b;password=c3d4e5;f(\"x\");\n",
            "String s = \"jdbc:mysql://h/db?user=a&password=Lm8xQ2vPz\";\n",
        ),
        (
            "a.css",
            ".show-password #pass1-text{display:none}.wp-pwd button.wp-hide-pw{left:2.5rem}\n",
            "/* password: \"hunter2-Xk9!vQ\" */\n",
        ),
        (
            "a.js",
            "if (\"password\" != w.find(\"input:checked\")) x = y ? \"password\" : \"public1\";\n",
            "if (password != \"hunter2-Xk9!vQ\") x = { \"password\": \"public1\" };\n",
        ),
        (
            "b.js",
            "n = d.find('[data-secret=\"' + t.secret + '\"]'); u += \"?secret=\" + r, f(\"b\");\n",
            "n = '[data-secret=\"+XSqHc;@Q*K_b|Z?NC[3H\"]';\n",
        ),
        (
            "a.php",
            "echo '<input name=\"_token\" value=\"'.csrf_token().'\">'; $a = ['ftp_password' => 'FTP_PASS'];\n",
            "$a = ['ftp_password' => 'ftp-Pass77'];\n",
        ),
        (
            "b.php",
            "$routes = ['/user-password' => 'App\\Controllers\\PasswordController', 'cookie' => '\\ud83c\\udf6a'];\n",
            "$routes = ['/user-password' => 'App-Controllers77'];\n",
        ),
        (
            "module.py",
            "if self.update_password == 'always': pass\n",
            "if self.user_password == 'always77': pass\n",
        ),
        (
            "random.yml",
            "x: \"{{ 60 | random(seed=inventory_hostname) }}\"\nurl: '(http|ftp)://[user[:pass]]@host/x'\n",
            "x: \"{{ 60 }}\"\nseed: q7Tz4mPw9LrB2xYcV8nK\n",
        ),
        (
            "a.ps1",
            "$token_value = $token_key.GetValue($token_prop_name, $null)\n",
            "$token_value = \"q7Tz4mPw9LrB2xYcV8nK\"\n",
        ),
        (
            "site.conf",
            "fastcgi_pass  unix:/var/run/php7.0-fpm.sock;\nproxy_pass http://127.0.0.1:8080;\n",
            "ldap_pass = Hn4vbQx81Lp\n",
        ),
        (
            "RECORD",
            "a/shebang.py,sha256=AKCti3RCgZy0GWB3bXgimr_OhqfVPOp_I7345UN_DV8,2\n",
            "a/shebang.py,token=AKCti3RCgZy0GWB3bXgimr_OhqfVPOp_I7345UN_DV8,2\n",
        ),
        (
            "doc.go",
            "// the idiom is to pass ed25519.PrivateKey here; sshpass must support the -P option.\n",
            "// sshpass -p hunter2-Xk9 ssh host\n",
        ),
        (
            "nginx.conf",
            "log_format x '$http_authorization \"$request\"'; # Authorization \"$remote_user\"\n",
            "proxy_set_header Authorization \"Basic dXNlcjpxN1R6NG1Qdzk=\";\n",
        ),
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
            "a.txt",
            "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\nAKChOBZmLqdWHyGcBvod7bkixTgm2E5P7KN/ed5GIaGHd48HCJqypMWvDzKYC3xm\n-----END CERTIFICATE-----\n",
            "key AKChOBZmLqdWHyGcBvod7bkixTgm2E5P7KN\n",
        ),
        (
            "a.rs",
            "let tag = pair(tag(\"-----BEGIN RSA PRIVATE KEY-----\"), end), // and so on\n pair(tag(\"-----END RSA PRIVATE KEY-----\"))\n",
            "let key = \"-----BEGIN RSA PRIVATE KEY-----\nMIIEogIBAAKCAQEAxOq3vLm2q7Tz4mPw9LrB2xYcV8nK3dJf\n-----END RSA PRIVATE KEY-----\"\n",
        ),
        (
            "a.py",
            "service_key = f\"{cluster.name}:{service_name}\"\nsalt = b\"joserfc:OKP:HKDF:Ed25519\"\n",
            "service_key = f\"{cluster.name}:hunter2-Xk9!vQ-7Tz4mPw9\"\n",
        ),
        (
            "a.py",
            "print('Set-Cookie: keebler=\"E=everybody; L=\\\"Loves\\\"; fudge=\\012;\"')\n",
            "print('Set-Cookie: session=q7Tz4mPw9LrB2xYcV8nK3dJf; Path=/')\n",
        ),
        (
            "RECORD",
            "asttokens-3.0.1.dist-info/METADATA,sha256=atd7wrEonw2SMgJ-GHfMN_pt3Er1ysi9LSlkGnM-aIg,4911\n",
            "token-3.0.1q7Tz4mPw9LrB2xYcV8nK3dJf\n",
        ),
        (
            "a.rst",
            "token = auth_s.dumps({\"id\": 5})\nMailchimp.initialize(token: some1Value22For333It)\n",
            "token = q7Tz4mPw9LrB2xYcV8nK3dJf\n",
        ),
        (
            "_comp",
            "'--password=[specify password to use]:password'\n${PASSWORD:?missing-value-1}\n",
            "mysql --password=hunter2-Xk9vQ\n${PASSWORD:-hunter2-Xk9vQ}\n",
        ),
        (
            "a.rs",
            "let seed = 0x9E37_79B9_7F4A_7C15_u64.wrapping_add(size as u64);\n// keys: KEYS_1EDC6F41_REFLECTED,\n",
            "let seed = \"q7Tz4mPw9LrB2xYcV8nK3dJf\";\n",
        ),
        (
            "a.md",
            "?X-Amz-Credential=access_key_id/20130721/us-east-1/s3/aws4_request\nSignedHeaders=x-amz-security-token, Signature=3ae2a693a57537e21f96c0bb753071ff58c7398cd4df5ddf1f772ba059cd3ae2\n",
            "?X-Amz-Security-Token=3ae2a693a57537e21f96c0bb753071ff58c7398cd4df5ddf1f772ba059cd3ae2\n",
        ),
        (
            "a.txt",
            "authorization: SharedKey account:G4jjBXA7LI/RnWKIOQ8i9xH4p76pAQ+4Fs4R1VxasaE=\n",
            "authorization: Bearer account:G4jjBXA7LI/RnWKIOQ8i9xH4p76pAQ+4Fs4R1VxasaE=\n",
        ),
        (
            "a.md",
            "|metadata: Key: v0:m:/home/monika/poem0.txt|  |\n",
            "|metadata: Key: q7Tz4mPw9LrB2xYcV8nK3dJf|  |\n",
        ),
        (
            "a.conf.txt",
            "private_key = $dir/private/cakey.pem\nsrppasswd = substitute(a:choice\n",
            "private_key = q7Tz4mPw9LrB2xYcV8nK3dJf\n",
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

/// Kubernetes, ECS and CloudFormation name a variable beside its value.
#[test]
fn a_variable_in_a_list_is_judged_by_its_name() {
    let sealed = |name: &str, text: &str| {
        let rules = bdr::privacy::Rules::new(Profile::Hipaa);
        let examined = bdr::privacy::examine(name.as_bytes(), text.as_bytes(), &rules);
        let seals = examined.seals.into_iter();
        seals
            .map(|(range, _)| text[range].to_owned())
            .collect::<Vec<_>>()
    };
    let yaml = "spec:\n  containers:\n  - name: web\n    env:\n    - name: NAME\n      value: \"VALUE\"\n    - name: LOG_LEVEL\n      value: \"debug\"\n";
    let json = r#"{"containerDefinitions": [{"environment": [{"name": "LOG", "value": "x"}, {"name": "NAME", "value": "VALUE"}]}]}"#;
    let stack = r#"{"Environment": [{"Name": "NAME", "Value": "VALUE"}]}"#;
    for (file, form) in [("a.yaml", yaml), ("a.json", json), ("b.json", stack)] {
        let text = |name: &str, value: &str| form.replace("NAME", name).replace("VALUE", value);
        for (name, value) in [
            ("DB_PASSWORD", "Lm8xQ2vPz"),
            ("API_TOKEN", "x8vQ2kLz9mTw4RpB7nYc"),
            ("SIGNING_SECRET", "correct-horse"),
        ] {
            assert_eq!(sealed(file, &text(name, value)), [value], "{file} {name}");
        }
        for (name, value) in [
            ("TOKEN_TTL", "3600"),
            ("DB_PASSWORD", "${DB_PASSWORD}"),
            ("DB_PASSWORD_FILE", "/run/secrets/db"),
            ("REGION", "eu-central-1"),
        ] {
            let found = sealed(file, &text(name, value));
            assert_eq!(found, [""; 0], "{file} {name}");
        }
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
        ("a.js", "api_key = 'abcd1234efgh5678ijkl9012mnop3456'\n"),
        ("a.py", "account_key = \"dGVzdGtleQ==\"\n"),
        (
            "a.rs",
            "let m = Proxy::all(\"https://letme:in@yo.local\");\n",
        ),
        ("a.py", "token = \"m2m-access-token-12345\"\n"),
        (
            "a.env",
            "S=DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==\n",
        ),
        (
            "x25519",
            "expect: success\npayload: 013f54400c82da08037759ada907a8b8\nfile key: 59454c4c4f57205355424d4152494e45\nidentity: AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0\n\nage-encryption.org/v1\n",
        ),
        (
            "identity.rs",
            "let key = \"AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\";\n",
        ),
        (
            "urltestdata.json",
            "[\n  \"# Pulled from https://github.com/web-platform-tests/wpt/blob/x/url/resources/urltestdata.json\",\n {\"password\": \"foo(b%5Dc9\"}]\n",
        ),
        (
            "examples-1.json",
            "{\n  \"version\": \"1.0\",\n  \"examples\": {\"CreateUser\": [{\"input\": {\"NewPassword\": \"]35d/{pB9Fo9wJ\"}}]}}\n",
        ),
        (
            "test-vectors.json",
            r#"{"psk": "0247fd33b913760fa1fa51e1892d9f307fbe65eb171e8132c2af18555a738b82"}"#,
        ),
    ] {
        let found = secrets(file, text, Profile::Hipaa);
        assert!(found.is_empty(), "{text}: {found:?}");
        assert!(!secrets(file, text, Profile::Strict).is_empty(), "{text}");
    }
    // What a developer has in such places is a secret: the name of a directory, or a first line that
    // anybody may write, is not enough.
    let age = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";
    let pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgq7Tz4mPw9LrB2xYc\n-----END PRIVATE KEY-----\n";
    for (name, text) in [
        ("testdata/key.txt", age.to_owned()),
        (
            "tests/testkit/mine",
            format!("expect: nothing\nidentity {age}\n"),
        ),
        ("tests/examples/key.pem", pem.to_owned()),
        (
            "a.md",
            format!("# See https://github.com/web-platform-tests/wpt/\n{age}\n"),
        ),
        (
            "a.json",
            format!("{{\"examples\": {{\"key\": \"{age}\"}}}}"),
        ),
    ] {
        let found = bdr::privacy::examine(name.as_bytes(), text.as_bytes(), &Default::default());
        assert_eq!(found.seals.len(), 1, "{name}: {text}");
    }
    // What is counted up is made up where a program or a document shows it. In settings and logs a
    // program uses it.
    for value in [
        "abcd1234efgh5678ijkl9012mnop3456",
        "1234567890abcdef1234567890abcdef",
        "A1B2C3D4E5F6G7H8I9J0K1L2",
        "12345678-ABCD-ABCD-ABCD-1234567890AB",
        "abcdefghijklmnopqrstuvwxyz123456",
    ] {
        for name in ["api_key", "ACCESS_TOKEN", "client_secret", "authToken"] {
            let shown = format!("{name} = \"{value}\"\n");
            for file in ["a.py", "a.js", "a.go", "a.rs", "README.md"] {
                let found = secrets(file, &shown, Profile::Hipaa);
                assert!(found.is_empty(), "{file}: {shown}: {found:?}");
            }
            for (file, text) in [
                (".env", format!("{name}={value}\n")),
                ("a.json", format!("{{\"{name}\": \"{value}\"}}\n")),
                ("a.yaml", format!("{name}: {value}\n")),
                ("a.toml", shown.clone()),
                (
                    "app.log",
                    format!("12:00 INFO up with {name}={value} at 8080\n"),
                ),
                ("notes.txt", format!("{name}: {value}\n")),
            ] {
                let found = secrets(file, &text, Profile::Hipaa).concat();
                assert!(found.contains(value), "{file}: {text}: {found}");
            }
        }
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

/// What a person needs to judge a tree, and never a value.
#[test]
fn a_scan_sums_up_and_shows_examples_without_values() {
    let place = crate::support::Place::with_repository();
    let value = |n: usize| format!("q7Tz4mPw9LrB2xYcV8nK3dJ{}", char::from(b'a' + n as u8));
    for n in 0..12 {
        let secret = value(n);
        let line = format!("let client_secret = \"{secret}\";\n");
        place.write(&format!("src/f{n}.rs"), line.repeat(n + 1).as_bytes());
    }
    place.write(
        "README.md",
        b"curl -u me:hunter2-Xk9vQ https://a.internal/\n",
    );
    let values: Vec<String> = (0..12)
        .map(value)
        .chain(["hunter2-Xk9vQ".to_owned()])
        .collect();
    let out = |args: &[&str]| {
        let done = place.run(args, 0);
        let said =
            String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap();
        for value in &values {
            assert!(!said.contains(value.as_str()), "{args:?}: {said}");
        }
        said
    };
    let short = out(&["scan"]);
    assert!(short.contains("78  generic, in 12 files"), "{short}");
    assert!(short.contains("3 files more: bdr scan --all"), "{short}");
    let most = short.find("f11.rs").unwrap();
    assert!(
        most < short.find("f10.rs").unwrap() && !short.contains("f0.rs"),
        "{short}"
    );
    assert!(out(&["scan", "--all"]).contains("f0.rs"));
    let samples = out(&["scan", "--sample", "2"]);
    assert_eq!(
        samples
            .matches("client_secret = \"a0Aa0aAa0AaA0aAaA0aA0aAa")
            .count(),
        2,
        "{samples}"
    );
    assert!(samples.contains("me:aaaaaa0-Aa0aA"), "{samples}");
    let json = place.json(&["scan", "--sample", "1"]);
    assert_eq!(json["kinds"]["generic"]["findings"], 78);
    assert_eq!(json["files"][0]["samples"][0]["line"], 1);
    // Why, and from there it is let through in one step.
    place.init();
    let file = place.tree().join("src/f0.rs");
    let why = out(&["privacy", "why", file.to_str().unwrap()]);
    assert!(why.contains("the name before it: client_secret"), "{why}");
    let step = why.split("bdr privacy allow ").nth(1).unwrap();
    let fingerprint = step.split(' ').next().unwrap();
    out(&["privacy", "allow", fingerprint, "--reason", "a test"]);
    let why = place.json(&["privacy", "why", file.to_str().unwrap()]);
    assert_eq!(why["findings"][0]["allowed"], true);
    assert_eq!(why["findings"][0]["word"], "client_secret");
}

/// A word that decided is a name: text that may be a value of its own is not said.
#[test]
fn why_says_names_and_no_values() {
    for before in [
        "tokenQ7Tz4mPw9",
        "my-key-91Ab47cX",
        "secret2026x11",
        "pass.8f31c0de",
    ] {
        for name in ["password", "api_key", "note"] {
            let text = format!("{before} {name} = \"q7Tz4mPw9LrB2xYcV8nK3dJf\"\n");
            for finding in scan(b"a.txt", text.as_bytes(), Profile::Hipaa) {
                let why = bdr::privacy::why(text.as_bytes(), &finding);
                let word = why.word.unwrap_or_default();
                assert!(!word.contains(before), "{text}: {word}");
                assert!(!why.rule.contains(before), "{text}: {}", why.rule);
            }
        }
    }
}
