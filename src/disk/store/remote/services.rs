//! How each service is told where it is and who asks.

use std::error::Error as _;

use opendal::{ErrorKind, Operator};

use crate::disk::store::attempts::Failed;
use crate::disk::store::{Access, Location, Service, StoreError, StoreResult, Trouble};

/// Sets what is given, and nothing else.
macro_rules! set {
    ($config:ident, $($field:ident = $value:expr),+ $(,)?) => {
        $(if let Some(value) = $value { $config.$field = Some(value.to_owned()); })+
    };
}

fn missing(access: &Access, location: &Location) -> Option<StoreError> {
    let fields = location.service.fields();
    let needed = fields.iter().filter(|field| field.is_needed);
    let missing: Vec<&str> = needed
        .filter(|field| access.get(field.name).is_none())
        .map(|field| field.title)
        .collect();
    // None at all is fine where the provider's client looks for them itself, or nobody asks.
    let is_fine = missing.is_empty() || access.is_empty() && access.own_ways;
    (!is_fine).then(|| {
        let said = format!("missing: {}", missing.join(", "));
        StoreError::new(Trouble::Credentials, said)
    })
}

pub(super) fn operator(location: &Location, access: &Access) -> StoreResult<Operator> {
    if let Some(error) = missing(access, location) {
        return Err(error);
    }
    let built = match location.service {
        #[cfg(feature = "remote-s3")]
        Service::S3 => s3(location, access),
        #[cfg(feature = "remote-google")]
        Service::Gcs => gcs(location, access),
        #[cfg(feature = "remote-azure")]
        Service::Azblob => azblob(location, access),
        #[cfg(feature = "remote-b2")]
        Service::B2 => b2(location, access),
        _ => return Err(crate::disk::store::not_built(location)),
    };
    built.map_err(|error| local(&error).error)
}

#[cfg(feature = "remote-s3")]
fn s3(location: &Location, access: &Access) -> opendal::Result<Operator> {
    let mut config = opendal::services::S3Config::default();
    config.bucket.clone_from(&location.bucket);
    set!(
        config,
        root = Some(&location.root),
        endpoint = location.option("endpoint"),
        // Without one of AWS, the region is only a word in the signature.
        region = location
            .option("region")
            .or(access.get("region"))
            .or(Some("us-east-1")),
        profile = location.option("profile"),
        default_storage_class = location.option("storage-class"),
        access_key_id = access.get("access-key-id"),
        secret_access_key = access.get("secret-access-key"),
        session_token = access.get("session-token"),
        // What an object lock asks for with every object.
        checksum_algorithm = Some("md5"),
    );
    let is_given = access.get("access-key-id").is_some();
    config.disable_config_load = is_given || !access.own_ways;
    config.disable_ec2_metadata = is_given || !access.own_ways;
    config.enable_virtual_host_style = match location.option("style") {
        Some(style) => style == "virtual",
        // AWS has given up on paths for new buckets; others rarely have a name for each bucket.
        None => location.option("endpoint").is_none() && !location.bucket.contains('.'),
    };
    Operator::from_config(config)
}

#[cfg(feature = "remote-google")]
fn gcs(location: &Location, access: &Access) -> opendal::Result<Operator> {
    use base64::Engine as _;
    let mut config = opendal::services::GcsConfig::default();
    config.bucket.clone_from(&location.bucket);
    let credential = access.get("credential").map(|given| {
        let is_json = given.trim_start().starts_with('{');
        let encode = || base64::engine::general_purpose::STANDARD.encode(given);
        if is_json { encode() } else { given.to_owned() }
    });
    set!(
        config,
        root = Some(&location.root),
        endpoint = location.option("endpoint"),
        default_storage_class = location.option("storage-class"),
        credential = credential.as_deref(),
    );
    config.disable_config_load = !access.own_ways;
    config.disable_vm_metadata = !access.own_ways;
    Operator::from_config(config)
}

#[cfg(feature = "remote-azure")]
fn azblob(location: &Location, access: &Access) -> opendal::Result<Operator> {
    let mut config = opendal::services::AzblobConfig::default();
    config.container.clone_from(&location.bucket);
    let account = location.option("account");
    let endpoint = match (location.option("endpoint"), account) {
        (Some(endpoint), _) => Some(endpoint.to_owned()),
        (None, account) => account.map(|name| format!("https://{name}.blob.core.windows.net")),
    };
    set!(
        config,
        root = Some(&location.root),
        endpoint = endpoint.as_deref(),
        account_name = account,
        account_key = access.get("account-key"),
        sas_token = access
            .get("sas-token")
            .map(|token| token.trim_start_matches('?')),
    );
    Operator::from_config(config)
}

#[cfg(feature = "remote-b2")]
fn b2(location: &Location, access: &Access) -> opendal::Result<Operator> {
    let mut config = opendal::services::B2Config::default();
    config.bucket.clone_from(&location.bucket);
    config.bucket_id = location.option("bucket-id").unwrap_or_default().to_owned();
    set!(
        config,
        root = Some(&location.root),
        application_key_id = access.get("application-key-id"),
        application_key = access.get("application-key"),
    );
    Operator::from_config(config)
}

/// Describes an error that no answer of a server explains: of the configuration, of a credential
/// that could not be made, or of an answer that makes no sense.
pub(super) fn local(error: &opendal::Error) -> Failed {
    let mut said = error.message().to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        source = cause.source();
    }
    let lower = said.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let trouble = match error.kind() {
        ErrorKind::NotFound => Trouble::NotFound,
        ErrorKind::PermissionDenied => Trouble::Forbidden,
        ErrorKind::AlreadyExists | ErrorKind::ConditionNotMatch => Trouble::Exists,
        ErrorKind::RateLimited => Trouble::Busy,
        ErrorKind::Unsupported => Trouble::Unsupported,
        ErrorKind::RangeNotSatisfied => Trouble::Nonsense,
        ErrorKind::ConfigInvalid if has(&["credential", "token", "key"]) => Trouble::Credentials,
        ErrorKind::ConfigInvalid => Trouble::Other,
        _ if has(&["no space left", "quota exceeded"]) => Trouble::Full,
        _ if has(&["credential", "no valid", "load signing key"]) => Trouble::Credentials,
        _ if has(&["too little data", "too much data"]) => Trouble::Nonsense,
        _ if has(&[
            "deserialize",
            "parse",
            "decode",
            "xml",
            "json",
            "unexpected",
        ]) =>
        {
            Trouble::Nonsense
        }
        _ => Trouble::Other,
    };
    Failed::new(trouble, said)
}
