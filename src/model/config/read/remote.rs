//! Reads `[remote.NAME]`.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::DeTable;

use super::{Reader, Value};
use crate::base::error::Result;
use crate::model::config::remote::{FLOOR, Remote, check_remote_name};
use crate::model::retention::{COUNTS, Policy};

impl Reader<'_> {
    pub(super) fn remote(&self, name: &Spanned<Cow<'_, str>>, value: &Value<'_>) -> Result<Remote> {
        let title = format!("remote.{}", name.get_ref());
        check_remote_name(name.get_ref())
            .map_err(|message| self.error(name.span(), message, None))?;
        let table = self.table(value, &title)?;
        let counts = COUNTS.iter().map(|rule| rule.key);
        let keeps: Vec<&str> = counts.chain(["keep_within", "keep_tags"]).collect();
        let others = ["url", "encrypt", "recipients", "limit", "automatic", "sync"];
        self.known(table, &title, &[&others[..], &keeps[..]].concat())?;
        let Some(url) = table.get("url") else {
            let hint =
                "add url = \"s3://bucket/prefix\", or what bdr remote services lists".to_owned();
            let message = format!("[{title}] has no `url`");
            return Err(self.error(name.span(), message, Some(hint)));
        };
        let text = self.address(url)?;
        let mut remote = Remote::new(name.get_ref(), text);
        if let Some(value) = table.get("recipients") {
            let wanted = "a list of strings, like [\"age1…\"]";
            let list = value.get_ref().as_array();
            for item in list
                .ok_or_else(|| self.wrong_type(value, "recipients", wanted))?
                .iter()
            {
                let word = item.get_ref().as_str();
                let word = word.ok_or_else(|| self.wrong_type(item, "recipients", wanted))?;
                if word.starts_with("AGE-SECRET-KEY-") {
                    let message = "this is a secret key: it must not be here".to_owned();
                    let hint = "write the public one, which begins with age1".to_owned();
                    return Err(self.error(item.span(), message, Some(hint)));
                }
                remote.recipients.push(word.to_owned());
            }
        }
        if let Some(value) = table.get("sync") {
            let wanted = "a list of machines, like [\"laptop\"]";
            let list = value.get_ref().as_array();
            for item in list.ok_or_else(|| self.wrong_type(value, "sync", wanted))? {
                let word = item.get_ref().as_str();
                let word = word.ok_or_else(|| self.wrong_type(item, "sync", wanted))?;
                remote.sync.push(word.to_owned());
            }
        }
        if let Some(value) = table.get("limit") {
            remote.limit = Some(self.size(value, "limit")?).filter(|limit| *limit > 0);
        }
        let flag = |key: &str, default: bool| match table.get(key) {
            None => Ok(default),
            Some(value) => {
                let flag = value.get_ref().as_bool();
                flag.ok_or_else(|| self.wrong_type(value, key, "true or false"))
            }
        };
        remote.automatic = flag("automatic", true)?;
        if keeps.iter().any(|key| table.get(*key).is_some()) {
            remote.keep = Some(self.kept(name, table)?);
        }
        let encrypt = flag("encrypt", !remote.recipients.is_empty())?;
        // Said twice, so that nobody pushes in the clear by leaving out a line.
        if encrypt == remote.recipients.is_empty() {
            let message = match encrypt {
                true => format!("[{title}] is to be encrypted, and has no `recipients`"),
                false => format!("[{title}] has `recipients`, and is not to be encrypted"),
            };
            let hint = "add recipients = [\"age1…\"] (bdr remote add makes a key), or encrypt = false without recipients".to_owned();
            return Err(self.error(name.span(), message, Some(hint)));
        }
        if remote.recipients.is_empty()
            && table.get("encrypt").is_none()
            && !text.starts_with("file://")
        {
            let message = format!("[{title}] does not say who can read it");
            let hint = "add recipients = [\"age1…\"], or encrypt = false".to_owned();
            return Err(self.error(name.span(), message, Some(hint)));
        }
        Ok(remote)
    }

    fn address<'v>(&self, url: &'v Value<'_>) -> Result<&'v str> {
        let text = self.string(url, "url")?;
        let rest = text.split_once("://").map_or("", |(_, rest)| rest);
        if rest.is_empty() {
            let hint = "write it like s3://bucket/prefix or file:///mnt/disk".to_owned();
            return Err(self.error(url.span(), "`url` is no URL".to_owned(), Some(hint)));
        }
        Ok(text)
    }

    /// Reads what stays there.
    fn kept(&self, name: &Spanned<Cow<'_, str>>, table: &DeTable<'_>) -> Result<Policy> {
        let mut policy = Policy {
            within: Some(FLOOR),
            ..Policy::nothing()
        };
        self.keeps(table, &mut policy)?;
        policy
            .check()
            .map_err(|error| self.error(name.span(), error.to_string(), error.hint()))?;
        Ok(policy)
    }
}
