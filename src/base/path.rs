//! Paths as bytes: the place of an entry below its root, and how names are shown and escaped.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path below a root: components joined by `/`, none empty, `.` or `..`; the root itself is
/// empty.
///
/// Bytes, not text: on Unix any name, on Windows the UTF-8 of the name (lone surrogates are
/// replaced). Sorted with `/` below every other byte, so a directory comes right before its
/// content.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks bytes and makes them a path.
    ///
    /// # Errors
    /// Says which rule the path breaks.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, &'static str> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Ok(Self(bytes));
        }
        if bytes.contains(&0) {
            return Err("it contains a NUL byte");
        }
        if bytes.len() > 64 * 1024 {
            return Err("it is longer than 64 KiB");
        }
        for component in bytes.split(|b| *b == b'/') {
            match component {
                b"" => return Err("it has an empty component"),
                b"." | b".." => return Err("it has a `.` or `..` component"),
                _ => {}
            }
        }
        Ok(Self(bytes))
    }

    /// Returns the path of `name` below this one. `name` must be a single component.
    pub fn join(&self, name: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the directory around this, or `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// Returns the last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// Returns the components from the top.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// Returns true if this is `other` or below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        other.0.is_empty()
            || (self.0.starts_with(&other.0)
                && (self.0.len() == other.0.len() || self.0[other.0.len()] == b'/'))
    }

    /// Returns the path on this system.
    pub fn to_path(&self, root: &Path) -> PathBuf {
        if self.0.is_empty() {
            root.to_path_buf()
        } else {
            root.join(os_from_bytes(&self.0))
        }
    }

    /// Returns `path` relative to `root`, or `None` if it is not below it or has `..` components.
    pub fn below(root: &Path, path: &Path) -> Option<Self> {
        let rest = path.strip_prefix(root).ok()?;
        let mut result = Self::root();
        for component in rest.components() {
            match component {
                std::path::Component::Normal(name) => result = result.join(&os_to_bytes(name)),
                std::path::Component::CurDir => {}
                _ => return None,
            }
        }
        Some(result)
    }
}

impl Ord for RepoPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for RepoPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two paths with `/` below every other byte.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    match (a.get(common), b.get(common)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(b'/'), Some(_)) => Ordering::Less,
        (Some(_), Some(b'/')) => Ordering::Greater,
        (Some(x), Some(y)) => x.cmp(y),
    }
}

impl std::fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", show_bytes(&self.0))
    }
}

/// Escaped, so that no name can move the cursor or forge a line.
impl std::fmt::Display for RepoPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&show_bytes(&self.0))
    }
}

/// Text if it is valid UTF-8, otherwise `{"hex": "…"}`: an element of a list of names in a record.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Name<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Hex { hex: String },
}

/// Writes bytes as a JSON string, or as `{"hex": …}` if they are not UTF-8.
pub fn serialize_name<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => Name::Hex {
            hex: hex::encode(bytes),
        }
        .serialize(serializer),
    }
}

/// Reads what [`serialize_name`] wrote.
pub fn deserialize_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    match Name::deserialize(deserializer)? {
        Name::Text(text) => Ok(text.into_owned().into_bytes()),
        Name::Hex { hex } => hex::decode(hex).map_err(serde::de::Error::custom),
    }
}

impl Serialize for RepoPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_name(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for RepoPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(deserialize_name(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Returns a word in a form that a shell reads back and that is safe to print and copy: the only
/// way to name things in suggestions.
///
/// Characters that a terminal would act on, or not show, are written as `$'\\ooo'`, which bash,
/// zsh, ksh and POSIX of 2024 understand.
pub fn shell_word(word: &str) -> String {
    shell_bytes(word.as_bytes())
}

/// [`shell_word`] of a path.
pub fn shell_path(path: &Path) -> String {
    shell_bytes(&os_to_bytes(path.as_os_str()))
}

fn shell_bytes(word: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(b);
    if !word.is_empty() && word.iter().all(plain) {
        return String::from_utf8_lossy(word).into_owned();
    }
    let text = std::str::from_utf8(word).ok();
    if let Some(text) = text.filter(|text| show_bytes(word) == **text) {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut out = String::from("$'");
    for byte in word {
        match byte {
            b'\'' | b'\\' => out.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\{byte:03o}")),
        }
    }
    out.push('\'');
    out
}

/// Reads a text for people, escaped so that it cannot affect a terminal, whoever wrote the record.
pub fn deserialize_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(show_bytes(text.as_bytes()))
}

/// A system name or argument, stored byte for byte in records.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct RawName(pub OsString);

impl RawName {
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl From<&Path> for RawName {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().to_owned())
    }
}

impl From<&OsStr> for RawName {
    fn from(name: &OsStr) -> Self {
        Self(name.to_owned())
    }
}

impl std::fmt::Display for RawName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&show(&self.0))
    }
}

impl Serialize for RawName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_name(&os_to_bytes(&self.0), serializer)
    }
}

impl<'de> Deserialize<'de> for RawName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(os_from_bytes(&deserialize_name(deserializer)?)))
    }
}

/// The name of a root in a record: it becomes one component of a path when something is laid out,
/// and a word in every list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RootName(String);

impl RootName {
    /// Checks a name: one component, of visible characters.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self, &'static str> {
        let name = name.into();
        if name.is_empty() || name == "." || name == ".." {
            return Err("the name of a root is `.` or `..`");
        }
        if name.len() > 255 {
            return Err("the name of a root is longer than 255 bytes");
        }
        if name.contains(['/', '\\']) {
            return Err("the name of a root is more than one component");
        }
        // A Windows drive, or a stream of a file there.
        if name.contains(':') {
            return Err("the name of a root has a colon");
        }
        if show_bytes(name.as_bytes()) != name {
            return Err("the name of a root has characters that cannot be shown");
        }
        Ok(Self(name))
    }

    /// Makes a valid name of any text by replacing characters.
    pub fn tame(text: &str) -> Self {
        let part = |c: char| match Self::new(c) {
            Ok(name) => name.0,
            Err(_) if c == '.' => ".".to_owned(),
            Err(_) => "_".to_owned(),
        };
        let mut name: String = text.chars().map(part).collect();
        while name.len() > 255 {
            name.pop();
        }
        Self::new(name).unwrap_or_else(|_| Self("_".to_owned()))
    }
}

impl RootName {
    /// Returns another name, for a second root of this name.
    #[must_use]
    pub fn again(&self) -> Self {
        Self(format!("{}+", &self.0))
    }
}

impl Default for RootName {
    fn default() -> Self {
        Self("_".to_owned())
    }
}

impl std::ops::Deref for RootName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for RootName {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl std::borrow::Borrow<str> for RootName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RootName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RootName> for String {
    fn from(name: RootName) -> Self {
        name.0
    }
}

impl PartialEq<str> for RootName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for RootName {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<String> for RootName {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

impl PartialEq<RootName> for String {
    fn eq(&self, other: &RootName) -> bool {
        *self == other.0
    }
}

impl<'de> Deserialize<'de> for RootName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A path in a record: absolute on the system that wrote it, without a way up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct AbsolutePath(RawName);

impl AbsolutePath {
    /// Checks a path, but not what it leads to.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(path: impl Into<RawName>) -> Result<Self, &'static str> {
        let path: RawName = path.into();
        let bytes = os_to_bytes(&path.0);
        if bytes.contains(&0) {
            return Err("a path contains a NUL byte");
        }
        if bytes.len() > 64 * 1024 {
            return Err("a path is longer than 64 KiB");
        }
        // A drive or a share, if it was written on Windows.
        let is_drive = bytes.len() >= 3
            && bytes[0].is_ascii_alphabetic()
            && bytes[1] == b':'
            && matches!(bytes[2], b'/' | b'\\');
        let is_share = bytes.starts_with(b"\\\\");
        if !(bytes.starts_with(b"/") || is_drive || is_share) {
            return Err("a path is not absolute");
        }
        let separator = |byte: &u8| *byte == b'/' || (is_drive || is_share) && *byte == b'\\';
        if bytes.split(separator).any(|part| part == b"..") {
            return Err("a path has a `..` component");
        }
        drop(bytes);
        Ok(Self(path))
    }
}

impl std::ops::Deref for AbsolutePath {
    type Target = RawName;

    fn deref(&self) -> &RawName {
        &self.0
    }
}

impl std::fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl From<AbsolutePath> for RawName {
    fn from(path: AbsolutePath) -> Self {
        path.0
    }
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(RawName::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

pub fn os_to_bytes(name: &OsStr) -> Cow<'_, [u8]> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        Cow::Borrowed(name.as_bytes())
    }
    #[cfg(not(unix))]
    {
        Cow::Owned(name.to_string_lossy().replace('\\', "/").into_bytes())
    }
}

pub fn os_from_bytes(bytes: &[u8]) -> OsString {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        OsStr::from_bytes(bytes).to_owned()
    }
    #[cfg(not(unix))]
    {
        OsString::from(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Returns a name for people: control, direction and invisible characters escaped.
pub fn show(name: &OsStr) -> String {
    show_bytes(&os_to_bytes(name))
}

/// Returns bytes for people; see [`show`].
pub fn show_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let hidden = c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                c if hidden => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Returns a path escaped for the name of a tar entry, so that any `tar` on any system can create it.
///
/// See `docs/format.md` §4: the manifest has the true bytes.
pub fn tar_name(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for (i, component) in bytes.split(|b| *b == b'/').enumerate() {
        if i > 0 {
            out.push('/');
        }
        let device = is_windows_device(component);
        for (j, byte) in component.iter().enumerate() {
            let last = j + 1 == component.len();
            let escaped = !matches!(byte, 0x20..=0x7e)
                || b"%\\:*?\"<>|".contains(byte)
                || (last && matches!(byte, b'.' | b' '))
                || (j == 0 && device);
            if escaped {
                out.push_str(&format!("%{byte:02X}"));
            } else {
                out.push(char::from(*byte));
            }
        }
    }
    out
}

fn is_windows_device(component: &[u8]) -> bool {
    let stem = component.split(|b| *b == b'.').next().unwrap_or_default();
    let stem = String::from_utf8_lossy(stem)
        .trim_end()
        .to_ascii_uppercase();
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (stem.len() == 4
            && (stem.starts_with("COM") || stem.starts_with("LPT"))
            && stem.ends_with(|c: char| c.is_ascii_digit()))
}

/// Makes `path` absolute and free of `.` and `..`, by text alone: no symlink is followed.
pub fn absolute(cwd: &Path, path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in cwd.join(path).components() {
        match component {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                result.pop();
            }
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_sorts_right_before_what_it_holds() {
        let mut paths: Vec<RepoPath> = ["a-b", "a/b", "a", "a.b", "b", ""]
            .iter()
            .map(|p| RepoPath::new(p.as_bytes()).unwrap())
            .collect();
        paths.sort();
        let text: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["", "a", "a/b", "a-b", "a.b", "b"]);
    }

    #[test]
    fn paths_that_could_leave_the_root_are_refused() {
        for bad in ["/etc", "a//b", "../x", "a/../b", "a/.", ".", "a/", "a\0b"] {
            assert!(RepoPath::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tar_names_are_plain_everywhere() {
        for (name, expected) in [
            ("a b/c.txt", "a b/c.txt"),
            ("con/nul.txt/a", "%63on/%6Eul.txt/a"),
            ("x./y ", "x%2E/y%20"),
            ("50%\n", "50%25%0A"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(tar_name(name.as_bytes()), expected);
        }
    }

    #[test]
    fn shown_names_cannot_forge_a_line() {
        assert_eq!(show_bytes(b"a\nb\x1b[2J\xff"), "a\\nb\\u{1b}[2J\\xff");
        assert_eq!(show_bytes("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }

    #[test]
    fn json_keeps_bytes() {
        for bytes in [&b"plain"[..], b"\xff\xfe/x"] {
            let path = RepoPath::new(bytes).unwrap();
            let text = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<RepoPath>(&text).unwrap(), path);
        }
    }
}
