//! WebDAV: two requests for an object, one to write it under another name and one to give it its
//! own, because many servers keep the half of a broken upload.

use std::ops::{ControlFlow, Range};

use base64::Engine as _;
use ureq::http::{Method, Request, Response, StatusCode, header};

use super::attempts::{self, Failed, one_line, unfinished_name};
use super::http::{Http, Seen, part, range_header};
use super::tree::{self, Entry};
use super::{
    Access, Conduct, Location, Object, Service, Store, StoreError, StoreResult, Traffic, Trouble,
    Write, key,
};

pub(super) struct Webdav {
    http: Http,
    access: Access,
    conduct: Conduct,
    /// `https://host:port`, without `/` at its end.
    server: String,
    /// The path of the destination, encoded, with `/` at both ends.
    root: String,
    authorization: Option<String>,
}

type Answer = Response<Vec<u8>>;

/// What a listing asks for, and no more: a server that counts everything in a directory takes long.
const WANTED: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?><d:propfind xmlns:d=\"DAV:\"><d:prop><d:resourcetype/><d:getcontentlength/></d:prop></d:propfind>";

impl Webdav {
    pub(super) fn open(
        location: &Location,
        access: &Access,
        conduct: &Conduct,
    ) -> StoreResult<Self> {
        let scheme = match location.service {
            Service::Webdavs => "https",
            _ => "http",
        };
        let host = location.host.as_deref().unwrap_or_default();
        let port = location.port.map(|port| format!(":{port}"));
        let root = match location.root.is_empty() {
            true => "/".to_owned(),
            false => format!("/{}/", super::url::encode(&location.root)),
        };
        let user = location.user.as_deref().or(access.get("user"));
        let basic = user.map(|user| {
            let both = format!("{user}:{}", access.get("password").unwrap_or_default());
            let engine = base64::engine::general_purpose::STANDARD;
            format!("Basic {}", engine.encode(both))
        });
        let bearer = access.get("token").map(|token| format!("Bearer {token}"));
        Ok(Self {
            http: Http::new(conduct, location.option("ca"))?,
            access: access.clone(),
            conduct: conduct.clone(),
            server: format!("{scheme}://{host}{}", port.unwrap_or_default()),
            root,
            authorization: bearer.or(basic),
        })
    }

    fn url(&self, key: &str) -> String {
        format!("{}{}{key}", self.server, self.root)
    }

    /// Sends one request. Answers other than success are failures, with what they mean.
    fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, Failed> {
        let other = |error: ureq::http::Error| Failed::new(Trouble::Other, error.to_string());
        let mut request = Request::builder().method(method).uri(url);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_vec()).map_err(other)?;
        let seen = Seen::default();
        let mut failed = match self.http.send(&request, &seen) {
            Ok(answer) if answer.status().is_success() => return Ok(answer),
            Ok(answer) => seen.last().unwrap_or_else(|| {
                let said = format!("the server answered {}", answer.status());
                Failed::new(Trouble::Other, said)
            }),
            Err(failed) => failed,
        };
        failed.error.said = one_line(&self.access.without(&failed.error.said));
        Err(failed)
    }

    /// Makes the directories of a key, from the top of the destination on.
    fn make_dirs(&self, key: &str) -> Result<(), Failed> {
        let parts: Vec<&str> = key.split('/').collect();
        for depth in 1..parts.len() {
            let dir = format!("{}/", parts[..depth].join("/"));
            self.make_dir(&self.url(&dir))?;
        }
        Ok(())
    }

    fn make_dir(&self, url: &str) -> Result<(), Failed> {
        match self.send("MKCOL", url, &[], &[]) {
            Ok(_) => Ok(()),
            // It is there.
            Err(failed) if failed.error.trouble == Trouble::Unsupported => Ok(()),
            Err(failed) if is_missing_parent(&failed) => Err(no_place()),
            Err(failed) => Err(failed),
        }
    }

    fn put_once(&self, key: &str, bytes: &[u8], how: Write) -> Result<(), Failed> {
        let name = unfinished_name(key).map_err(|error| Failed::new(error.trouble, error.said))?;
        let unfinished = self.url(&name);
        let kind = [("content-type", "application/octet-stream")];
        let put = match self.send("PUT", &unfinished, &kind, bytes) {
            Err(failed) if is_missing_parent(&failed) => {
                self.make_dirs(key)?;
                self.send("PUT", &unfinished, &kind, bytes)
            }
            put => put,
        };
        let moved = put.and_then(|_| {
            let target = self.url(key);
            let overwrite = match how {
                Write::CreateOnly => "F",
                Write::Plain => "T",
            };
            let headers = [("destination", target.as_str()), ("overwrite", overwrite)];
            self.send("MOVE", &unfinished, &headers, &[])
        });
        if moved.is_err() {
            // The first error is the one that matters.
            let _ = self.send("DELETE", &unfinished, &[], &[]);
        }
        moved.map(|_| ())
    }

    fn entries(&self, prefix: &str) -> Result<Vec<Entry>, Failed> {
        let url = self.url(prefix);
        let headers = [("depth", "1"), ("content-type", "application/xml")];
        let answer = match self.send("PROPFIND", &url, &headers, WANTED.as_bytes()) {
            Err(failed) if failed.error.trouble == Trouble::NotFound => {
                return match prefix.is_empty() {
                    true => Err(no_place()),
                    false => Ok(Vec::new()),
                };
            }
            answer => answer?,
        };
        let text = String::from_utf8_lossy(answer.body());
        if answer.status() != StatusCode::MULTI_STATUS || !text.contains("multistatus") {
            return Err(Failed::new(Trouble::Nonsense, "the answer is no listing"));
        }
        Ok(responses(&text, &format!("{}{prefix}", self.root)))
    }

    fn ask<T>(&self, once: impl Fn() -> Result<T, Failed>) -> StoreResult<T> {
        attempts::repeat(&self.conduct, once).map_err(|failed| failed.error)
    }
}

fn no_place() -> Failed {
    Failed::refused(Trouble::NoPlace, "there is no such directory on the server")
}

/// Servers say 409, as the standard does, or 404, where the directory of a name is missing.
fn is_missing_parent(failed: &Failed) -> bool {
    failed.error.trouble == Trouble::NotFound || failed.status == Some(409)
}

/// Reads the entries of a directory out of a multistatus.
fn responses(text: &str, directory: &str) -> Vec<Entry> {
    let own = super::url::decode(directory).unwrap_or_default();
    let mut entries = Vec::new();
    let (mut href, mut bytes, mut is_dir) = (String::new(), 0, false);
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        rest = &rest[open + 1..];
        let Some(end) = rest.find('>') else { break };
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        let is_end = tag.starts_with('/');
        let name = tag.trim_start_matches('/').trim_end_matches('/');
        let name = name.split_whitespace().next().unwrap_or_default();
        let name = name.rsplit(':').next().unwrap_or_default();
        let inner = || rest[..rest.find('<').unwrap_or(rest.len())].trim();
        match (name, is_end) {
            ("response", false) => (href, bytes, is_dir) = (String::new(), 0, false),
            ("href", false) if href.is_empty() => {
                href = super::http::unescape(inner());
            }
            ("getcontentlength", false) => bytes = inner().parse().unwrap_or(bytes),
            ("collection", false) => is_dir = true,
            ("response", true) => {
                // Some give the whole URL.
                let path = match href.split_once("://") {
                    Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
                    None => &href,
                };
                let path = super::url::decode(path).unwrap_or_default();
                if let Some(name) = path.strip_prefix(&own) {
                    entries.extend(Entry::of(name.trim_end_matches('/'), bytes, is_dir));
                }
            }
            _ => {}
        }
    }
    entries
}

impl Store for Webdav {
    fn prepare(&self) -> StoreResult<()> {
        let parts: Vec<&str> = self
            .root
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        for depth in 1..=parts.len() {
            let url = format!("{}/{}/", self.server, parts[..depth].join("/"));
            let made = self.ask(|| self.make_dir(&url));
            // Directories above may be somebody else's; the last one counts.
            if depth == parts.len() {
                made?;
            }
        }
        Ok(())
    }

    fn put(&self, key: &str, bytes: &[u8], how: Write) -> StoreResult<()> {
        key::check(key)?;
        let put = attempts::repeat(&self.conduct, || self.put_once(key, bytes, how));
        attempts::arrived(put, bytes, || self.get(key, None))
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> StoreResult<Vec<u8>> {
        key::check(key)?;
        if let Some(answer) = super::without_asking(range.as_ref()) {
            return answer;
        }
        let asked = range.as_ref().map(range_header);
        let headers: Vec<(&str, &str)> = asked
            .iter()
            .map(|asked| ("range", asked.as_str()))
            .collect();
        part(
            self.ask(|| self.send("GET", &self.url(key), &headers, &[]))?,
            range,
        )
    }

    fn size(&self, key: &str) -> StoreResult<Option<u64>> {
        key::check(key)?;
        let method = Method::HEAD;
        match self.ask(|| self.send(method.as_str(), &self.url(key), &[], &[])) {
            Ok(answer) => {
                let length = answer.headers().get(header::CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
                let said = "the server does not say how large an object is";
                length
                    .map(Some)
                    .ok_or_else(|| StoreError::new(Trouble::Nonsense, said))
            }
            Err(error) if error.trouble == Trouble::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> StoreResult<()> {
        key::check_prefix(prefix)?;
        let entries = |prefix: &str| self.ask(|| self.entries(prefix));
        tree::walk(&entries, prefix, after, each)
    }

    fn names(&self, prefix: &str) -> StoreResult<Vec<String>> {
        key::check_prefix(prefix)?;
        let entries = self.ask(|| self.entries(prefix))?;
        let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, key: &str) -> StoreResult<()> {
        key::check(key)?;
        self.ask(|| match self.send("DELETE", &self.url(key), &[], &[]) {
            Err(failed) if failed.error.trouble == Trouble::NotFound => Ok(()),
            removed => removed.map(|_| ()),
        })
    }

    fn has_create_only(&self) -> bool {
        true
    }

    fn traffic(&self) -> Traffic {
        self.http.counted().so_far()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_whatever_its_prefixes_are() {
        let text = r#"<?xml version="1.0"?><lp1:multistatus xmlns:lp1="DAV:">
<lp1:response><lp1:href>/dav/a%20b/</lp1:href><lp1:propstat><lp1:prop><lp1:resourcetype><lp1:collection/></lp1:resourcetype></lp1:prop></lp1:propstat></lp1:response>
<lp1:response><lp1:href>http://h:1/dav/a%20b/sub/</lp1:href><lp1:prop><lp1:resourcetype><lp1:collection/></lp1:resourcetype></lp1:prop></lp1:response>
<lp1:response><lp1:href>/dav/a%20b/x.tgz</lp1:href><lp1:prop><lp1:resourcetype/><lp1:getcontentlength> 12 </lp1:getcontentlength></lp1:prop></lp1:response>
<lp1:response><lp1:href>/dav/a%20b/.bdr-tmp-00</lp1:href></lp1:response>
<lp1:response><lp1:href>/dav/other</lp1:href></lp1:response>
</lp1:multistatus>"#;
        let entries = responses(text, "/dav/a%20b/");
        let entry = |name: &str, bytes| Entry {
            name: name.to_owned(),
            bytes,
        };
        assert_eq!(entries, [entry("sub/", 0), entry("x.tgz", 12)]);
    }

    proptest::proptest! {
        #[test]
        fn any_listing_is_read_to_its_end(text in "[<>/a-z: ]{0,60}") {
            let _ = responses(&format!("<response><href>/a/{text}"), "/a/");
        }
    }
}
