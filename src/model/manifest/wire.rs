//! The JSON of entries, `docs/format.md` §2.1. Everything read is checked here, because anyone who
//! can write to a repository may have made it up.

use serde::{Deserialize, Serialize};

use super::{Body, Content, Entry, Extent, Flag, Kept, Kind, Sealed, Time, is_default};
use crate::base::id::{Digest, Id};
use crate::base::path::RepoPath;

/// The JSON shape of an entry, `docs/format.md` §2.1.
#[derive(Serialize, Deserialize, Default)]
struct Wire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p_hex: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    k: Kind,
    m: u32,
    t: Time,
    #[serde(default, skip_serializing_if = "is_default")]
    u: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    g: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    s: u64,
    #[serde(flatten)]
    body: WireBody,
}

/// The JSON shape of a [`Body`], also used by the state.
#[derive(Serialize, Deserialize, Default)]
struct WireBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    h: Option<Digest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    b: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    x: Vec<Extent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<(Id, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    l: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    l_hex: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    i: String,
    #[serde(default, skip_serializing_if = "is_default")]
    n: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    a: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    f: Vec<Flag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    z: Option<Box<Sealed>>,
    #[serde(default, skip_serializing_if = "is_default")]
    o: bool,
}

fn text_or_hex(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(hex::encode(bytes))),
    }
}

fn bytes_of(text: Option<String>, hexed: Option<String>) -> Result<Vec<u8>, String> {
    match (text, hexed) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(hexed)) => hex::decode(hexed).map_err(|e| e.to_string()),
        (None, None) => Ok(Vec::new()),
        (Some(_), Some(_)) => Err("both a name and its hex form".to_owned()),
    }
}

impl From<&Body> for WireBody {
    fn from(body: &Body) -> Self {
        let (l, l_hex) = if body.target.is_empty() {
            (None, None)
        } else {
            text_or_hex(&body.target)
        };
        let mut wire = Self {
            l,
            l_hex,
            i: body.link.clone(),
            n: body.names,
            a: body
                .xattrs
                .iter()
                .map(|(n, v)| (n.clone(), hex::encode(v)))
                .collect(),
            f: body.flags.clone(),
            z: body.sealed.clone(),
            o: body.sparse,
            ..Self::default()
        };
        if let Some(kept) = body.content.as_ref().and_then(Content::as_kept) {
            wire.y = Some((kept.set, kept.number));
        } else if let Some(content) = &body.content {
            wire.h = Some(content.digest);
            if !content.is_whole() {
                wire.b = content.blobs().to_vec();
                wire.x = content.extents().to_vec();
            }
        }
        wire
    }
}

impl WireBody {
    fn into_body(self, size: u64) -> Result<Body, String> {
        // The stored form of a sealed file has another size.
        let size = self.z.as_ref().map_or(size, |z| z.size);
        let kept = self.y.map(|(set, number)| Kept { set, number, size });
        let content = match self.h {
            None => kept.map(Content::kept),
            Some(digest) if self.b.is_empty() && self.x.is_empty() => {
                Some(Content::whole(digest, size))
            }
            Some(digest) => {
                let mut total: u64 = 0;
                for Extent(blob, offset, length) in &self.x {
                    if *blob as usize >= self.b.len() {
                        return Err("an extent names no blob".to_owned());
                    }
                    offset.checked_add(*length).ok_or("an extent overflows")?;
                    total = total.checked_add(*length).ok_or("the extents overflow")?;
                }
                if total != size {
                    return Err("the extents do not add up to the size".to_owned());
                }
                Some(Content::new(digest, self.b, self.x))
            }
        };
        let mut xattrs = Vec::with_capacity(self.a.len());
        for (name, value) in self.a {
            xattrs.push((name, hex::decode(value).map_err(|e| e.to_string())?));
        }
        Ok(Body {
            content,
            target: bytes_of(self.l, self.l_hex)?,
            link: self.i,
            names: self.n,
            xattrs,
            flags: self.f,
            sealed: self.z,
            unsure: false,
            sparse: self.o,
        })
    }
}

impl Body {
    /// Returns the members of a body as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        // Only maps and strings: cannot fail.
        serde_json::to_vec(&WireBody::from(self)).unwrap_or_default()
    }

    /// Reads what [`Body::to_json`] wrote for a file of `size` bytes.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_json(json: &[u8], size: u64) -> Result<Self, String> {
        serde_json::from_slice::<WireBody>(json)
            .map_err(|e| e.to_string())?
            .into_body(size)
    }
}

impl Serialize for Entry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (p, p_hex) = text_or_hex(self.path.as_bytes());
        Wire {
            p,
            p_hex,
            k: self.kind,
            m: self.mode,
            t: self.mtime,
            u: self.uid,
            g: self.gid,
            s: self.size,
            body: WireBody::from(&self.body),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let wire = Wire::deserialize(deserializer)?;
        let path = RepoPath::new(bytes_of(wire.p, wire.p_hex).map_err(D::Error::custom)?)
            .map_err(D::Error::custom)?;
        if wire.t.1 >= 1_000_000_000 || wire.m > 0o7777 {
            return Err(D::Error::custom("a time or mode is out of range"));
        }
        let body = wire.body.into_body(wire.s).map_err(D::Error::custom)?;
        if wire.k == Kind::File && wire.s > 0 && body.content.is_none() && body.sealed.is_none() {
            return Err(D::Error::custom("a file without content"));
        }
        if wire.k == Kind::Symlink && (body.target.is_empty() || body.target.contains(&0)) {
            return Err(D::Error::custom("a symlink without a target"));
        }
        Ok(Self {
            path,
            kind: wire.k,
            mode: wire.m,
            mtime: wire.t,
            uid: wire.u,
            gid: wire.g,
            size: wire.s,
            body,
        })
    }
}
