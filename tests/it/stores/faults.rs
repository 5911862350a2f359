//! Servers that fail, hang and lie. Each is a few lines of the test's own, so these run everywhere.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bdr::disk::store::{self, Access, Conduct, Location, Store, StoreResult, Trouble, Write};

/// What a server does with one request.
#[derive(Clone)]
enum Answer {
    /// Status line, headers and content.
    Http(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Bytes as they are, then the end.
    Raw(Vec<u8>),
    /// Nothing, for as long as the client has patience.
    Hang,
    /// A head that promises content, which comes a byte at a time.
    Drip,
    /// The connection ends.
    Reset,
}

fn http(status: u16, body: &str) -> Answer {
    Answer::Http(status, Vec::new(), body.as_bytes().to_vec())
}

fn xml(status: u16, code: &str) -> Answer {
    http(
        status,
        &format!("<Error><Code>{code}</Code><Message>as {code} says</Message></Error>"),
    )
}

/// A server that answers the n-th request (from 0) as it is told to.
struct Server {
    port: u16,
    asked: Arc<AtomicUsize>,
}

fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(text)
}

fn give(stream: &mut TcpStream, answer: Answer, is_head: bool) -> bool {
    let done = match answer {
        Answer::Http(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("\r\n");
            let sent = stream.write_all(head.as_bytes());
            let body = if is_head { &[][..] } else { &body };
            return sent.and_then(|()| stream.write_all(body)).is_ok();
        }
        Answer::Raw(bytes) => stream.write_all(&bytes),
        Answer::Hang => {
            std::thread::sleep(Duration::from_secs(20));
            Ok(())
        }
        Answer::Drip => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
            for _ in 0..200 {
                if stream.write_all(b"x").is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        }
        Answer::Reset => Ok(()),
    };
    let _ = done;
    false
}

fn server(answer: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, answer) = (Arc::clone(&asked), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            let (counter, answer) = (Arc::clone(&counter), Arc::clone(&answer));
            std::thread::spawn(move || {
                while let Some(request) = read_request(&mut stream) {
                    let number = counter.fetch_add(1, Ordering::SeqCst);
                    if !give(
                        &mut stream,
                        answer(number, &request),
                        request.starts_with("HEAD"),
                    ) {
                        break;
                    }
                }
            });
        }
    });
    Server { port, asked }
}

/// Impatient, so that what hangs is seen soon.
fn conduct() -> Conduct {
    Conduct {
        patience: Duration::from_millis(400),
        slowest: 1 << 20,
        attempts: 3,
        pause: Duration::from_millis(5),
        limit: None,
        stop: Arc::default(),
    }
}

impl Server {
    fn s3(&self) -> Arc<dyn Store> {
        let mut access = Access::default();
        access.set("access-key-id", "AKIDHUNTER2");
        access.set("secret-access-key", "hunter2-secret");
        let url = format!("s3://bucket/p?endpoint=http://127.0.0.1:{}", self.port);
        store::open(&Location::parse(&url).unwrap(), &access, &conduct()).unwrap()
    }

    fn webdav(&self) -> Arc<dyn Store> {
        let mut access = Access::default();
        access.set("password", "hunter2-secret");
        let url = format!("webdav://me@127.0.0.1:{}/p", self.port);
        store::open(&Location::parse(&url).unwrap(), &access, &conduct()).unwrap()
    }
}

/// Everything that is asked of a store.
fn every_request(store: &dyn Store) -> Vec<(&'static str, StoreResult<()>)> {
    let list = store.list("a/", None, &mut |_| ControlFlow::Continue(()));
    vec![
        ("create", store.put("a/b", b"content", Write::CreateOnly)),
        ("replace", store.put("a/b", b"content", Write::Plain)),
        ("get", store.get("a/b", None).map(|_| ())),
        ("range", store.get("a/b", Some(0..4)).map(|_| ())),
        ("size", store.size("a/b").map(|_| ())),
        ("list", list),
        ("names", store.names("a/").map(|_| ())),
        ("remove", store.remove("a/b")),
    ]
}

type Stores = [fn(&Server) -> Arc<dyn Store>; 2];
const STORES: Stores = [Server::s3, Server::webdav];

/// Whatever a server does, every request ends, in time, with an error that says what it is and has
/// no credential.
#[test]
fn a_server_that_fails_is_an_error_of_its_kind_and_nothing_hangs() {
    let page = || {
        Answer::Http(
            200,
            vec![("Content-Type", "text/html; charset=utf-8".to_owned())],
            b"<html><form>Welcome to the hotel! Log in.</form></html>".to_vec(),
        )
    };
    let login = || {
        Answer::Http(
            302,
            vec![("Location", "http://login.hotel.example/?u=1".to_owned())],
            Vec::new(),
        )
    };
    type Case = (&'static str, fn() -> Answer, &'static [Trouble]);
    let cases: [Case; 11] = [
        ("hang", || Answer::Hang, &[Trouble::Unreachable]),
        (
            "drip",
            || Answer::Drip,
            &[Trouble::Unreachable, Trouble::Nonsense],
        ),
        ("reset", || Answer::Reset, &[Trouble::Unreachable]),
        (
            "garbage",
            || Answer::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
            &[Trouble::Nonsense, Trouble::Unreachable],
        ),
        ("busy", || http(503, ""), &[Trouble::Busy]),
        ("slow down", || xml(503, "SlowDown"), &[Trouble::Busy]),
        ("too many", || http(429, ""), &[Trouble::Busy]),
        ("internal", || http(500, ""), &[Trouble::Busy]),
        ("unauthorized", || http(401, ""), &[Trouble::Credentials]),
        ("full", || http(507, ""), &[Trouble::Full]),
        (
            "forbidden",
            || xml(403, "AccessDenied"),
            &[Trouble::Forbidden],
        ),
    ];
    for (name, answer, troubles) in cases {
        let server = server(move |_, _| answer());
        for open in STORES {
            let store = open(&server);
            for (request, outcome) in every_request(&*store) {
                let started = Instant::now();
                let Err(error) = outcome else {
                    // What drips is whole for a request that reads no content.
                    assert_eq!(name, "drip", "{name}, {request}");
                    continue;
                };
                assert!(
                    troubles.contains(&error.trouble),
                    "{name}, {request}: {error:?}"
                );
                assert!(
                    !error.said.contains("hunter2"),
                    "{name}, {request}: {error}"
                );
                assert!(
                    !error.said.is_empty() && !error.said.contains('\n'),
                    "{name}: {error:?}"
                );
                assert!(
                    started.elapsed() < Duration::from_secs(10),
                    "{name}, {request}"
                );
            }
        }
    }
    for lies in [page, login] as [fn() -> Answer; 2] {
        let server = server(move |_, _| lies());
        for open in STORES {
            let store = open(&server);
            for (request, outcome) in every_request(&*store) {
                // A removal that only looks done does no harm: nothing relies on it.
                let Err(error) = outcome else {
                    assert!(
                        ["remove", "size"].contains(&request),
                        "{request} believed a login page"
                    );
                    continue;
                };
                assert_eq!(error.trouble, Trouble::Nonsense, "{request}: {error:?}");
            }
        }
    }
}

/// Codes of S3 that have one cause each.
#[test]
fn what_s3_says_is_understood() {
    for (status, code, trouble) in [
        (403, "InvalidAccessKeyId", Trouble::Credentials),
        (403, "SignatureDoesNotMatch", Trouble::Credentials),
        (400, "ExpiredToken", Trouble::Credentials),
        (403, "RequestTimeTooSkewed", Trouble::Clock),
        (404, "NoSuchBucket", Trouble::NoPlace),
        (403, "AccessDenied", Trouble::Forbidden),
        (400, "AuthorizationHeaderMalformed", Trouble::Elsewhere),
        (301, "PermanentRedirect", Trouble::Elsewhere),
        (403, "QuotaExceeded", Trouble::Full),
    ] {
        let server = server(move |_, _| xml(status, code));
        let store = server.s3();
        for outcome in [
            store.put("a", b"x", Write::CreateOnly),
            store.get("a", None).map(|_| ()),
            store.names("").map(|_| ()),
        ] {
            let error = outcome.unwrap_err();
            assert_eq!(error.trouble, trouble, "{code}: {error:?}");
        }
        assert_eq!(
            server.asked.load(Ordering::SeqCst),
            3,
            "{code} is not asked for again"
        );
    }
    // The region is said in a header.
    let region = server(|_, _| {
        let headers = vec![("x-amz-bucket-region", "eu-west-9".to_owned())];
        Answer::Http(301, headers, Vec::new())
    });
    let error = region.s3().get("a", None).unwrap_err();
    assert_eq!(error.trouble, Trouble::Elsewhere);
    assert!(error.said.contains("eu-west-9"), "{error}");
}

/// What passes is tried again, and succeeds.
#[test]
fn what_passes_is_tried_again() {
    let again: [fn() -> Answer; 4] = [
        || Answer::Reset,
        || http(500, ""),
        || Answer::Http(503, vec![("Retry-After", "0".to_owned())], Vec::new()),
        || Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec()),
    ];
    for first in again {
        let server = server(move |number, _| match number {
            0 => first(),
            _ => Answer::Http(200, vec![("ETag", "\"1\"".to_owned())], b"content".to_vec()),
        });
        assert_eq!(server.s3().get("a", None).unwrap(), b"content");
        assert_eq!(server.asked.load(Ordering::SeqCst), 2);
    }
}

/// The answer to a creation was lost, and the next attempt finds an object: if it is the same, it
/// is ours.
#[test]
fn a_creation_whose_answer_was_lost_is_recognized() {
    for (there, is_ours) in [("content", true), ("another", false)] {
        let server = server(move |number, _| match number {
            0 => Answer::Reset,
            1 => xml(412, "PreconditionFailed"),
            _ => Answer::Http(
                200,
                vec![("ETag", "\"1\"".to_owned())],
                there.as_bytes().to_vec(),
            ),
        });
        let put = server.s3().put("a", b"content", Write::CreateOnly);
        match is_ours {
            true => put.unwrap(),
            false => assert_eq!(put.unwrap_err().trouble, Trouble::Exists),
        }
    }
    // Without a lost answer, an object that exists is somebody else's business.
    let server = server(|_, _| xml(412, "PreconditionFailed"));
    let error = server
        .s3()
        .put("a", b"content", Write::CreateOnly)
        .unwrap_err();
    assert_eq!(error.trouble, Trouble::Exists);
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
}

/// A listing that says that it goes on, and gives the same page again, ends.
#[test]
fn a_listing_that_goes_round_in_circles_ends() {
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>\
                <Contents><Key>p/a/1</Key><Size>1</Size><ETag>x</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>";
    let server = server(move |_, _| http(200, page));
    let store = server.s3();
    let mut seen = 0;
    let listed = store.list("a/", None, &mut |_| {
        seen += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(listed.unwrap_err().trouble, Trouble::Nonsense);
    assert_eq!(seen, 1, "an object is told once");
}

/// Shorter content than a range asks for is an error, never a short read.
#[test]
fn a_range_comes_whole_or_not_at_all() {
    let short = server(|_, _| {
        Answer::Http(
            206,
            vec![("Content-Range", "bytes 0-1/2".to_owned())],
            b"ab".to_vec(),
        )
    });
    for open in STORES {
        let error = open(&short).get("a", Some(0..4)).unwrap_err();
        assert_eq!(error.trouble, Trouble::Nonsense, "{error}");
    }
}

/// The limit holds for all requests of a store together.
#[test]
fn a_limit_spreads_what_is_sent_and_received() {
    let server =
        server(|_, _| Answer::Http(200, vec![("ETag", "\"1\"".to_owned())], vec![7; 40_000]));
    let mut access = Access::default();
    access.set("access-key-id", "a");
    access.set("secret-access-key", "b");
    let url = format!("s3://bucket/p?endpoint=http://127.0.0.1:{}", server.port);
    let limited = Conduct {
        limit: Some(200_000),
        ..conduct()
    };
    let store = store::open(&Location::parse(&url).unwrap(), &access, &limited).unwrap();
    let started = Instant::now();
    store.put("a", &[1; 40_000], Write::CreateOnly).unwrap();
    store.get("a", None).unwrap();
    store.get("a", None).unwrap();
    // 40 + 40 + 40 + 40 KB (a PUT has an answer, too), the last of which is not waited for.
    assert!(
        started.elapsed() > Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(store.traffic().requests, 3);
}

/// Who wants to stop does not wait for the end of an object: it would take ten minutes here.
#[test]
fn a_transfer_under_way_is_given_up_when_the_user_wants_to_stop() {
    let server =
        server(|_, _| Answer::Http(200, vec![("ETag", "\"1\"".to_owned())], vec![7; 6_000_000]));
    let mut access = Access::default();
    access.set("access-key-id", "a");
    access.set("secret-access-key", "b");
    let disk = tempfile::tempdir().unwrap();
    let urls = [
        format!("s3://bucket/p?endpoint=http://127.0.0.1:{}", server.port),
        format!("file://{}", disk.path().display()),
    ];
    for url in urls {
        // A file is read at once; whatever follows waits for it.
        let is_file = url.starts_with("file:");
        for is_put in [true, false].into_iter().filter(|put| *put || !is_file) {
            let slow = Conduct {
                limit: Some(10_000),
                stop: Arc::default(),
                ..conduct()
            };
            let location = Location::parse(&url).unwrap();
            let store = store::open(&location, &access, &slow).unwrap();
            let stop = Arc::clone(&slow.stop);
            let stopper = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(300));
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            let outcome = match is_put {
                true => store.put("a", &[1; 6_000_000], Write::CreateOnly),
                false => store.get("a", None).map(drop),
            };
            stopper.join().unwrap();
            assert!(outcome.is_err(), "{url}, put: {is_put}");
            assert!(!disk.path().join("a").exists(), "nothing is left of it");
        }
    }
}

#[test]
fn nobody_there_is_said_soon() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let nobody = Server {
        port,
        asked: Arc::default(),
    };
    for open in STORES {
        for (request, outcome) in every_request(&*open(&nobody)) {
            assert_eq!(
                outcome.unwrap_err().trouble,
                Trouble::Unreachable,
                "{request}"
            );
        }
    }
    let url = format!("sftp://127.0.0.1:{port}/x");
    let store = store::open(
        &Location::parse(&url).unwrap(),
        &Access::default(),
        &conduct(),
    )
    .unwrap();
    for (request, outcome) in every_request(&*store) {
        let trouble = outcome.unwrap_err().trouble;
        // Without `ssh` there is no SFTP.
        assert!(
            [Trouble::Unreachable, Trouble::Unsupported].contains(&trouble),
            "{request}"
        );
    }
}

/// A server in the place of another, or one with a certificate of its own making.
#[test]
fn a_certificate_that_does_not_fit_is_refused_and_one_that_is_named_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
        ])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:false"])
        .args(["-keyout", &path("key"), "-out", &path("cert")])
        .output();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let served = std::process::Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-accept", &port.to_string()])
        .args(["-key", &path("key"), "-cert", &path("cert")])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let (Ok(made), Ok(mut served)) = (made, served) else {
        println!("SKIPPED: certificates (no openssl)");
        return;
    };
    assert!(made.status.success());
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let open = |options: &str| {
        let url = format!("webdavs://me@127.0.0.1:{port}/x{options}");
        let patient = Conduct {
            patience: Duration::from_secs(5),
            ..conduct()
        };
        store::open(
            &Location::parse(&url).unwrap(),
            &Access::default(),
            &patient,
        )
    };
    let error = open("").unwrap().get("x", None).unwrap_err();
    // `openssl` answers with a page: that is far enough.
    let named = open(&format!("?ca={}", path("cert")))
        .unwrap()
        .get("x", None)
        .unwrap_err();
    let no_file = open("?ca=/does/not/exist").err();
    let _ = served.kill();
    let _ = served.wait();
    assert_eq!(error.trouble, Trouble::Certificate, "{error:?}");
    assert_eq!(named.trouble, Trouble::Nonsense, "{named:?}");
    assert_eq!(no_file.unwrap().trouble, Trouble::Certificate);
}
