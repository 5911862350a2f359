//! The packets of SFTP, version 3: what OpenSSH and everybody else speaks.

use std::io::{self, Read};

/// The longest packet that a server may send: a listing of a hundred long names is far shorter.
const MAX_BYTES: u32 = 1 << 20;

pub(super) const INIT: u8 = 1;
pub(super) const VERSION: u8 = 2;
pub(super) const OPEN: u8 = 3;
pub(super) const CLOSE: u8 = 4;
pub(super) const READ: u8 = 5;
pub(super) const WRITE: u8 = 6;
pub(super) const LSTAT: u8 = 7;
pub(super) const OPENDIR: u8 = 11;
pub(super) const READDIR: u8 = 12;
pub(super) const REMOVE: u8 = 13;
pub(super) const MKDIR: u8 = 14;
pub(super) const STAT: u8 = 17;
pub(super) const RENAME: u8 = 18;
pub(super) const STATUS: u8 = 101;
pub(super) const HANDLE: u8 = 102;
pub(super) const DATA: u8 = 103;
pub(super) const NAME: u8 = 104;
pub(super) const ATTRS: u8 = 105;
pub(super) const EXTENDED: u8 = 200;

/// Writes one packet.
pub(super) struct Out(Vec<u8>);

impl Out {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn text(self, text: &[u8]) -> Self {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let mut out = self.u32(length);
        out.0.extend_from_slice(text);
        out
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// A packet of the server's, read from its front.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) kind: u8,
    rest: Vec<u8>,
    at: usize,
}

/// Something that no such server sends.
#[derive(Debug)]
pub(super) struct Malformed;

type Parsed<T> = Result<T, Malformed>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) bytes: u64,
    pub(super) is_dir: bool,
    pub(super) is_file: bool,
}

impl Packet {
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length == 0 || length > MAX_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut content = vec![0; length as usize];
        from.read_exact(&mut content)?;
        Ok(Self::of(content))
    }

    pub(super) fn of(content: Vec<u8>) -> Self {
        Self {
            kind: content.first().copied().unwrap_or_default(),
            rest: content,
            at: 1,
        }
    }

    fn take(&mut self, length: usize) -> Parsed<&[u8]> {
        let end = self.at.checked_add(length).ok_or(Malformed)?;
        let part = self.rest.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(part)
    }

    pub(super) fn u32(&mut self) -> Parsed<u32> {
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn u64(&mut self) -> Parsed<u64> {
        let bytes = self.take(8)?.try_into().map_err(|_| Malformed)?;
        Ok(u64::from_be_bytes(bytes))
    }

    pub(super) fn text(&mut self) -> Parsed<&[u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.rest.len()
    }

    pub(super) fn attributes(&mut self) -> Parsed<Attributes> {
        let flags = self.u32()?;
        let has = |flag: u32| flags & flag != 0;
        let bytes = if has(1) { self.u64()? } else { 0 };
        if has(2) {
            self.take(8)?;
        }
        let mode = if has(4) { Some(self.u32()?) } else { None };
        if has(8) {
            self.take(8)?;
        }
        if has(1 << 31) {
            for _ in 0..self.u32()? {
                self.text()?;
                self.text()?;
            }
        }
        // Without a mode there is no telling; then it counts as a file.
        let kind = mode.map_or(0o100_000, |mode| mode & 0o170_000);
        Ok(Attributes {
            bytes,
            is_dir: kind == 0o040_000,
            is_file: kind == 0o100_000,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_packet_is_read_without_harm(content in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let mut packet = Packet::of(content.clone());
            let _ = packet.u32();
            let _ = packet.text().map(<[u8]>::len);
            let _ = packet.attributes();
            let mut stream = (content.len() as u32).to_be_bytes().to_vec();
            stream.extend(content);
            let _ = Packet::read(&mut stream.as_slice());
        }
    }
}
