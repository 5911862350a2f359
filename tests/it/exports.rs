//! Secrets in what programs export and in the files of builds, and what looks like one there and is none.

use bdr::privacy::{Rules, Treatment, examine};

/// What would be cut out of a file.
fn sealed(name: &str, text: &str) -> Vec<String> {
    let examined = examine(name.as_bytes(), text.as_bytes(), &Rules::default());
    assert!(!matches!(examined.treatment, Treatment::Whole(_)), "{name}");
    let cut = examined.seals.iter().map(|(range, _)| &text[range.clone()]);
    cut.map(str::to_owned).collect()
}

const PASSWORDS: [&str; 3] = ["Tr0mbone-Xk9vQ", "m4rigold#xsTZW", "b1uefin_G7WkK"];
const TOKENS: [&str; 2] = [
    "q7Zk2LwPx9VbT4nRs8YdHf3JmC6gQa1E",
    "9f8e7d6c5b4a39281706f5e4d3c2b1a0",
];

/// `VALUE` stands for a password.
const WITH_PASSWORD: &[(&str, &str)] = &[
    (
        "Chrome Passwords.csv",
        "name,url,username,password,note\ngithub.com,https://github.com/login,joe,VALUE,\n",
    ),
    (
        "quoted.csv",
        "\u{feff}\"url\",\"username\",\"password\",\"httpRealm\"\r\n\"https://a.io\",\"joe\",\"VALUE\",\"\"\r\n",
    ),
    (
        "notes.csv",
        "Title,Notes,Password,Url\nA,\"two\nlines, and a comma\",VALUE,https://a.io\n",
    ),
    (
        "semicolons.csv",
        "Account;Login Name;Password;Web Site\nA;joe;VALUE;https://a.io\n",
    ),
    ("tabs.tsv", "user\tpassword\njoe\tVALUE\n"),
    (
        "x.postman_collection.json",
        "{\"auth\":{\"type\":\"basic\",\"basic\":[{\"key\":\"password\",\"value\":\"VALUE\",\"type\":\"string\"}]}}",
    ),
    (
        "a.har",
        "{\"log\":{\"entries\":[{\"request\":{\"postData\":{\"params\":[{\"name\":\"password\",\"value\":\"VALUE\"}]}}}]}}",
    ),
    (
        "insomnia.yaml",
        "requests:\n  - parameters:\n      - name: password\n        value: VALUE\n",
    ),
    (
        "export.xml",
        "<?xml version=\"1.0\"?>\n<KeePassFile><String><Key>Title</Key><Value>Bank</Value></String>\n<String>\n<Key>Password</Key>\n<Value ProtectInMemory=\"True\">VALUE</Value></String></KeePassFile>\n",
    ),
];

/// Property lists, in which a name and its value are siblings.
const PLIST: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\"><dict>\n\t<key>Label</key>\n\t<string>net.corp.agent</string>\n\t<key>KEY</key>\n\t<string>VALUE</string>\n</dict></plist>\n";

#[test]
fn values_of_property_lists_have_the_name_before_them() {
    for (key, value) in [
        ("Password", PASSWORDS[0]),
        ("UserPassword", PASSWORDS[2]),
        ("TwitterConsumerSecret", TOKENS[0]),
        ("API_KEY", TOKENS[1]),
    ] {
        let text = PLIST.replace("KEY", key).replace("VALUE", value);
        assert_eq!(sealed("Info.plist", &text), [value], "{key}");
    }
    for (key, value) in [
        ("Password", "$(PASSWORD)"),
        ("PasswordLabel", "Enter your password"),
        ("CFBundleIdentifier", "net.corp.token-agent"),
        ("ConsumerKey", ""),
    ] {
        let text = PLIST.replace("KEY", key).replace("VALUE", value);
        let found = sealed("Info.plist", &text);
        assert!(found.is_empty(), "{key}: {found:?}");
    }
}

/// `VALUE` stands for a token.
const WITH_TOKEN: &[(&str, &str)] = &[
    (
        "x.postman_environment.json",
        "{\"values\":[{\"key\":\"client_secret\",\"value\":\"VALUE\",\"enabled\":true}]}",
    ),
    (
        "x.postman_collection.json",
        "{\"header\":[{\"key\":\"x-api-key\",\"value\":\"VALUE\"},{\"key\":\"Accept\",\"value\":\"text/plain\"}]}",
    ),
    (
        "bitwarden.json",
        "{\"items\":[{\"name\":\"A\",\"login\":{\"username\":\"joe\",\"totp\":\"VALUE\"}}]}",
    ),
    (
        "b.har",
        "{\"request\":{\"headers\":[{\"name\":\"Authorization\",\"value\":\"Bearer VALUE\"}]}}",
    ),
    (
        "c.har",
        "{\"request\":{\"cookies\":[{\"name\":\"sid\",\"value\":\"VALUE\"}]}}",
    ),
    (
        "insomnia.yaml",
        "headers:\n  - name: X-Auth-Token\n    value: VALUE\n",
    ),
    (
        "cookies.txt",
        "# Netscape HTTP Cookie File\n.x.io\tTRUE\t/\tTRUE\t1799999999\tuser_session\tVALUE\n.x.io\tTRUE\t/\tFALSE\t0\tlang\ten\n",
    ),
    (
        "http-only.txt",
        "# HTTP Cookie File\n#HttpOnly_.x.io\tTRUE\t/\tTRUE\t0\tsessionid\tVALUE\n",
    ),
    (
        "accessKeys.csv",
        "Access key name,Secret access key\nfirst,VALUE\n",
    ),
    (
        "build.gradle",
        "android {\n  buildConfigField \"String\", \"API_KEY\", \"\\\"VALUE\\\"\"\n}\n",
    ),
    (
        "build.gradle.kts",
        "android {\n  buildConfigField(\"String\", \"API_KEY\", \"\\\"VALUE\\\"\")\n}\n",
    ),
];

/// A path with something random in it is not the path of a resource.
#[test]
fn a_path_with_a_token_is_found() {
    let text =
        "package x\n\nfunc f() {\n\tth.Mux.HandleFunc(\"/hooks/q7Zk2LwPx9VbT4nRs8YdHf3J\", g)\n}\n";
    assert_eq!(sealed("hook.go", text).len(), 1);
    let text = "# psk: m4rigold#xsTZW\n# password: Tr0mbone-Xk9vQ\n";
    assert_eq!(
        sealed("wifi.conf", text),
        ["m4rigold#xsTZW", "Tr0mbone-Xk9vQ"]
    );
}

#[test]
fn what_programs_export_is_found() {
    let sets = [(WITH_PASSWORD, &PASSWORDS[..]), (WITH_TOKEN, &TOKENS[..])];
    for (files, values) in sets {
        for (name, text) in files {
            for value in values {
                let text = text.replace("VALUE", value);
                let found = sealed(name, &text);
                // A quote that belongs to the value may be cut out with it.
                let whole = found.len() == 1 && found[0].contains(value);
                assert!(
                    whole && found[0].len() <= value.len() + 4,
                    "{name}: {found:?}: {text}"
                );
            }
        }
    }
}

/// In each of these something was sealed.
const NOTHING: &[(&str, &str)] = &[
    (
        "go.sum",
        "golang.org/x/oauth2 v0.0.0-20190604053449-0f29369cfe45 h1:SVwTIAaPC2U/AvvLNZ2a7OVsmBpC8L5BlwK1whH3hm0=\ngolang.org/x/oauth2 v0.0.0-20190604053449-0f29369cfe45/go.mod h1:gOpvHmFTYa4IltrdGE7lF6nIHvwfUNPOp7c8zoXwtLw=\n",
    ),
    (
        "go.mod",
        "module x\nrequire (\n\tgithub.com/docker/docker v20.10.0-beta1.0.20201110211921-af34b94a78a1+incompatible\n\tgolang.org/x/oauth2 v0.0.0-20211104180415-d3ed0bb246c8\n)\n",
    ),
    (
        "Podfile.lock",
        "SPEC CHECKSUMS:\n  oauth2: afb878680e6d3b91f54b0881e7e19363b489954c\n  github-token: df4a34ccb4f15f4c1ba10f6047d2989623fc4b23\n",
    ),
    (
        "poetry.lock",
        "files = [\n    {file = \"oauth2-1.2-py3-none-any.whl\", hash = \"sha256:b042179c7d3b8033edeca73f87b8c13d6859bf58d6698ad67a126dcc122ec135\"},\n]\n",
    ),
    (
        "pip.log",
        "Downloading jsonwebtoken-1.2-py3-none-any.whl (12 kB)\n",
    ),
    (
        ".secrets.baseline",
        "{\n  \"hashed_secret\": \"65866daae66724ed45990cbf7a6e46ca6f7c5d57\"\n}\n",
    ),
    (
        "Dockerfile",
        "ENV PASSWORD_FILE=/run/secrets/pw TOKEN_TTL=3600\n",
    ),
    (
        "requests_test.go",
        "package x\n\nfunc f() {\n\tth.Mux.HandleFunc(\"/v2.0/ports/65c0ee9f-d634-4522-8954-51021b570b0d\", g)\n\tth.Mux.HandleFunc(\"/flavors/12345678/os-flavor-access\", g)\n}\n",
    ),
    (
        "entry_points.txt",
        "[keystoneauth1.plugin]\nv3oauth1 = keystoneauth1.extras.oauth1._loading:V3OAuth1\n",
    ),
    (
        "wpa_supplicant.conf",
        "# mem_only_psk: Whether to keep PSK/passphrase only in memory\n# private_key=\"pkcs11:manufacturer=piv_II;id=%01\"\n",
    ),
    (
        "models.go",
        "package x\n\ntype T struct {\n\tPasswords *[]RegistryPassword `json:\"passwords,omitempty\"`\n\tUserPassword *UserPassword `json:\"userPassword,omitempty\" yaml:\"pw\"`\n}\n",
    ),
    (
        "gen.go",
        "package x\n\n// method id \"youtube.i18nLanguages.list\":\n// of {Microsoft.Azure.SiteRecovery.V2015_11_10.AffectedObjectType} class.\n",
    ),
    (
        "enums.go",
        "package x\n\nconst TokenKey = \"#Microsoft.Media.ContentKeyPolicyX509CertificateTokenKey\"\n",
    ),
    (
        "RECORD",
        "awscli/botocore/data/secretsmanager/2017-10-17/service-2.json,sha256=KUVWGjGEjNxMJwt3-ratwuO3uOoBQ3Jozec7-xlu6GY,131111\n",
    ),
    (
        "options.html",
        "<label for=\"fill_password\" data-i18n=\"contextMenuFillPassword\"></label>\n",
    ),
    (
        "model.py",
        "openapi_types = {\n    'image_pull_secrets': 'list[V1LocalObjectReference]',\n    'secrets': 'dict(str, V1ObjectReference)'\n}\n",
    ),
    (
        "completions-1.json",
        "{\"ClientRequestToken\": \"StackEvents[].ClientRequestToken\"}\n",
    ),
    (
        "autoload_static.php",
        "<?php\nclass ComposerStaticInit_mediawiki_vendor {\n    public static function getInitializer(ClassLoader $loader) {\n        $loader->prefixLengthsPsr4 = ComposerStaticInit_mediawiki_vendor::$prefixLengthsPsr4;\n    }\n}\n",
    ),
    (
        "fields.json",
        "{\"fields\":[{\"name\":\"password\",\"value\":\"Password\"},{\"name\":\"token\",\"value\":\"string\"},{\"key\":\"secret\",\"value\":\"${SECRET}\"},{\"name\":\"Cookie\",\"value\":\"a=b\"}]}",
    ),
    (
        "portal.yml",
        "settings:\n  - key: ui_one_click_login_password\n    value: UGFzc3dvcmQ6\n",
    ),
    (
        "words.csv",
        "token,count\nthe,53\nantidisestablishmentarianism,1\n",
    ),
    ("survey.csv", "name,has_password,passes\njoe,true,12\n"),
    ("empty.csv", "username,password\njoe,\njane,********\n"),
    (
        "cookies.txt",
        "# Netscape HTTP Cookie File\n# https://curl.se/docs/http-cookies.html\n.x.io\tTRUE\t/\tFALSE\t0\tlang\ten\n",
    ),
    (
        "build.gradle",
        "android {\n  buildConfigField \"String\", \"API_KEY\", \"\\\"${apiKey}\\\"\"\n  resValue \"string\", \"token_label\", \"Your token\"\n}\n",
    ),
];

/// What is certain by its form counts in every file.
#[test]
fn a_lock_file_hides_nothing() {
    let text = "[[package]]\nurl = \"https://ci:Tr0mbone-Xk9vQ@pypi.corp.net/simple\"\n";
    assert_eq!(sealed("poetry.lock", text), ["Tr0mbone-Xk9vQ"]);
}

/// A server has the hash of a password that nobody has, so that it takes as long to refuse.
#[test]
fn a_program_with_a_hash_is_stored_as_it_is() {
    let hash = b"$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
    let with = |head: &[u8]| [head, &[0, 1, 2, 0, 255, 0][..], hash, &[0, 3, 0, 0]].concat();
    let treatment = |bytes: &[u8]| examine(b"tool", bytes, &Rules::default()).treatment;
    assert!(matches!(
        treatment(&with(b"\x7fELF\x02\x01\x01\0")),
        Treatment::Clear
    ));
    assert!(matches!(
        treatment(&with(b"\x01DATA\0")),
        Treatment::Whole(_)
    ));
}

#[test]
fn what_only_looks_like_a_secret_stays() {
    for (name, text) in NOTHING {
        let found = sealed(name, text);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}
