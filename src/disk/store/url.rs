//! Where a destination is: `s3://bucket/prefix?region=…` and its like, without any credential.

use std::collections::BTreeMap;
use std::fmt;

use crate::base::error::{Error, Result};

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    File,
    S3,
    Gcs,
    Azblob,
    B2,
    Sftp,
    Webdav,
    Webdavs,
    Gdrive,
    Dropbox,
}

/// What the part between `//` and the next `/` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// Nothing: the whole rest is the path.
    None,
    /// A bucket or container.
    Bucket,
    /// `user@host:port`.
    Host,
}

impl Service {
    pub const ALL: [Self; 10] = [
        Self::File,
        Self::S3,
        Self::Gcs,
        Self::Azblob,
        Self::B2,
        Self::Sftp,
        Self::Webdav,
        Self::Webdavs,
        Self::Gdrive,
        Self::Dropbox,
    ];

    pub const fn scheme(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azblob => "azblob",
            Self::B2 => "b2",
            Self::Sftp => "sftp",
            Self::Webdav => "webdav",
            Self::Webdavs => "webdavs",
            Self::Gdrive => "gdrive",
            Self::Dropbox => "dropbox",
        }
    }

    /// Returns the form of its URLs.
    pub const fn form(self) -> &'static str {
        match self {
            Self::File => "file:///DIR",
            Self::S3 => "s3://BUCKET/PREFIX?region=REGION or ?endpoint=https://HOST",
            Self::Gcs => "gs://BUCKET/PREFIX",
            Self::Azblob => "azblob://CONTAINER/PREFIX?account=ACCOUNT",
            Self::B2 => "b2://BUCKET/PREFIX?bucket-id=ID",
            Self::Sftp => "sftp://USER@HOST/DIR, or sftp://USER@HOST/~/DIR",
            Self::Webdav => "webdav://USER@HOST/DIR",
            Self::Webdavs => "webdavs://USER@HOST/DIR",
            Self::Gdrive => "gdrive://DIR",
            Self::Dropbox => "dropbox://DIR",
        }
    }

    /// Returns the options that its URLs may have.
    pub const fn options(self) -> &'static [&'static str] {
        match self {
            Self::File => &[],
            Self::Webdav | Self::Webdavs | Self::Gdrive | Self::Dropbox => &["ca"],
            Self::S3 => &[
                "region",
                "endpoint",
                "style",
                "profile",
                "storage-class",
                "ca",
            ],
            Self::Gcs => &["endpoint", "storage-class", "ca"],
            Self::Azblob => &["account", "endpoint", "ca"],
            Self::B2 => &["bucket-id", "ca"],
            Self::Sftp => &["identity", "known-hosts"],
        }
    }

    /// Returns the cargo feature that has it, `None` if every build does.
    pub const fn feature(self) -> Option<&'static str> {
        Some(match self {
            Self::File
            | Self::Sftp
            | Self::Webdav
            | Self::Webdavs
            | Self::Gdrive
            | Self::Dropbox => return None,
            Self::S3 => "remote-s3",
            Self::Gcs => "remote-google",
            Self::Azblob => "remote-azure",
            Self::B2 => "remote-b2",
        })
    }

    const fn head(self) -> Head {
        match self {
            Self::File | Self::Gdrive | Self::Dropbox => Head::None,
            Self::S3 | Self::Gcs | Self::Azblob | Self::B2 => Head::Bucket,
            Self::Sftp | Self::Webdav | Self::Webdavs => Head::Host,
        }
    }

    fn of_scheme(scheme: &str) -> Option<Self> {
        Some(match scheme {
            "gcs" => Self::Gcs,
            "azure" | "az" => Self::Azblob,
            _ => return Self::ALL.into_iter().find(|s| s.scheme() == scheme),
        })
    }
}

/// A parsed URL. It holds nothing secret, so it can be shown and kept in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub service: Service,
    pub user: Option<String>,
    /// Name or address, of services that have one.
    pub host: Option<String>,
    pub port: Option<u16>,
    /// Bucket or container; empty where the service has none.
    pub bucket: String,
    /// The path below, without `/` at its end; empty for the top. Of `file` and `sftp` it is
    /// absolute, or begins with `~/`; of others it does not begin with `/`.
    pub root: String,
    /// Only what [`Service::options`] names.
    pub options: BTreeMap<String, String>,
}

fn invalid(message: impl Into<String>, hint: impl AsRef<str>) -> Error {
    Error::invalid(message, Some(hint.as_ref()))
}

/// Bytes that stand for themselves in the path of a URL.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/!$'()*,;:@=+".contains(&byte)
}

pub(super) fn encode(text: &str) -> String {
    use fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        match is_plain(byte) {
            true => out.push(char::from(byte)),
            false => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

pub(super) fn decode(text: &str) -> Result<String> {
    let wrong = || {
        invalid(
            "the URL has a `%` that stands for nothing",
            "write a percent sign as %25",
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let pair = [rest.next(), rest.next()].map(|b| b.map_or(0xff, |b| b));
        let digits = std::str::from_utf8(&pair).map_err(|_| wrong())?;
        let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        let value = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        if !is_hex {
            return Err(wrong());
        }
        bytes.push(value);
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| invalid("the URL is no UTF-8", "percent-encode the bytes of UTF-8"))?;
    uncontrolled(&text)?;
    Ok(text)
}

fn uncontrolled(text: &str) -> Result<()> {
    match text.chars().any(char::is_control) {
        true => Err(invalid(
            "the URL has a control character",
            "leave it out of the name",
        )),
        false => Ok(()),
    }
}

/// Words in the name of an option that say that its value is a credential.
const SECRET_WORDS: [&str; 9] = [
    "secret",
    "password",
    "pass",
    "token",
    "credential",
    "access-key",
    "account-key",
    "sas",
    "application-key",
];

fn secret_in_url(what: &str) -> Error {
    invalid(
        format!("{what} does not belong into a URL: it would be in files, logs and lists"),
        "leave it out; set it as BDR_REMOTE_<NAME>_…, or let `bdr remote add` ask for it",
    )
}

impl Location {
    /// Reads a URL. An absolute path is a directory; the notations of restic are understood.
    ///
    /// # Errors
    /// It names no service that is known, has a part that makes no sense, or holds a credential.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        uncontrolled(text)?;
        if let Some(directory) = as_directory(text) {
            return Self::of_directory(&directory);
        }
        if let Some(url) = from_restic(text) {
            return Self::parse(&url);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(invalid(
                "that is no URL of a destination",
                "e.g. s3://bucket/laptop?region=eu-central-1, sftp://me@nas/backups, \
                 file:///mnt/disk: bdr remote services",
            ));
        };
        let Some(service) = Service::of_scheme(&scheme.to_ascii_lowercase()) else {
            let hint = match scheme.to_ascii_lowercase().as_str() {
                "http" => "for WebDAV: webdav://…; for S3: s3://BUCKET?endpoint=http://…",
                "https" => "for WebDAV: webdavs://…; for S3: s3://BUCKET?endpoint=https://…",
                "ssh" | "scp" => "write sftp://USER@HOST/DIR",
                _ => "bdr remote services",
            };
            let scheme: String = scheme.chars().take(20).collect();
            return Err(invalid(format!("bdr knows no `{scheme}://`"), hint));
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains('#') || query.contains('#') {
            let message = "a URL of a destination has no part after `#`";
            return Err(invalid(message, "write a `#` in a name as %23"));
        }
        let options = options(service, query)?;
        let (head, path) = match service.head() {
            Head::None => ("", rest),
            _ => rest.split_once('/').unwrap_or((rest, "")),
        };
        let mut location = Self {
            service,
            user: None,
            host: None,
            port: None,
            bucket: String::new(),
            root: root(service, &decode(path)?)?,
            options,
        };
        match service.head() {
            Head::None => {}
            Head::Bucket => location.bucket = bucket(service, head)?,
            Head::Host => location.read_host(head)?,
        }
        Ok(location)
    }

    fn of_directory(directory: &str) -> Result<Self> {
        Ok(Self {
            service: Service::File,
            user: None,
            host: None,
            port: None,
            bucket: String::new(),
            root: root(Service::File, directory)?,
            options: BTreeMap::new(),
        })
    }

    fn read_host(&mut self, head: &str) -> Result<()> {
        let (user, address) = match head.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, head),
        };
        if let Some(user) = user {
            if user.contains(':') {
                return Err(secret_in_url("a password"));
            }
            self.user = Some(decode(user)?).filter(|user| !user.is_empty());
        }
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (address, None),
        };
        let allowed =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        if host.is_empty() || host.starts_with('-') || !host.chars().all(allowed) {
            return Err(invalid("the URL names no host", self.service.form()));
        }
        self.host = Some(host.to_ascii_lowercase());
        self.port = match port {
            None | Some("") => None,
            Some(port) => Some(port.parse().map_err(|_| {
                let message = "the part after `:` of the host is no port";
                invalid(message, "a password does not belong into a URL either")
            })?),
        };
        Ok(())
    }

    /// Returns the directory of a `file` URL as the system writes it.
    pub fn directory(&self) -> Option<std::path::PathBuf> {
        (self.service == Service::File).then(|| {
            let path = &self.root;
            let is_drive = path.as_bytes().get(2) == Some(&b':') && path.starts_with('/');
            match cfg!(windows) && is_drive {
                true => path[1..].into(),
                false => path.into(),
            }
        })
    }

    /// Returns an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.service.scheme())?;
        if let Some(user) = &self.user {
            write!(f, "{}@", encode(user).replace('@', "%40"))?;
        }
        f.write_str(self.host.as_deref().unwrap_or_default())?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.bucket)?;
        let slash = match self.service.head() {
            Head::None => "",
            _ if self.root.is_empty() || self.root.starts_with('/') => "",
            _ => "/",
        };
        write!(f, "{slash}{}", encode(&self.root))?;
        for (at, (name, value)) in self.options.iter().enumerate() {
            let mark = if at == 0 { '?' } else { '&' };
            write!(f, "{mark}{name}={}", encode(value))?;
        }
        Ok(())
    }
}

/// Returns the directory if the text is the path of one, with `/` between its parts.
fn as_directory(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    // Elsewhere such a directory would be made at the top of the file system.
    let is_drive = cfg!(windows)
        && bytes.len() > 2
        && bytes[0].is_ascii_alphabetic()
        && bytes[1] == b':'
        && matches!(bytes[2], b'/' | b'\\')
        && !bytes[2..].starts_with(b"//");
    if is_drive {
        return Some(format!("/{}", text.replace('\\', "/")));
    }
    text.starts_with('/').then(|| text.to_owned())
}

/// Returns the URL for what restic would have been given: `s3:https://host/bucket/path`,
/// `sftp:user@host:/path`, `b2:bucket:path`.
fn from_restic(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    if rest.starts_with("//") {
        return None;
    }
    match scheme {
        "s3" => {
            let (tls, rest) = match rest.split_once("://") {
                Some((tls, rest)) => (tls, rest),
                None => ("https", rest),
            };
            let (host, path) = rest.split_once('/')?;
            Some(match host == "s3.amazonaws.com" {
                true => format!("s3://{path}"),
                false => format!("s3://{path}?endpoint={tls}://{host}"),
            })
        }
        "sftp" => {
            let (host, path) = rest.split_once(':')?;
            let home = if path.starts_with('/') { "" } else { "/~/" };
            Some(format!("sftp://{host}{home}{path}"))
        }
        "gs" | "b2" | "azure" => {
            let (bucket, path) = rest.split_once(':').unwrap_or((rest, ""));
            Some(format!(
                "{scheme}://{bucket}/{}",
                path.trim_start_matches('/')
            ))
        }
        _ => None,
    }
}

fn options(service: Service, query: &str) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = decode(name)?.to_ascii_lowercase().replace('_', "-");
        let value = decode(value)?;
        let allowed = service.options();
        if !allowed.contains(&name.as_str()) {
            let is_secret = SECRET_WORDS.iter().any(|word| name.contains(word));
            if is_secret {
                return Err(secret_in_url(&format!("`{name}`")));
            }
            let hint = match allowed.is_empty() {
                true => format!("{} has no options", service.form()),
                false => format!("it may be one of: {}", allowed.join(", ")),
            };
            let scheme = service.scheme();
            return Err(invalid(
                format!("`{scheme}://` has no option `{name}`"),
                hint,
            ));
        }
        check_option(&name, &value)?;
        options.insert(name, value);
    }
    Ok(options)
}

fn check_option(name: &str, value: &str) -> Result<()> {
    let one_of = |allowed: &[&str]| match allowed.contains(&value) {
        true => Ok(()),
        false => Err(invalid(
            format!("`{name}` cannot be `{value}`"),
            format!("it may be one of: {}", allowed.join(", ")),
        )),
    };
    match name {
        "endpoint" => {
            let rest = value.split_once("://").filter(|(scheme, _)| {
                let scheme = scheme.to_ascii_lowercase();
                scheme == "http" || scheme == "https"
            });
            match rest {
                Some((_, host)) if host.contains('@') => {
                    Err(secret_in_url("the user or password of an endpoint"))
                }
                Some((_, host)) if !host.trim_end_matches('/').is_empty() => Ok(()),
                _ => Err(invalid(
                    "the endpoint is no address",
                    "e.g. endpoint=https://s3.eu-central-003.backblazeb2.com",
                )),
            }
        }
        "style" => one_of(&["path", "virtual"]),
        // A file is checked when it is used: it may be on another machine yet.
        "known-hosts" if !value.starts_with('/') => one_of(&["strict", "add"]),
        _ if value.is_empty() => Err(invalid(
            format!("the option `{name}` is empty"),
            "give it a value, or leave it out",
        )),
        _ => Ok(()),
    }
}

fn bucket(service: Service, head: &str) -> Result<String> {
    let name = decode(head)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if head.contains('@') {
        return Err(secret_in_url("a key"));
    }
    match name.is_empty() || !name.chars().all(allowed) {
        true => Err(invalid(
            format!("`{}` is no name of a bucket", name.replace('`', "'")),
            service.form(),
        )),
        false => Ok(name),
    }
}

/// Checks the path, and brings it into its one form.
fn root(service: Service, path: &str) -> Result<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let message = "the path of a destination has a `..`";
                return Err(invalid(message, "write the path that it leads to"));
            }
            part => parts.push(part),
        }
    }
    let path_text = parts.join("/");
    Ok(match service {
        Service::File => match path.strip_prefix("localhost/").unwrap_or(path) {
            rest if !path.starts_with('/') && rest.len() == path.len() => {
                return Err(invalid(
                    "a `file://` URL names a directory from the top",
                    "e.g. file:///mnt/disk/bdr, with three slashes",
                ));
            }
            _ if path_text.is_empty() => {
                let message = "the top of the file system is no destination";
                return Err(invalid(message, "name a directory: file:///mnt/disk/bdr"));
            }
            rest if rest.len() < path.len() => {
                return root(service, &format!("/{rest}"));
            }
            _ => format!("/{path_text}"),
        },
        Service::Sftp if parts.first() == Some(&"~") => match parts.len() {
            1 => "~".to_owned(),
            _ => path_text,
        },
        Service::Sftp => format!("/{path_text}"),
        _ => path_text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_a_destination_is_and_are_shown_as_they_were_given() {
        for (url, shown) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            (
                "S3://my.bucket/a//b/?region=eu-west-1",
                "s3://my.bucket/a/b?region=eu-west-1",
            ),
            (
                "s3://b/p?endpoint=http%3A%2F%2F127.0.0.1:9000&style=path",
                "s3://b/p?endpoint=http://127.0.0.1:9000&style=path",
            ),
            (
                "s3://b?storage_class=GLACIER",
                "s3://b?storage-class=GLACIER",
            ),
            ("gcs://b/x", "gs://b/x"),
            ("azure://c/x?account=me", "azblob://c/x?account=me"),
            ("b2://b/x?bucket_id=4a", "b2://b/x?bucket-id=4a"),
            ("sftp://me@nas", "sftp://me@nas/"),
            ("sftp://me@NAS:2222/srv/b", "sftp://me@nas:2222/srv/b"),
            ("sftp://nas/~/backups", "sftp://nas/~/backups"),
            ("sftp://nas//srv", "sftp://nas/srv"),
            ("sftp://u%40d@nas/x", "sftp://u%40d@nas/x"),
            ("webdav://h:8080/dav/x", "webdav://h:8080/dav/x"),
            ("webdavs://me@[::1]:8443/x", "webdavs://me@[::1]:8443/x"),
            ("gdrive://backups/bdr", "gdrive://backups/bdr"),
            ("gdrive:///backups", "gdrive://backups"),
            ("dropbox://", "dropbox://"),
            ("file:///mnt/a%20b/", "file:///mnt/a%20b"),
            ("file://localhost/mnt", "file:///mnt"),
            ("/mnt/ä", "file:///mnt/%C3%A4"),
            ("s3:s3.amazonaws.com/b/p", "s3://b/p"),
            (
                "s3:http://localhost:9000/b/p",
                "s3://b/p?endpoint=http://localhost:9000",
            ),
            ("sftp:me@nas:/srv/b", "sftp://me@nas/srv/b"),
            ("sftp:nas:b", "sftp://nas/~/b"),
            ("b2:bucket:path", "b2://bucket/path"),
        ] {
            let location = Location::parse(url).unwrap_or_else(|e| panic!("{url}: {e}"));
            assert_eq!(location.to_string(), shown, "{url}");
            let again = Location::parse(shown).unwrap();
            assert_eq!(again, location, "{shown}");
        }
    }

    #[cfg(windows)]
    #[test]
    fn a_drive_is_a_directory() {
        let location = Location::parse("D:\\backups\\x").unwrap();
        assert_eq!(location.to_string(), "file:///D:/backups/x");
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_never_repeated() {
        for url in [
            "sftp://me:hunter2@nas/x",
            "webdavs://me:hunter2@host/x",
            "s3://b?access_key_id=hunter2",
            "s3://b?secret_access_key=hunter2",
            "s3://hunter2:hunter2@b/x",
            "azblob://c?sas_token=hunter2",
            "azblob://c?account-key=hunter2",
            "gs://b?credential=hunter2",
            "s3://b?endpoint=https://me:hunter2@host",
            "dropbox://x?access_token=hunter2",
        ] {
            let error = Location::parse(url).unwrap_err();
            let text = format!("{error} {:?}", error.hint());
            assert!(!text.contains("hunter2"), "{url}: {text}");
            assert!(text.contains("BDR_REMOTE_"), "{url}: {text}");
        }
    }

    #[test]
    fn what_names_no_place_is_refused_with_the_right_form() {
        for (url, word) in [
            ("backups", "bdr remote services"),
            ("", "bdr remote services"),
            ("https://host/x", "webdavs://"),
            ("ssh://host/x", "sftp://"),
            ("ftp://host", "bdr remote services"),
            ("x://host", "bdr remote services"),
            #[cfg(unix)]
            ("D:\\backups\\x", "bdr remote services"),
            #[cfg(unix)]
            ("D:/backups/x", "bdr remote services"),
            ("s3://", "BUCKET"),
            ("s3://b/../x", "leads to"),
            ("s3://b?colour=red", "region"),
            ("s3://b?region=", "leave it out"),
            ("s3://b?style=green", "virtual"),
            ("s3://b?endpoint=host", "https://"),
            ("s3://b#x", "%23"),
            ("s3://b/%zz", "%25"),
            ("s3://b/%", "%25"),
            ("s3://b/%+5", "%25"),
            ("s3://b/%00", "leave it out"),
            ("sftp://", "USER@HOST"),
            ("sftp://-oProxyCommand=x/y", "USER@HOST"),
            ("sftp://nas:port/x", "password"),
            ("file://mnt/x", "three slashes"),
            ("file:///", "name a directory"),
        ] {
            let error = Location::parse(url).unwrap_err();
            let text = format!("{error} {:?}", error.hint());
            assert!(text.contains(word), "{url}: {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_any_text_ends_and_what_is_shown_is_read_again(text in ".{0,60}") {
            for text in [text.clone(), format!("s3://{text}"), format!("sftp://h/{text}"), format!("file:///{text}")] {
                if let Ok(location) = Location::parse(&text) {
                    let shown = location.to_string();
                    proptest::prop_assert_eq!(Location::parse(&shown).unwrap(), location, "{}", shown);
                }
            }
        }
    }
}
