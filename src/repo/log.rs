//! The operation log as files: written, listed, read.

use chrono::{DateTime, Utc};

use super::oplog::{self, Begin, End, Operation};
use super::{Repository, layout};
use crate::base::error::{Error, Result};
use crate::base::id::{Id, OperationId};

/// Which operations have records, each list sorted.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) begun: Vec<OperationId>,
    pub(crate) ended: Vec<OperationId>,
}

impl Repository {
    /// Writes the begin record of an operation.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn begin(&self, begin: &Begin) -> Result<()> {
        self.put_bound(&layout::begin(begin.id), begin)
    }

    /// Writes the end record of an operation.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn end(&self, end: &End) -> Result<()> {
        self.put(&layout::end(end.id), &self.encoded_end(end)?)
    }

    /// Returns the bytes of an end record. If there are more changes than a record can hold, it only
    /// says that something changed; an undo finds them by comparing.
    pub(super) fn encoded_end(&self, end: &End) -> Result<Vec<u8>> {
        match self.encoded(end) {
            Err(Error::Unrecordable { .. }) => self.encoded(&end.in_short()),
            other => other,
        }
    }

    /// Returns a new operation id that sorts after all others, even if the clock went backwards.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn next_operation(&self, now: DateTime<Utc>) -> Result<OperationId> {
        let ids = self.operation_ids()?;
        let last = ids.into_iter().rfind(|id| id.is_dated());
        Ok(Id::after(last, now))
    }

    /// Lists the operation log without reading it.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub(crate) fn names_of_operations(&self) -> Result<Names> {
        let mut found = Names::default();
        for name in self.names("operations")? {
            let begun = name.strip_suffix(".begin.json");
            let ended = name.strip_suffix(".end.json");
            let id = |text: Option<&str>| text.and_then(|text| text.parse::<OperationId>().ok());
            found.begun.extend(id(begun));
            found.ended.extend(id(ended));
        }
        found.begun.sort_unstable();
        found.ended.sort_unstable();
        Ok(found)
    }

    /// Returns begin records without an end record, oldest first; unreadable ones are in
    /// [`Repository::unreadable`].
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn unfinished_operations(&self) -> Result<Vec<Begin>> {
        let names = self.names("operations")?;
        let unfinished = names.iter().filter(|name| {
            let id = name.strip_suffix(".begin.json");
            id.is_some_and(|id| names.binary_search(&format!("{id}.end.json")).is_err())
        });
        let read = unfinished.filter_map(|name| {
            let name = format!("operations/{name}");
            self.listed(&name, self.read_record::<Begin>(&name)).ok()?
        });
        Ok(read.filter(|begin| begin.repository == self.id).collect())
    }

    /// Returns the ids of all operations, oldest first, without reading them.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn operation_ids(&self) -> Result<Vec<OperationId>> {
        Ok(self.names_of_operations()?.begun)
    }

    /// Returns the operation log, oldest first; unreadable records are in
    /// [`Repository::unreadable`].
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn operations(&self) -> Result<Vec<Operation>> {
        let mut operations = self.read_operations(self.operation_ids()?);
        let pinned = self.pinned()?;
        for operation in operations.iter_mut().filter(|_| !pinned.is_empty()) {
            operation.pinned = pinned.contains(&operation.begin.id);
        }
        oplog::mark_undone(&mut operations);
        Ok(operations)
    }

    /// Returns the operations after one, oldest first, without determining which are undone.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn operations_after(&self, id: OperationId) -> Result<Vec<Operation>> {
        let mut ids = self.operation_ids()?;
        ids.retain(|other| *other > id);
        Ok(self.read_operations(ids))
    }

    pub(super) fn read_operations(&self, ids: Vec<OperationId>) -> Vec<Operation> {
        let mut operations = Vec::new();
        for id in ids {
            let name = layout::begin(id);
            let Ok(Some(begin)) = self.listed(&name, self.read_record::<Begin>(&name)) else {
                continue;
            };
            // An operation without an end was interrupted. One with an unreadable end looks the
            // same, so it is noted.
            let name = layout::end(id);
            let end = self.listed(&name, self.read_record::<End>(&name));
            let end = end.ok().flatten();
            if begin.repository == self.id && begin.id == id {
                let ended = end.as_ref().map(|end| end.bound.as_ref());
                let (origin, is_ours) = self.recorded_by(id, begin.bound.as_ref(), ended);
                operations.push(Operation {
                    begin,
                    end,
                    undone_by: None,
                    partly: None,
                    pinned: false,
                    origin,
                    is_ours,
                });
            }
        }
        operations
    }
}
