//! A range of an object: what asks for it, and what was answered.

use std::ops::Range;

use ureq::http::{Response, StatusCode};

use crate::disk::store::{StoreResult, too_short};

/// Returns the header that asks for a range.
pub(in crate::disk::store) fn range_header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end - 1)
}

/// Takes the part of an object that was asked for, whether the server gave that part or, knowing no
/// ranges, all of it.
pub(in crate::disk::store) fn part(
    answer: Response<Vec<u8>>,
    range: Option<Range<u64>>,
) -> StoreResult<Vec<u8>> {
    let is_part = answer.status() == StatusCode::PARTIAL_CONTENT;
    let content = answer.into_body();
    let Some(range) = range else {
        return Ok(content);
    };
    let bytes = content.len() as u64;
    let content = match is_part {
        true => content,
        false => {
            let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).ok());
            let part = start
                .zip(end)
                .and_then(|(start, end)| content.get(start..end));
            part.ok_or_else(|| too_short(bytes, range.end))?.to_vec()
        }
    };
    match content.len() as u64 == range.end - range.start {
        true => Ok(content),
        false => Err(too_short(range.start + content.len() as u64, range.end)),
    }
}
