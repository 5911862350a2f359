//! What the answers of servers mean: by status, and by the code that each service gives in its own
//! way.

use crate::disk::store::Trouble;

/// What a server answered instead of doing what it was asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The service's own word, e.g. `NoSuchBucket`.
    pub(super) code: String,
    /// Its own sentence.
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn read(status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(16 << 10)]);
        let (code, message) = match text.trim_start().starts_with('{') {
            true => json(&text),
            false => (
                element(&text, "Code").unwrap_or_default(),
                element(&text, "Message").unwrap_or_default(),
            ),
        };
        Self {
            status,
            code,
            message,
        }
    }

    pub(super) fn said(&self) -> String {
        let parts = [&self.code, &self.message];
        let parts: Vec<&str> = parts.into_iter().map(String::as_str).collect();
        let text = parts.into_iter().filter(|part| !part.is_empty());
        let text = text.collect::<Vec<_>>().join(": ");
        match text.is_empty() {
            true => format!("the server answered {}", status_words(self.status)),
            false => format!("the server answered {}: {text}", self.status),
        }
    }

    pub(super) fn trouble(&self) -> Trouble {
        let message = self.message.to_ascii_lowercase();
        by_code(&self.code, &message)
            .or_else(|| by_message(self.status, &message))
            .unwrap_or_else(|| by_status(self.status))
    }
}

fn status_words(status: u16) -> String {
    let words = match status {
        400 => "bad request",
        401 => "not authorized",
        403 => "forbidden",
        404 => "not found",
        405 => "method not allowed",
        407 => "the proxy wants a password",
        409 => "conflict",
        412 => "precondition failed",
        413 => "too large",
        423 => "locked",
        429 => "too many requests",
        500 => "internal error",
        501 => "not implemented",
        502 => "bad gateway",
        503 => "unavailable",
        504 => "gateway timeout",
        507 => "no space",
        _ => return status.to_string(),
    };
    format!("{status} ({words})")
}

/// Returns the text of the first element of a name in XML, whatever its namespace.
fn element(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let open = rest.find('<')?;
        rest = &rest[open + 1..];
        let end = rest.find('>')?;
        let tag = rest[..end].split_whitespace().next().unwrap_or_default();
        let local = tag.rsplit(':').next().unwrap_or_default();
        rest = &rest[end + 1..];
        if local == name && !tag.starts_with('/') {
            let text = &rest[..rest.find('<')?];
            return Some(unescape(text.trim()));
        }
    }
}

/// Replaces the entities of XML.
pub(in crate::disk::store) fn unescape(text: &str) -> String {
    [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&#34;", "\""),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (name, sign)| {
        text.replace(name, sign)
    })
}

/// Reads the errors of Google, Backblaze and Dropbox.
fn json(text: &str) -> (String, String) {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
        return Default::default();
    };
    let word = |value: &serde_json::Value, name: &str| {
        let text = value.get(name).and_then(|value| value.as_str());
        text.map(str::to_owned)
    };
    let inner = value.get("error").filter(|error| error.is_object());
    let first = inner.and_then(|error| error.get("errors")?.get(0));
    let code = first
        .and_then(|error| word(error, "reason"))
        .or_else(|| word(&value, "error_summary"))
        .or_else(|| word(&value, "code"))
        .or_else(|| word(&value, "error"))
        .or_else(|| inner.and_then(|error| word(error, "status")));
    let message = inner
        .and_then(|error| word(error, "message"))
        .or_else(|| word(&value, "message"))
        .or_else(|| word(&value, "error_description"));
    (code.unwrap_or_default(), message.unwrap_or_default())
}

/// The codes of S3, Azure, Google, Backblaze and Dropbox.
const CODES: [(Trouble, &[&str]); 11] = [
    (
        Trouble::Retained,
        &[
            "BlobImmutableDueToPolicy",
            "ObjectLocked",
            "retentionPolicyNotMet",
            "file_lock",
            "access_denied_by_retention",
        ],
    ),
    (Trouble::Clock, &["RequestTimeTooSkewed", "RequestExpired"]),
    (
        Trouble::Credentials,
        &[
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "ExpiredToken",
            "InvalidToken",
            "TokenRefreshRequired",
            "InvalidSecurity",
            "AuthenticationFailed",
            "InvalidGrant",
            "invalid_grant",
            "invalid_client",
            "unauthorized_client",
            "authError",
            "unauthorized",
            "bad_auth_token",
            "expired_auth_token",
            "expired_access_token",
            "invalid_access_token",
            "UNAUTHENTICATED",
            "ExpiredTokenException",
            "InvalidAuthenticationInfo",
            "NotSignedUp",
            "UnrecognizedClientException",
        ],
    ),
    (
        Trouble::NoPlace,
        &[
            "NoSuchBucket",
            "ContainerNotFound",
            "bad_bucket_id",
            "InvalidBucketName",
            "ContainerBeingDeleted",
            "ResourceNotFound",
            "AccountNotFound",
        ],
    ),
    (
        Trouble::Elsewhere,
        &[
            "PermanentRedirect",
            "TemporaryRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
            "InvalidRegion",
        ],
    ),
    (
        Trouble::NotFound,
        &[
            "NoSuchKey",
            "NoSuchVersion",
            "BlobNotFound",
            "no_such_file",
            "file_not_present",
            "not_found",
        ],
    ),
    (
        Trouble::Exists,
        &[
            "PreconditionFailed",
            "BlobAlreadyExists",
            "conditionNotMet",
            "ConditionNotMet",
            "conflict",
            "fileIdInUse",
        ],
    ),
    (
        Trouble::Full,
        &[
            "QuotaExceeded",
            "XMinioStorageFull",
            "XMinioAdminBucketQuotaExceeded",
            "storageQuotaExceeded",
            "storage_cap_exceeded",
            "cap_exceeded",
            "insufficient_space",
            "AccountStorageQuotaExceeded",
            "ServiceQuotaExceeded",
            "teamDriveFileLimitExceeded",
        ],
    ),
    (
        Trouble::Busy,
        &[
            "SlowDown",
            "ServiceUnavailable",
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
            "ServerBusy",
            "OperationTimedOut",
            "rateLimitExceeded",
            "userRateLimitExceeded",
            "dailyLimitExceeded",
            "too_many_requests",
            "too_many_write_operations",
            "service_unavailable",
            "backendError",
            "OperationAborted",
            "ConditionalRequestConflict",
            "InternalError",
            "internal_error",
        ],
    ),
    (
        Trouble::Forbidden,
        &[
            "AccessDenied",
            "AccessForbidden",
            "accessDenied",
            "forbidden",
            "AuthorizationFailure",
            "AuthorizationPermissionMismatch",
            "InsufficientAccountPermissions",
            "insufficientPermissions",
            "insufficientFilePermissions",
            "access_denied",
            "missing_scope",
            "no_write_permission",
            "no_permission",
            "appNotAuthorizedToFile",
            "AccountIsDisabled",
            "AllAccessDisabled",
        ],
    ),
    (Trouble::Unsupported, &["NotImplemented", "notImplemented"]),
];

fn by_code(code: &str, message: &str) -> Option<Trouble> {
    // Dropbox says first what it is about: `path/insufficient_space/`.
    let mut parts = code.split('/').map(str::trim);
    let found = parts.find_map(|part| CODES.iter().find(|(_, codes)| codes.contains(&part)));
    Some(match found.map(|(trouble, _)| *trouble)? {
        Trouble::Forbidden if is_retained(message) => Trouble::Retained,
        Trouble::Forbidden if message.contains("failed to authenticate") => Trouble::Credentials,
        // Azure and Google say that credentials are wrong, and name the clock in their sentence.
        Trouble::Credentials
            if message.contains("date header")
                || message.contains("token must be a short-lived") =>
        {
            Trouble::Clock
        }
        trouble => trouble,
    })
}

fn is_retained(message: &str) -> bool {
    [
        "object lock",
        "worm",
        "retention",
        "immutab",
        "legal hold",
        "locked",
    ]
    .iter()
    .any(|word| message.contains(word))
}

fn by_message(status: u16, message: &str) -> Option<Trouble> {
    // The name of an object is in such sentences, too, and that of its bucket.
    let is_bucket = message.contains("bucket does not exist") || message.contains("no such bucket");
    if status == 404 && is_bucket {
        return Some(Trouble::NoPlace);
    }
    (matches!(status, 403 | 409) && is_retained(message)).then_some(Trouble::Retained)
}

fn by_status(status: u16) -> Trouble {
    match status {
        401 => Trouble::Credentials,
        403 => Trouble::Forbidden,
        404 | 410 => Trouble::NotFound,
        407 => Trouble::Unreachable,
        // 423: another request has it locked at this moment (RFC 4918, 11.3), also one of our own.
        // What is kept for a time is said by a code, or with 403 or 409.
        408 | 423 | 425 | 429 | 500 | 502 | 503 | 504 => Trouble::Busy,
        412 => Trouble::Exists,
        416 => Trouble::Nonsense,
        405 | 501 => Trouble::Unsupported,
        452 | 507 => Trouble::Full,
        300..=399 => Trouble::Elsewhere,
        _ => Trouble::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of real services, shortened.
    #[test]
    fn answers_of_real_services_are_understood() {
        let s3 = |code: &str, message: &str| {
            format!(
                "<?xml version=\"1.0\"?>\n<Error xmlns=\"x\"><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>"
            )
        };
        for (status, body, trouble) in [
            (403, s3("AccessDenied", "Access Denied"), Trouble::Forbidden),
            (
                403,
                s3("AccessDenied", "Access Denied because object protected by object lock."),
                Trouble::Retained,
            ),
            (
                400,
                s3("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-1'"),
                Trouble::Elsewhere,
            ),
            (403, s3("RequestTimeTooSkewed", "The difference between…"), Trouble::Clock),
            (403, s3("SignatureDoesNotMatch", "The request signature"), Trouble::Credentials),
            (400, s3("ExpiredToken", "The provided token has expired."), Trouble::Credentials),
            (404, s3("NoSuchBucket", "The specified bucket does not exist"), Trouble::NoPlace),
            (404, s3("NoSuchKey", "…"), Trouble::NotFound),
            (412, s3("PreconditionFailed", "…"), Trouble::Exists),
            (409, s3("ConditionalRequestConflict", "…"), Trouble::Busy),
            (503, s3("SlowDown", "Reduce your request rate"), Trouble::Busy),
            (507, s3("XMinioStorageFull", "…"), Trouble::Full),
            (501, s3("NotImplemented", "A header you provided…"), Trouble::Unsupported),
            (409, s3("BlobImmutableDueToPolicy", "…"), Trouble::Retained),
            (404, s3("ContainerNotFound", "…"), Trouble::NoPlace),
            (
                403,
                s3("AuthenticationFailed", "Request date header too old: 'Mon'"),
                Trouble::Clock,
            ),
            (
                404,
                r#"{"error":{"code":404,"message":"The specified bucket does not exist.","errors":[{"reason":"notFound"}]}}"#.to_owned(),
                Trouble::NoPlace,
            ),
            (
                404,
                r#"{"error":{"code":404,"message":"No such object: my-bucket/bdr1/x","errors":[{"reason":"notFound"}]}}"#.to_owned(),
                Trouble::NotFound,
            ),
            (
                404,
                r#"{"status":404,"code":"not_found","message":"Bucket x does not have file: y"}"#.to_owned(),
                Trouble::NotFound,
            ),
            (
                403,
                r#"{"error":{"code":403,"message":"x","errors":[{"reason":"storageQuotaExceeded"}]}}"#.to_owned(),
                Trouble::Full,
            ),
            (
                400,
                r#"{"error":"invalid_grant","error_description":"Token has been expired or revoked."}"#.to_owned(),
                Trouble::Credentials,
            ),
            (
                401,
                r#"{"status":401,"code":"expired_auth_token","message":"x"}"#.to_owned(),
                Trouble::Credentials,
            ),
            (
                409,
                r#"{"error_summary":"path/insufficient_space/..","error":{".tag":"path"}}"#.to_owned(),
                Trouble::Full,
            ),
            (
                409,
                r#"{"error_summary":"path/conflict/file/..","error":{".tag":"path"}}"#.to_owned(),
                Trouble::Exists,
            ),
            (
                409,
                r#"{"error_summary":"path_lookup/not_found/","error":{".tag":"path_lookup"}}"#.to_owned(),
                Trouble::NotFound,
            ),
            (
                429,
                r#"{"error_summary":"too_many_write_operations/..","error":{"reason":{}}}"#.to_owned(),
                Trouble::Busy,
            ),
            (401, String::new(), Trouble::Credentials),
            (507, String::new(), Trouble::Full),
            (429, "<html>slow down".to_owned(), Trouble::Busy),
            (423, "Locked".to_owned(), Trouble::Busy),
            (302, String::new(), Trouble::Elsewhere),
            (418, "{".to_owned(), Trouble::Other),
        ] {
            let refusal = Refusal::read(status, body.as_bytes());
            assert_eq!(refusal.trouble(), trouble, "{status} {body}");
            assert!(refusal.said().contains(&status.to_string()), "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_read(status in 300_u16..600, body in ".{0,80}") {
            for body in [body.clone(), format!("<Error><Code>{body}"), format!("{{{body}")] {
                let _ = Refusal::read(status, body.as_bytes()).trouble();
            }
        }
    }
}
