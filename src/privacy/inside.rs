//! Examines the inside of archives, compressed files and documents, and archives within them, within
//! bounds.
//!
//! A damaged or unknown part counts as far as it can be read. Nothing is trusted: sizes that a file
//! claims are not allocated, and a bomb ends at [`TOTAL`].

use std::io::Read;

use super::{Finding, class, secrets, structure};

/// Limit of unpacked bytes per file.
const TOTAL: usize = 16 << 20;
/// Limit of examined bytes per member.
const MEMBER: usize = 4 << 20;
const MEMBERS: usize = 2000;
const DEEPEST: usize = 2;
/// Memory limit for an `.xz`, in KiB.
const XZ_MEMORY: u32 = 32 << 10;
/// Limit of a name in an archive, in bytes.
const NAME: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Zip,
    Gzip,
    Zlib,
    Bzip2,
    Xz,
    Tar,
    Pdf,
}

fn kind_of(bytes: &[u8]) -> Option<Kind> {
    let is_tar = |bytes: &[u8]| bytes.get(257..262) == Some(b"ustar");
    match bytes {
        [b'P', b'K', 3, 4, ..] => Some(Kind::Zip),
        [0x1f, 0x8b, ..] => Some(Kind::Gzip),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Some(Kind::Bzip2),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Kind::Xz),
        [b'%', b'P', b'D', b'F', b'-', ..] => Some(Kind::Pdf),
        _ if is_tar(bytes) => Some(Kind::Tar),
        _ if class::is_zlib(bytes) => Some(Kind::Zlib),
        _ => None,
    }
}

/// Returns true for a file that is more than text, because it contains something else.
pub(super) fn is_wrapped(bytes: &[u8]) -> bool {
    kind_of(bytes).is_some()
}

/// Reads at most `most` bytes, and stops at an error.
fn taken(reader: impl Read, most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = reader.take(most as u64).read_to_end(&mut out);
    out
}

struct Search<'a> {
    found: &'a mut Vec<Finding>,
    /// Bytes that may still be unpacked.
    left: usize,
    members: usize,
    /// How many archives it is in; not more than [`DEEPEST`].
    depth: usize,
}

/// Finds secrets inside a file called `name`. Ranges cover the whole file, because nothing can be
/// cut out of it.
pub(super) fn secrets_in(name: &[u8], bytes: &[u8], found: &mut Vec<Finding>) {
    let mut inner = Vec::new();
    let mut search = Search {
        found: &mut inner,
        left: TOTAL,
        members: MEMBERS,
        depth: 0,
    };
    search.open(name, bytes);
    found.extend(inner.into_iter().map(|finding| Finding {
        range: 0..bytes.len(),
        ..finding
    }));
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        self.left == 0 || self.members == 0 || !self.found.is_empty()
    }

    /// Looks into something that contains something else; `name` is its own.
    fn open(&mut self, name: &[u8], bytes: &[u8]) {
        let Some(kind) = kind_of(bytes).filter(|_| self.depth < DEEPEST) else {
            return;
        };
        self.depth += 1;
        match kind {
            Kind::Zip => self.zip(bytes),
            Kind::Tar => self.tar(bytes),
            Kind::Pdf => self.pdf(bytes),
            Kind::Gzip => self.single(name, flate2::read::MultiGzDecoder::new(bytes)),
            Kind::Zlib => self.single(name, flate2::read::ZlibDecoder::new(bytes)),
            Kind::Bzip2 => self.single(name, bzip2_rs::DecoderReader::new(bytes)),
            Kind::Xz => {
                let reader = lzma_rust2::XzReader::new_mem_limit(bytes, true, XZ_MEMORY);
                self.single(name, reader);
            }
        }
        self.depth -= 1;
    }

    /// A single compressed file: its name is that of the whole without the last suffix.
    fn single(&mut self, name: &[u8], reader: impl Read) {
        let content = taken(reader, self.left);
        if kind_of(&content) == Some(Kind::Tar) {
            return self.tar(&content);
        }
        let dot = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0);
        self.member(&name[..dot.unwrap_or(name.len())], &content);
    }

    fn member(&mut self, name: &[u8], content: &[u8]) {
        self.members = self.members.saturating_sub(1);
        self.left = self.left.saturating_sub(content.len());
        if content.is_empty() {
            return;
        }
        if class::is_container(name) {
            self.found.push(Finding {
                range: 0..1,
                group: super::Group::Secret,
                kind: "secret-container",
            });
            return;
        }
        let binary = memchr::memchr(0, content).is_some();
        secrets::scan_certain(content, binary, self.found);
        self.open(name, content);
        let base = name.rsplit(|b| *b == b'/').next().unwrap_or_default();
        // Settings are examined as outside an archive, but only values that look made up count, and
        // elsewhere only what is certain: an archive is kept or left out as a whole.
        let Some(format) = structure::format_of(base).filter(|_| !binary) else {
            return;
        };
        let mut found = Vec::new();
        secrets::scan(
            content,
            super::style_of(base, super::Profile::Off),
            &mut found,
        );
        structure::secrets(base, content, &mut found);
        found.retain(|finding| {
            let value = &content[finding.range.clone()];
            format == structure::Format::Env || structure::looks_made(value)
        });
        self.found.extend(found);
    }

    /// Follows the headers of the members in the order in which they lie: the directory at the end
    /// may say something else, or be cut off.
    fn zip(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(next) = memchr::memmem::find(&bytes[at..], b"PK\x03\x04") {
            if self.is_over() {
                return;
            }
            at += next;
            let Some(header) = bytes.get(at..at + 30) else {
                return;
            };
            let short =
                |from: usize| usize::from(u16::from_le_bytes([header[from], header[from + 1]]));
            let (method, name_length) = (short(8), short(26));
            let packed = u32::from_le_bytes([header[18], header[19], header[20], header[21]]);
            let name_start = at + 30;
            let start = name_start + name_length + short(28);
            at += 4;
            let Some(name) = bytes.get(name_start..name_start + name_length.min(NAME)) else {
                continue;
            };
            let Some(data) = bytes.get(start..) else {
                continue;
            };
            let most = self.left.min(MEMBER);
            let content = match method {
                0 => {
                    let known = usize::try_from(packed).unwrap_or(0);
                    data[..known.min(data.len()).min(most)].to_vec()
                }
                8 => {
                    let mut decoder = flate2::read::DeflateDecoder::new(data);
                    let content = taken(&mut decoder, most);
                    let used = usize::try_from(decoder.total_in()).unwrap_or(0);
                    at = start + used.min(data.len());
                    content
                }
                _ => continue,
            };
            self.member(name, &content);
        }
    }

    fn tar(&mut self, bytes: &[u8]) {
        let mut archive = tar::Archive::new(bytes);
        let Ok(entries) = archive.entries() else {
            return;
        };
        for entry in entries {
            let Ok(entry) = entry else { return };
            if self.is_over() {
                return;
            }
            let name = entry.path_bytes().into_owned();
            let content = taken(entry, self.left.min(MEMBER));
            self.member(&name, &content);
        }
    }

    fn pdf(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(next) = memchr::memmem::find(&bytes[at..], b"stream") {
            if self.is_over() {
                return;
            }
            at += next + b"stream".len();
            let data = &bytes[at..];
            let data = data.strip_prefix(b"\r").unwrap_or(data);
            let data = data.strip_prefix(b"\n").unwrap_or(data);
            if !class::is_zlib_head(data) {
                continue;
            }
            let content = taken(flate2::read::ZlibDecoder::new(data), self.left.min(MEMBER));
            self.member(b"", &content);
        }
    }
}
