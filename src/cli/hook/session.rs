//! What an agent hears in a captured session. The guard above it records each command by itself; the
//! hook takes no snapshot, and after a tool says what the new records have.

use bdr::base::id::OperationId;
use bdr::disk::fsutil;
use bdr::model::agent::{Answer, Host, Moment, Reply};
use bdr::repo::Repository;
use bdr::repo::oplog::Operation;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Hook;
use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::guard::uncaptured;

/// What was told, in the cache.
const FILE: &str = "told.json";
/// So many of the newest operations are looked at: those of the last call are among them.
const NEWEST: usize = 64;
/// More operations are counted, not told.
const MOST: usize = 3;

/// So many sessions are remembered.
const SESSIONS: usize = 16;

/// Until when the operations of sessions are told.
#[derive(Default, Serialize, Deserialize)]
struct Told {
    sessions: Vec<(OperationId, DateTime<Utc>)>,
}

impl Told {
    fn read(cx: &Context) -> Self {
        let json = fsutil::read_derived(&cx.places.cache.join(FILE));
        json.and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default()
    }

    fn until(&self, session: OperationId) -> Option<DateTime<Utc>> {
        let own = self.sessions.iter().find(|(known, _)| *known == session);
        own.map(|(_, until)| *until)
    }

    fn write(mut self, cx: &Context, session: OperationId, until: DateTime<Utc>) {
        self.sessions.retain(|(known, _)| *known != session);
        let over = (self.sessions.len() + 1).saturating_sub(SESSIONS);
        self.sessions.drain(..over);
        self.sessions.push((session, until));
        let json = serde_json::to_vec(&self).unwrap_or_default();
        // Without it, the next call has nothing to tell.
        let _ = fsutil::write_derived(&cx.places.cache.join(FILE), &json);
    }
}

impl Hook<'_> {
    /// Answers an event below a guard that captures it; `None` if there is no such guard.
    pub(super) fn in_session(&self) -> Option<Reply> {
        if !uncaptured::may_be_captured() {
            return None;
        }
        let cx = self.context().ok()?;
        let repo = cx.repository().ok()?;
        let session = uncaptured::captured_by(&repo)?;
        let told = Told::read(&cx);
        let said = match (self.event.moment, told.until(session)) {
            _ if self.host == Host::Shell => None,
            (Moment::Before, None) => {
                told.write(&cx, session, cx.now);
                None
            }
            (Moment::After, Some(until)) => {
                let new = self.new_in(&cx, &repo, session, until).ok();
                new.and_then(|(said, now)| {
                    told.write(&cx, session, now);
                    said
                })
            }
            _ => None,
        };
        Some(match said {
            Some(said) => self.say(Answer::Lost(&said)),
            None => self.say(Answer::Silence),
        })
    }

    /// Returns what is worth knowing of the operations that were recorded after a time, and until
    /// when that is.
    fn new_in(
        &self,
        cx: &Context,
        repo: &Repository,
        session: OperationId,
        mut until: DateTime<Utc>,
    ) -> Result<(Option<String>, DateTime<Utc>), Failure> {
        let ids = repo.operation_ids()?;
        let from = ids.len().checked_sub(NEWEST + 1).map(|at| ids[at]);
        let mut new = repo.operations_after(from.unwrap_or(session))?;
        let ended = |operation: &Operation| operation.end.as_ref().map(|end| end.time);
        new.retain(|operation| {
            operation.begin.session == Some(session)
                && !operation.is_session()
                && ended(operation).is_some_and(|end| end > until)
        });
        let mut lines = Vec::new();
        for operation in &new {
            until = until.max(ended(operation).unwrap_or(until));
            if let Some(what) = self.told(cx, repo, operation) {
                let short = operation.begin.id.prefix(&ids);
                lines.push(format!("{what}; undo with `bdr undo {short}`"));
            }
        }
        let more = lines.len().saturating_sub(MOST);
        lines.truncate(MOST);
        if more > 0 {
            lines.push(format!("and {more} more: bdr log"));
        }
        Ok(((!lines.is_empty()).then(|| lines.join("; ")), until))
    }
}
