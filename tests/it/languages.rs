//! Secrets as people have them in the files of many programs and languages, and what stands in such
//! files under the name of a secret and is none.

use bdr::privacy::{Rules, Treatment, examine};

/// What would be cut out of a file.
fn sealed(name: &str, text: &[u8]) -> Vec<String> {
    let examined = examine(name.as_bytes(), text, &Rules::default());
    if matches!(examined.treatment, Treatment::Whole(_)) {
        return vec!["all".to_owned()];
    }
    let cut = examined.seals.iter().map(|(range, _)| &text[range.clone()]);
    cut.map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

const VALUES: [&str; 4] = [
    "Tr0mbone-Xk9vQ",
    "m4rigold#xsTZW",
    "Wint3r!JEMb2",
    "b1uefin_G7WkK",
];

/// `VALUE` stands for a password.
const FILES: &[(&str, &str)] = &[
    (
        "vars.tf",
        "variable \"db_password\" {\n  type = string\n  default = \"VALUE\"\n}\n",
    ),
    (
        "app.properties",
        "spring.datasource.url=jdbc:oracle:thin:app/VALUE@db.corp.net:1521:ORCL\n",
    ),
    ("block.yaml", "db:\n  password: |\n    VALUE\n  other: 1\n"),
    (
        "folded.yaml",
        "db:\n  password: >-\n    VALUE\n  other: 1\n",
    ),
    (
        "crlf.yaml",
        "db:\r\n  password: |\r\n    VALUE\r\n  other: 1\r\n",
    ),
    ("tag.yaml", "db:\n  password: !!str VALUE\n"),
    (
        "nested.json",
        "{\"db\": {\n \"password\": {\n  \"value\": \"VALUE\",\n  \"type\": \"string\"}}}\n",
    ),
    (
        "conv.jsonl",
        "{\"input\": \"{\\\"password\\\": {\\\"value\\\": \\\"VALUE\\\"}}\"}\n",
    ),
    (
        "unattend.xml",
        "<AutoLogon><Password><Value>VALUE</Value></Password></AutoLogon>\n",
    ),
    ("dump.sql", "CREATE USER 'app'@'%' IDENTIFIED BY 'VALUE';\n"),
    ("a.erl", "-module(a).\n-define(PASSWORD, \"VALUE\").\n"),
    ("a.R", "password <- \"VALUE\"\n"),
    (
        "a.ps1",
        "$password = ConvertTo-SecureString \"VALUE\" -AsPlainText -Force\n",
    ),
    ("a.vb", "Dim password As String = \"VALUE\"\n"),
    ("router.cfg", "username admin privilege 15 secret 0 VALUE\n"),
    (
        "db.toml",
        "url = \"postgres://a:VALUE@db.corp.net:5432/a\"\n",
    ),
    ("multi.toml", "[db]\npassword = \"\"\"\nVALUE\"\"\"\n"),
    ("ftp.log", "> USER me\n> PASS VALUE\n"),
    ("redis.conf", "requirepass VALUE\n"),
    ("ks.cfg", "rootpw --plaintext VALUE\n"),
    ("ldap.conf", "bindpw VALUE\n"),
    ("msmtprc", "account a\nuser me\npassword VALUE\n"),
    (
        "a.js.map",
        "{\"version\":3,\"sourcesContent\":[\"const password = 'VALUE';\\n\"]}\n",
    ),
    ("a.ml", "let password = \"VALUE\"\n"),
    ("a.clj", "(def db {:user \"a\" :password \"VALUE\"})\n"),
    ("build.gradle", "credentials {\n  password 'VALUE'\n}\n"),
    (
        "de.json",
        "{\n\"title\": \"Guten Tag\",\n\"smtp_password\": \"VALUE\"\n}\n",
    ),
];

#[test]
fn passwords_are_found_in_files_of_many_programs() {
    for (name, form) in FILES {
        for value in VALUES {
            let text = form.replace("VALUE", value);
            let found = sealed(name, text.as_bytes());
            assert_eq!(found, [value], "{name}: {text}");
            let with_mark = [b"\xef\xbb\xbf", text.as_bytes()].concat();
            assert_eq!(sealed(name, &with_mark), [value], "{name}: {text}");
        }
    }
    let long = "9f".repeat(16) + &"4c81".repeat(24);
    let rails = format!("production:\n  secret_key_base: {long}\n");
    assert_eq!(sealed("secrets.yml", rails.as_bytes()), [long]);
}

/// All lines of a text in YAML are the value.
#[test]
fn a_text_of_several_lines_is_sealed_as_a_whole() {
    let lines = ["q7Tz4mPw9LrB2xYcV8nK3dJf", "h5Rk2sWv8ZpN6tGx9bQm4yLc"];
    let text = format!(
        "a:\n  client_secret: |\n    {}\n    {}\n  next: plain\n",
        lines[0], lines[1]
    );
    let found = sealed("a.yaml", text.as_bytes()).concat();
    assert!(lines.iter().all(|line| found.contains(line)), "{found}");
    assert!(!found.contains("next"), "{found}");
}

/// What stands in files as they are published, each with a secret of the same place.
const NONE: &[(&str, &str, &str)] = &[
    // A key of the map that is the value.
    (
        "a.py",
        "spec = {'password': {'no_log': True}}\n",
        "spec = {'password': 'Tr0mbone-Xk9vQ'}\n",
    ),
    (
        "service.json",
        "{\"Password\":{\"shape\":\"S\"}}\n",
        "{\"Password\":\"Tr0mbone-Xk9vQ\"}\n",
    ),
    // One of several words that the program knows.
    (
        "a.py",
        "if update_password == 'on_create':\n    f()\n",
        "if password == 'Tr0mbone-Xk9vQ':\n    f()\n",
    ),
    (
        "a.yml",
        "- name: a\n  update_password: on_create\n",
        "- name: a\n  password: Tr0mbone-Xk9vQ\n",
    ),
    (
        "a.py",
        "r['password'] = 'VALUE_SPECIFIED_IN_NO_LOG_PARAMETER'\n",
        "r['password'] = 'Tr0mbone-Xk9vQ'\n",
    ),
    (
        "policy.yaml",
        "\"os:admin-password\": \"rule:project_member_or_admin\"\n",
        "\"os:admin-password\": \"Tr0mbone-Xk9vQ\"\n",
    ),
    // What is filled in.
    (
        "users.conf",
        "user_key = \"raduser_%{md5:%{User-Name}}\"\n",
        "user_key = \"q7Tz4mPw9LrB2xYcV8nK3dJf\"\n",
    ),
    (
        "a.json",
        "{\"hello_auth_key\": \"ip pim hello-authentication ah-md5 {0}\"}\n",
        "{\"hello_auth_key\": \"q7Tz4mPw9LrB2xYcV8nK3dJf\"}\n",
    ),
    (
        "nova.conf",
        "url = driver://[user:pass@]host:port[,[userN:passN@]hostN:portN]\n",
        "url = driver://user:Tr0mbone-Xk9vQ@host\n",
    ),
    (
        "sip.cfg",
        "db_url = \"mysql://HOMER_DB_USER:HOMER_DB_PASSWORD@localhost/a\"\n",
        "db_url = \"mysql://homer:Tr0mbone-Xk9vQ@localhost/a\"\n",
    ),
    // Digests and public keys.
    (
        "app.config",
        "<a assembly=\"System, PublicKeyToken=b77a5c561934e089\" />\n",
        "<a token=\"q7Tz4mPw9LrB2xYcV8nK3dJf\" />\n",
    ),
    (
        "a.go",
        "in := &T{\n\tKeyMd5: aws.String(\"Base64EncodedString7\"),\n}\n",
        "in := &T{\n\tSecretKey: aws.String(\"q7Tz4mPw9LrB2xYcV8nK3dJf\"),\n}\n",
    ),
    // What makes a literal into another type says nothing about it.
    (
        "a.go",
        "in := &T{\n\tJobId: aws.String(\"1d828f65-7a4d-42e8-996d-3b900ed59dc4\"),\n}\n",
        "in := &T{\n\tClientSecret: aws.String(\"1d828f65-7a4d-42e8-996d-3b900ed59dc4\"),\n}\n",
    ),
    // An address without a user.
    (
        "a.pl",
        "$dsn = \"DBI:Proxy:hostname=alpha;port=3334;dsn=DBI:ODBC:mydb\";\n",
        "$dsn = \"dbi:mysql:a;user=b;password=Tr0mbone-Xk9vQ\";\n",
    ),
    (
        "a.conf",
        "ciphers = ALL:!kRSA:!MD5:!PSK:!RC4:!ADH:!LOW@STRENGTH\n",
        "psk = Tr0mbone-Xk9vQ\n",
    ),
    (
        "a.json",
        "{\"help\": \"To make it, run: mkpasswd --method=SHA-512\"}\n",
        "{\"help\": \"run: tool --password Tr0mbone-Xk9vQ! x\"}\n",
    ),
    (
        "tls.rst.txt",
        "unsigned char salt[TLS_CIPHER_AES_GCM_128_SALT_SIZE];\n",
        "salt = q7Tz4mPw9LrB2xYcV8nK3dJf\n",
    ),
    (
        "trace.txt",
        "mlx5e_configure_flower: cookie=0000000067874a55 actions=0\n",
        "cookie=session=q7Tz4mPw9LrB2xYcV8nK3dJf\n",
    ),
    // Names in a list, kinds of content, methods.
    (
        "a.js",
        "var links = {'PASSWORD': ['encryption-functions', 'x']};\n",
        "var links = {'PASSWORD': ['Tr0mbone-Xk9vQ', 'x']};\n",
    ),
    (
        "a.php",
        "<?php $types = ['pkpass' => 'application/vnd.apple.pkpass'];\n",
        "<?php $types = ['pkpass' => 'Tr0mbone-Xk9vQ'];\n",
    ),
    (
        "a.php",
        "<?php $wgPasswordDefault = 'pbkdf2'; $password = \"{$this->values['x']}\";\n",
        "<?php $wgPassword = 'Tr0mbone-Xk9vQ';\n",
    ),
    (
        "a.go",
        "const NetworkSecurityTypeWpaPsk = \"WPA_PSK\"\n",
        "const NetworkSecurityTypeWpaPsk = \"Tr0mbone-Xk9vQ\"\n",
    ),
    (
        "genindex.html",
        "<a href=\"a.html#c.cfg80211_cqm_pktloss_notify\">cfg80211_cqm_pktloss_notify</a>\n",
        "<a>notify key: q7Tz4mPw9LrB2xYcV8nK3dJf</a>\n",
    ),
    // How the numbers of FIPS 186 were found.
    (
        "A.java",
        "class A {\n/*\n * L = 512\n * SEED = b869c82b35d70e1b1ff91b28e37a62ecdc34409b\n * counter = 123\n */\n}\n",
        "class A {\n/* SEED = b869c82b35d70e1b1ff91b28e37a62ecdc34409b */\n}\n",
    ),
    // Words that begin as a token does.
    (
        "nova.txt",
        "use ``live_migration_with_native_tls`` where it is there\n",
        "use hf_q7Tz4mPw9LrB2xYcV8nK3dJfq7Tz4mPw9L there\n",
    ),
    // Code of other languages.
    (
        "a.erl",
        "f() ->\n    PrivKey = gen_key(proplists:get_value(key, Opts2)),\n    PSK = tls_v1:pre_shared_key(RMS2, Nonce).\n",
        "f() ->\n    PrivKey = \"q7Tz4mPw9LrB2xYcV8nK3dJf\".\n",
    ),
    (
        "a.rkt",
        "(define user-pass (make-user-pass 1 2))\n",
        "(define x #hash((password . \"y\"))) ; password = \"Tr0mbone-Xk9vQ\"\n",
    ),
];

#[test]
fn what_many_files_have_under_such_names_is_no_secret() {
    for (name, none, one) in NONE {
        assert_eq!(sealed(name, none.as_bytes()), [""; 0], "{name}: {none}");
        assert!(!sealed(name, one.as_bytes()).is_empty(), "{name}: {one}");
    }
}

/// In a file of what a program says to people, words are labels, and a password is still one.
#[test]
fn labels_in_a_file_of_labels_are_no_passwords() {
    const SAID: [(&str, &str); 14] = [
        ("edit", "Oldal szerkesztése"),
        ("save", "Mentés"),
        ("show", "Oldal megtekintése"),
        ("new", "Új oldal létrehozása"),
        ("search", "Keresés"),
        ("newer", "Újabb változat"),
        ("recent", "Legfrissebb változások"),
        ("login", "Bejelentkezés"),
        ("logout", "Kijelentkezés"),
        ("admin", "Admin"),
        ("delete", "Törlés"),
        ("back", "Vissza a $1 oldalra"),
        ("newpassword", "Jelszó"),
        ("oldpassword", "Lozinka:"),
    ];
    for (name, form) in [
        ("hu.json", "\t\"KEY\": \"VALUE\",\n"),
        ("lang.php", "$lang['KEY'] = 'VALUE';\n"),
        ("messages.properties.js", "KEY: 'VALUE',\n"),
    ] {
        let line = |key: &str, value: &str| form.replace("KEY", key).replace("VALUE", value);
        let all: String = SAID.iter().map(|(key, value)| line(key, value)).collect();
        assert_eq!(sealed(name, all.as_bytes()), [""; 0], "{name}: {all}");
        let with = all + &line("smtp_password", "Tr0mbone-Xk9vQ");
        assert_eq!(
            sealed(name, with.as_bytes()),
            ["Tr0mbone-Xk9vQ"],
            "{name}: {with}"
        );
    }
    // Settings are not labels.
    let settings = "{\n\"host\": \"db\",\n\"user\": \"app\",\n\"password\": \"geheimnis\"\n}\n";
    assert_eq!(sealed("de.json", settings.as_bytes()), ["geheimnis"]);
}
