//! Reads TOML, with a line number for every mistake.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    CaptureMode, Config, Criticality, GuardConfig, HooksConfig, McpConfig, NotifyConfig, OnFail,
    PrivacyConfig, Source, Summary, Unattended, Useless, VaultKey, closest, parse_size,
};
use crate::base::error::{Error, Result};
use crate::effects::Table;
use crate::model::retention::{COUNTS, Policy, parse_span};
use crate::model::rules::{Matcher, Rules, check_source_name, never_matches};
use crate::model::schedule::{Schedule, parse_clock, parse_day, parse_every};
use crate::privacy::Profile;

pub(super) fn read(text: &str, file: &str, home: Option<&Path>) -> Result<Config> {
    let reader = Reader { text, file, home };
    let table = DeTable::parse(text).map_err(|error| {
        let message = error
            .message()
            .lines()
            .next()
            .unwrap_or("not TOML")
            .to_owned();
        reader.error(error.span().unwrap_or(0..0), message, None)
    })?;
    reader.config(table.get_ref())
}

mod remote;

struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    home: Option<&'a Path>,
}

type Value<'i> = Spanned<DeValue<'i>>;

impl Reader<'_> {
    fn line(&self, span: Range<usize>) -> usize {
        let upto = span.start.min(self.text.len());
        let before = self.text.as_bytes()[..upto].iter();
        before.filter(|b| **b == b'\n').count() + 1
    }

    fn error(&self, span: Range<usize>, message: String, hint: Option<String>) -> Error {
        Error::Config {
            path: self.file.to_owned(),
            line: self.line(span),
            message,
            hint,
        }
    }

    fn config(&self, table: &DeTable<'_>) -> Result<Config> {
        self.known(
            table,
            "",
            &[
                "repository",
                "not_covered",
                "source",
                "guard",
                "hooks",
                "mcp",
                "retention",
                "schedule",
                "notify",
                "privacy",
                "remote",
            ],
        )?;
        let mut config = Config::default();
        if let Some(value) = table.get("repository") {
            config.repository = Some(self.path(value, "repository")?);
        }
        if let Some(value) = table.get("not_covered") {
            let wanted = "a list of paths, like [\"~/games\"]";
            let list = value.get_ref().as_array();
            let list = list.ok_or_else(|| self.wrong_type(value, "not_covered", wanted))?;
            for item in list.iter() {
                config.not_covered.push(self.path(item, "not_covered")?);
            }
        }
        if let Some(value) = table.get("source") {
            for (name, value) in self.table(value, "source")?.iter() {
                let source = self.source(name, value, &mut config.useless)?;
                config.sources.push(source);
            }
        }
        if let Some(value) = table.get("guard") {
            config.guard = self.guard(self.table(value, "guard")?)?;
        }
        if let Some(value) = table.get("hooks") {
            config.hooks = self.hooks(self.table(value, "hooks")?)?;
        }
        if let Some(value) = table.get("mcp") {
            config.mcp = self.mcp(self.table(value, "mcp")?)?;
        }
        if let Some(value) = table.get("retention") {
            config.retention = self.retention(self.table(value, "retention")?, value)?;
        }
        if let Some(value) = table.get("schedule") {
            config.schedule = Some(self.schedule(self.table(value, "schedule")?)?);
        }
        if let Some(value) = table.get("notify") {
            config.notify = self.notify(self.table(value, "notify")?)?;
        }
        if let Some(value) = table.get("privacy") {
            config.privacy = self.privacy(self.table(value, "privacy")?)?;
        }
        if let Some(value) = table.get("remote") {
            for (name, value) in self.table(value, "remote")?.iter() {
                config.remotes.push(self.remote(name, value)?);
            }
        }
        config.remotes.sort_by(|a, b| a.name.cmp(&b.name));
        config.sources.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(config)
    }

    fn source(
        &self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Value<'_>,
        useless: &mut Vec<Useless>,
    ) -> Result<Source> {
        let title = format!("source.{}", name.get_ref());
        check_source_name(name.get_ref())
            .map_err(|e| self.error(name.span(), e.to_string(), e.hint()))?;
        let table = self.table(value, &title)?;
        self.known(
            table,
            &title,
            &[
                "path",
                "include",
                "exclude",
                "rebuildable",
                "one_file_system",
                "criticality",
            ],
        )?;
        let Some(path) = table.get("path") else {
            let hint = "add path = \"~/…\" or an absolute path".to_owned();
            return Err(self.error(name.span(), format!("[{title}] has no `path`"), Some(hint)));
        };
        let source = Source {
            name: name.get_ref().to_string(),
            rules: self.rules(table)?,
            criticality: self.criticality(table)?,
            path: self.path(path, "path")?,
        };
        self.find_useless(&source, table, useless);
        Ok(source)
    }

    fn rules(&self, table: &DeTable<'_>) -> Result<Rules> {
        let mut rules = Rules::default();
        if let Some(value) = table.get("include") {
            rules.include = self.patterns(value, "include")?;
        }
        if let Some(value) = table.get("exclude") {
            rules.exclude = self.patterns(value, "exclude")?;
        }
        if let Some(value) = table.get("rebuildable") {
            rules.rebuildable = value
                .get_ref()
                .as_bool()
                .ok_or_else(|| self.wrong_type(value, "rebuildable", "true or false"))?;
        }
        if let Some(value) = table.get("one_file_system") {
            rules.one_file_system = value
                .get_ref()
                .as_bool()
                .ok_or_else(|| self.wrong_type(value, "one_file_system", "true or false"))?;
        }
        Ok(rules)
    }

    fn criticality(&self, table: &DeTable<'_>) -> Result<Criticality> {
        let Some(value) = table.get("criticality") else {
            return Ok(Criticality::default());
        };
        match self.string(value, "criticality")? {
            "irreplaceable" => Ok(Criticality::Irreplaceable),
            "tedious" => Ok(Criticality::Tedious),
            other => Err(self.no_such_word(value, other, &["irreplaceable", "tedious"])),
        }
    }

    /// Collects patterns that can never match. They are no error: a guard must work with the
    /// configuration that is there, and a backup of too much is better than none.
    fn find_useless(&self, source: &Source, table: &DeTable<'_>, useless: &mut Vec<Useless>) {
        for key in ["include", "exclude"] {
            let list = table.get(key).and_then(|value| value.get_ref().as_array());
            for item in list.into_iter().flat_map(|list| list.iter()) {
                let pattern = item.get_ref().as_str().unwrap_or_default();
                let mut excluded = source.rules.exclude.iter();
                let both = key == "include" && excluded.any(|out| out == pattern);
                let found = never_matches(pattern, source.path.to_str()).or_else(|| {
                    both.then(|| {
                        (
                            format!("the pattern `{pattern}` is included and excluded"),
                            "it would match nothing: remove one of the two".to_owned(),
                        )
                    })
                });
                if let Some((message, hint)) = found {
                    useless.push(Useless {
                        source: source.name.clone(),
                        line: self.line(item.span()),
                        message,
                        hint,
                    });
                }
            }
        }
    }

    fn guard(&self, table: &DeTable<'_>) -> Result<GuardConfig> {
        self.known(
            table,
            "guard",
            &[
                "on_fail",
                "max_bytes",
                "max_files",
                "max_kept",
                "capture",
                "summary",
                "rules",
            ],
        )?;
        let mut guard = GuardConfig::default();
        if let Some(value) = table.get("on_fail") {
            let word = self.string(value, "on_fail")?;
            guard.on_fail = OnFail::parse(word)
                .ok_or_else(|| self.no_such_word(value, word, &["block", "ask", "run"]))?;
        }
        if let Some(value) = table.get("max_bytes") {
            guard.max_bytes = self.size(value, "max_bytes")?;
        }
        if let Some(value) = table.get("max_files") {
            guard.max_files = self.integer(value).ok_or_else(|| {
                self.wrong_type(value, "max_files", "a whole number, like 200_000")
            })?;
        }
        if let Some(value) = table.get("max_kept") {
            guard.max_kept = self.size(value, "max_kept")?;
        }
        if let Some(value) = table.get("capture") {
            let word = self.string(value, "capture")?;
            guard.capture = CaptureMode::parse(word)
                .ok_or_else(|| self.no_such_word(value, word, &["off", "auto", "only"]))?;
        }
        if let Some(value) = table.get("summary") {
            let word = self.string(value, "summary")?;
            guard.summary = Summary::parse(word).ok_or_else(|| {
                self.no_such_word(value, word, &["auto", "always", "never", "json"])
            })?;
        }
        if let Some(value) = table.get("rules") {
            let wanted = "a list of strings, like [\"my.wipe | destructive | wipe | | args\"]";
            let list = value.get_ref().as_array();
            for item in list
                .ok_or_else(|| self.wrong_type(value, "rules", wanted))?
                .iter()
            {
                let rule = item.get_ref().as_str();
                let rule = rule.ok_or_else(|| self.wrong_type(item, "rules", wanted))?;
                if let Err(error) = Table::builtin().with(rule) {
                    let hint = "see docs/guard.md for the form of a rule".to_owned();
                    return Err(self.error(item.span(), error.reason, Some(hint)));
                }
                guard.rules.push(rule.to_owned());
            }
        }
        Ok(guard)
    }

    fn hooks(&self, table: &DeTable<'_>) -> Result<HooksConfig> {
        self.known(table, "hooks", &["mcp_tools"])?;
        let mut hooks = HooksConfig::default();
        if let Some(value) = table.get("mcp_tools") {
            let wanted = "a list of strings, like [\"deploy\", \"unregister\"]";
            let list = value.get_ref().as_array();
            let list = list.ok_or_else(|| self.wrong_type(value, "mcp_tools", wanted))?;
            hooks.mcp_tools.clear();
            for item in list.iter() {
                let word = item.get_ref().as_str();
                let word = word.ok_or_else(|| self.wrong_type(item, "mcp_tools", wanted))?;
                if word.is_empty() {
                    let hint = "remove it; an empty list watches no MCP tools".to_owned();
                    let message = "`mcp_tools` has an empty word".to_owned();
                    return Err(self.error(item.span(), message, Some(hint)));
                }
                hooks.mcp_tools.push(word.to_owned());
            }
        }
        Ok(hooks)
    }

    fn mcp(&self, table: &DeTable<'_>) -> Result<McpConfig> {
        self.known(table, "mcp", &["unattended"])?;
        let mut mcp = McpConfig::default();
        if let Some(value) = table.get("unattended") {
            let word = self.string(value, "unattended")?;
            mcp.unattended = Unattended::parse(word)
                .ok_or_else(|| self.no_such_word(value, word, &Unattended::WORDS))?;
        }
        Ok(mcp)
    }

    fn retention(&self, table: &DeTable<'_>, section: &Value<'_>) -> Result<Policy> {
        let counts = COUNTS.iter().map(|rule| rule.key);
        let others = [
            "keep_within",
            "keep_tags",
            "guard_within",
            "guard_bytes",
            "max_size",
        ];
        let keys: Vec<&str> = counts.chain(others).collect();
        self.known(table, "retention", &keys)?;
        let mut policy = Policy::default();
        self.keeps(table, &mut policy)?;
        if let Some(value) = table.get("guard_within") {
            policy.guard_within = self.span(value, "guard_within")?;
        }
        if let Some(value) = table.get("guard_bytes") {
            policy.guard_bytes = self.size(value, "guard_bytes")?;
        }
        if let Some(value) = table.get("max_size") {
            policy.max_bytes = match value.get_ref().as_str() {
                Some("auto") => None,
                _ => Some(self.size(value, "max_size")?),
            };
        }
        policy
            .check()
            .map_err(|error| self.error(section.span(), error.to_string(), error.hint()))?;
        Ok(policy)
    }

    /// Reads the rules that keep backups.
    fn keeps(&self, table: &DeTable<'_>, policy: &mut Policy) -> Result<()> {
        for rule in &COUNTS {
            if let Some(value) = table.get(rule.key) {
                let number = self.integer(value).and_then(|n| u32::try_from(n).ok());
                *(rule.place)(policy) =
                    number.ok_or_else(|| self.wrong_type(value, rule.key, "a whole number"))?;
            }
        }
        if let Some(value) = table.get("keep_within") {
            policy.within = Some(self.span(value, "keep_within")?);
        }
        if let Some(value) = table.get("keep_tags") {
            let wanted = "a list of strings, like [\"release\"]";
            let list = value.get_ref().as_array();
            for item in list
                .ok_or_else(|| self.wrong_type(value, "keep_tags", wanted))?
                .iter()
            {
                let tag = item.get_ref().as_str();
                let tag = tag.ok_or_else(|| self.wrong_type(item, "keep_tags", wanted))?;
                policy.tags.push(tag.to_owned());
            }
        }
        Ok(())
    }

    fn privacy(&self, table: &DeTable<'_>) -> Result<PrivacyConfig> {
        self.known(
            table,
            "privacy",
            &["profile", "allow", "vault", "published"],
        )?;
        let mut privacy = PrivacyConfig::default();
        if let Some(value) = table.get("profile") {
            let word = self.string(value, "profile")?;
            privacy.profile = Profile::from_word(word)
                .ok_or_else(|| self.no_such_word(value, word, &Profile::WORDS))?;
        }
        if let Some(value) = table.get("vault") {
            let word = self.string(value, "vault")?;
            privacy.vault = VaultKey::from_word(word)
                .ok_or_else(|| self.no_such_word(value, word, &VaultKey::WORDS))?;
        }
        if let Some(value) = table.get("published") {
            let flag = value.get_ref().as_bool();
            privacy.seal_published =
                !flag.ok_or_else(|| self.wrong_type(value, "published", "true or false"))?;
        }
        if let Some(value) = table.get("allow") {
            let wanted = "a list of strings: fingerprints and paths";
            let list = value.get_ref().as_array();
            for item in list
                .ok_or_else(|| self.wrong_type(value, "allow", wanted))?
                .iter()
            {
                let text = item.get_ref().as_str();
                let text = text.ok_or_else(|| self.wrong_type(item, "allow", wanted))?;
                privacy.allow.push(text.to_owned());
            }
        }
        Ok(privacy)
    }

    fn schedule(&self, table: &DeTable<'_>) -> Result<Schedule> {
        self.known(
            table,
            "schedule",
            &["at", "every", "full", "drill", "max_age"],
        )?;
        let mut schedule = Schedule::default();
        if let Some(value) = table.get("at") {
            let text = self.string(value, "at")?;
            schedule.at = parse_clock(text).map_err(|e| self.error(value.span(), e, None))?;
        }
        if let Some(value) = table.get("every") {
            let text = self.string(value, "every")?;
            schedule.every = parse_every(text).map_err(|e| self.error(value.span(), e, None))?;
        }
        for (key, place) in [("full", &mut schedule.full), ("drill", &mut schedule.drill)] {
            if let Some(value) = table.get(key) {
                let text = self.string(value, key)?;
                *place = parse_day(text).map_err(|e| self.error(value.span(), e, None))?;
            }
        }
        if let Some(value) = table.get("max_age") {
            schedule.max_age = self.span(value, "max_age")?;
            if schedule.max_age < chrono::TimeDelta::hours(1) {
                let message = "`max_age` is less than an hour".to_owned();
                let hint = Some("write \"26h\", which is a day and a little, or more".to_owned());
                return Err(self.error(value.span(), message, hint));
            }
        }
        Ok(schedule)
    }

    fn notify(&self, table: &DeTable<'_>) -> Result<NotifyConfig> {
        let keys = [
            "desktop",
            "healthchecks",
            "ntfy",
            "webhook",
            "command",
            "prometheus",
        ];
        self.known(table, "notify", &keys)?;
        let mut notify = NotifyConfig::default();
        if let Some(value) = table.get("desktop") {
            let flag = value.get_ref().as_bool();
            notify.desktop =
                flag.ok_or_else(|| self.wrong_type(value, "desktop", "true or false"))?;
        }
        for (key, place) in [
            ("healthchecks", &mut notify.healthchecks),
            ("ntfy", &mut notify.ntfy),
            ("webhook", &mut notify.webhook),
        ] {
            if let Some(value) = table.get(key) {
                let url = self.string(value, key)?;
                let rest = url
                    .strip_prefix("https://")
                    .or_else(|| url.strip_prefix("http://"));
                if rest.is_none_or(|rest| rest.trim_matches('/').is_empty()) {
                    let message = format!("`{key}` is not an http(s) URL");
                    return Err(self.error(value.span(), message, None));
                }
                *place = Some(url.trim_end_matches('/').to_owned());
            }
        }
        if let Some(value) = table.get("command") {
            let wanted = "a list of strings, like [\"/usr/local/bin/tell-me\", \"--urgent\"]";
            let list = value.get_ref().as_array();
            for item in list
                .ok_or_else(|| self.wrong_type(value, "command", wanted))?
                .iter()
            {
                let word = item.get_ref().as_str();
                let word = word.ok_or_else(|| self.wrong_type(item, "command", wanted))?;
                notify.command.push(word.to_owned());
            }
        }
        if let Some(value) = table.get("prometheus") {
            notify.prometheus = Some(self.path(value, "prometheus")?);
        }
        Ok(notify)
    }

    fn span(&self, value: &Value<'_>, key: &str) -> Result<chrono::TimeDelta> {
        let text = self.string(value, key)?;
        parse_span(text).map_err(|message| self.error(value.span(), message, None))
    }

    /// Refuses unknown keys: most are typing mistakes that would leave something unprotected.
    fn known(&self, table: &DeTable<'_>, title: &str, keys: &[&str]) -> Result<()> {
        let mut unknown: Vec<_> = table
            .keys()
            .filter(|key| !keys.contains(&key.get_ref().as_ref()))
            .collect();
        unknown.sort_by_key(|key| key.span().start);
        let Some(key) = unknown.first() else {
            return Ok(());
        };
        let place = if title.is_empty() {
            String::new()
        } else {
            format!(" in [{title}]")
        };
        let hint = match closest(key.get_ref(), keys) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", keys.join(", ")),
        };
        Err(self.error(
            key.span(),
            format!("unknown key `{}`{place}", key.get_ref()),
            Some(hint),
        ))
    }

    fn wrong_type(&self, value: &Value<'_>, key: &str, wanted: &str) -> Error {
        let found = value.get_ref().type_str();
        self.error(
            value.span(),
            format!("`{key}` must be {wanted}, not {found}"),
            None,
        )
    }

    fn no_such_word(&self, value: &Value<'_>, word: &str, words: &[&str]) -> Error {
        let hint = match closest(word, words) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write one of: {}", words.join(", ")),
        };
        self.error(
            value.span(),
            format!("`{word}` is not one of the choices"),
            Some(hint),
        )
    }

    fn table<'t, 'i>(&self, value: &'t Value<'i>, key: &str) -> Result<&'t DeTable<'i>> {
        let hint = format!("a table [{key}]");
        value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.wrong_type(value, key, &hint))
    }

    fn string<'t>(&self, value: &'t Value<'_>, key: &str) -> Result<&'t str> {
        value
            .get_ref()
            .as_str()
            .ok_or_else(|| self.wrong_type(value, key, "a string"))
    }

    fn integer(&self, value: &Value<'_>) -> Option<u64> {
        let integer = value.get_ref().as_integer()?;
        u64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    fn size(&self, value: &Value<'_>, key: &str) -> Result<u64> {
        if let Some(bytes) = self.integer(value) {
            return Ok(bytes);
        }
        let Some(text) = value.get_ref().as_str() else {
            return Err(self.wrong_type(value, key, "a size, like \"512M\""));
        };
        parse_size(text).map_err(|message| {
            self.error(
                value.span(),
                message,
                Some("write a size like \"512M\" or \"250G\"".into()),
            )
        })
    }

    fn path(&self, value: &Value<'_>, key: &str) -> Result<PathBuf> {
        let text = self.string(value, key)?;
        let hint = "write an absolute path, or one that begins with ~/";
        let wrong = |message: String| self.error(value.span(), message, Some(hint.to_owned()));
        if text.contains('\0') {
            return Err(wrong(format!("`{key}` contains a NUL byte")));
        }
        let path = match (text.strip_prefix('~'), self.home) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                home.join(rest.trim_start_matches('/'))
            }
            (Some(""), None) => {
                return Err(wrong(
                    "there is no home directory to replace `~`".to_owned(),
                ));
            }
            (Some(rest), None) if rest.starts_with('/') => {
                return Err(wrong(
                    "there is no home directory to replace `~`".to_owned(),
                ));
            }
            _ => PathBuf::from(text),
        };
        if !path.is_absolute() {
            return Err(wrong(format!("`{text}` is not an absolute path")));
        }
        if path
            .components()
            .any(|c| c == std::path::Component::ParentDir)
        {
            return Err(wrong(format!("`{text}` contains `..`")));
        }
        Ok(crate::base::path::absolute(Path::new("/"), &path))
    }

    fn patterns(&self, value: &Value<'_>, key: &str) -> Result<Vec<String>> {
        let wanted = "a list of strings, like [\"a\", \"b/*.json\"]";
        let list = value
            .get_ref()
            .as_array()
            .ok_or_else(|| self.wrong_type(value, key, wanted))?;
        let mut patterns = Vec::with_capacity(list.len());
        for item in list.iter() {
            let pattern = item.get_ref().as_str();
            let pattern = pattern.ok_or_else(|| self.wrong_type(item, key, "a list of strings"))?;
            let wrong = |message: String, hint: &str| {
                Err(self.error(item.span(), message, Some(hint.to_owned())))
            };
            if pattern.trim_matches('/').is_empty() {
                return wrong(format!("`{key}` has an empty pattern"), "remove it");
            }
            if pattern.split('/').any(|part| part == "..") {
                return wrong(
                    format!("the pattern `{pattern}` contains `..`"),
                    "patterns are relative to the source's path",
                );
            }
            if pattern.starts_with('~') {
                return wrong(
                    format!("the pattern `{pattern}` is not relative to the source's path"),
                    "write it relative to `path`",
                );
            }
            let rules = Rules {
                include: vec![pattern.to_owned()],
                ..Rules::default()
            };
            if let Err(error) = Matcher::new(&rules) {
                return wrong(
                    error.to_string(),
                    "see bdr help config for what a pattern can be",
                );
            }
            patterns.push(pattern.to_owned());
        }
        Ok(patterns)
    }
}
