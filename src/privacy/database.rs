//! Reads tables of a SQLite database for what their columns say, within bounds.
//!
//! Straight from the pages (<https://www.sqlite.org/fileformat2.html>), because what is looked at may be
//! made to do harm. What is damaged or not here (a database in parts, its `-wal`) is passed over.

use super::phi::Columns;
use super::words::{Strength, strength};
use super::{Finding, Group, Profile, secrets};

const MAGIC: &[u8] = b"SQLite format 3\0";

/// Most tables that are read, rows of each, and pages and rows in all.
const TABLES: usize = 256;
const ROWS: usize = 1000;
const STEPS: usize = 300_000;
/// Longest value that is read, in bytes.
const VALUE: usize = 16 << 10;
const DEEPEST: usize = 12;

pub(super) struct Table {
    pub(super) name: Vec<u8>,
    pub(super) columns: Vec<Vec<u8>>,
    root: u32,
}

/// A database in memory, or the beginning of one.
pub(super) struct Database<'t> {
    bytes: &'t [u8],
    page: usize,
    /// Bytes of a page that are used.
    usable: usize,
    wide: Option<Wide>,
    left: std::cell::Cell<usize>,
}

#[derive(Clone, Copy)]
enum Wide {
    Little,
    Big,
}

/// A value in text; numbers in decimals.
type Value = Vec<u8>;

impl<'t> Database<'t> {
    pub(super) fn open(bytes: &'t [u8]) -> Option<Self> {
        let head = bytes.get(..100)?;
        if !head.starts_with(MAGIC) {
            return None;
        }
        let page = match u16::from_be_bytes([head[16], head[17]]) {
            1 => 65536,
            size if size >= 512 && size.is_power_of_two() => usize::from(size),
            _ => return None,
        };
        Some(Self {
            bytes,
            page,
            usable: page
                .checked_sub(usize::from(head[20]))
                .filter(|n| *n >= 480)?,
            wide: match head[59] {
                2 => Some(Wide::Little),
                3 => Some(Wide::Big),
                _ => None,
            },
            left: std::cell::Cell::new(STEPS),
        })
    }

    /// Returns the tables with their columns, as the schema says.
    pub(super) fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        self.rows(1, &mut |row| {
            if let [kind, name, _, root, sql, ..] = row
                && kind.as_slice() == b"table"
                && let Some(root) = number(root)
                && root > 0
            {
                let columns = columns_of(sql);
                if !columns.is_empty() {
                    tables.push(Table {
                        name: name.clone(),
                        columns,
                        root,
                    });
                }
            }
            tables.len() < TABLES
        });
        tables
    }

    /// Passes the first rows of a table to `each`, until it returns false.
    pub(super) fn each_row(&self, table: &Table, each: &mut dyn FnMut(&[Value]) -> bool) {
        let mut rows = 0;
        self.rows(table.root, &mut |row| {
            rows += 1;
            each(row) && rows < ROWS
        });
    }

    fn rows(&self, root: u32, each: &mut dyn FnMut(&[Value]) -> bool) {
        self.walk(root, 0, each);
    }

    /// Walks a tree of a table in order. Returns false if it is enough.
    fn walk(&self, number: u32, depth: usize, each: &mut dyn FnMut(&[Value]) -> bool) -> bool {
        let Some(page) = self.page(number).filter(|_| depth <= DEEPEST) else {
            return true;
        };
        let start = if number == 1 { 100 } else { 0 };
        let head = &page[start..];
        let cells = usize::from(u16_at(head, 3));
        let (leaf, list) = match head.first() {
            Some(0x0d) => (true, start + 8),
            Some(0x05) => (false, start + 12),
            _ => return true,
        };
        for cell in 0..cells {
            let at = usize::from(u16_at(page, list + 2 * cell));
            let Some(cell) = page.get(at..).filter(|cell| cell.len() >= 4) else {
                continue;
            };
            let goes_on = match leaf {
                true => self.record(cell).is_none_or(|row| each(&row)),
                false => self.walk(u32_at(cell, 0), depth + 1, each),
            };
            if !goes_on {
                return false;
            }
        }
        leaf || self.walk(u32_at(head, 8), depth + 1, each)
    }

    fn page(&self, number: u32) -> Option<&'t [u8]> {
        self.step()?;
        let from = (number as usize).checked_sub(1)?.checked_mul(self.page)?;
        self.bytes.get(from..from.checked_add(self.page)?)
    }

    /// `None` if it is enough.
    fn step(&self) -> Option<()> {
        self.left.set(self.left.get().checked_sub(1)?);
        Some(())
    }

    /// Reads a row.
    fn record(&self, cell: &[u8]) -> Option<Vec<Value>> {
        self.step()?;
        let (size, length) = varint(cell)?;
        let (_, row) = varint(&cell[length..])?;
        let payload = self.payload(cell.get(length + row..)?, usize::try_from(size).ok()?)?;
        let (head, mut at) = varint(&payload)?;
        let head = usize::try_from(head).ok()?;
        let mut value = head;
        let mut row = Vec::new();
        while at < head && row.len() < 512 {
            let (kind, length) = varint(payload.get(at..)?)?;
            at += length;
            let size = match kind {
                0 | 8 | 9 => 0,
                1..=4 => usize::try_from(kind).ok()?,
                5 => 6,
                6 | 7 => 8,
                10 | 11 => return None,
                _ => usize::try_from((kind - 12) / 2).ok()?,
            };
            let bytes = payload.get(value..value.checked_add(size)?);
            // The rest of a long row is not read.
            row.push(bytes.map_or_else(Vec::new, |bytes| self.text(kind, bytes)));
            value += size;
        }
        Some(row)
    }

    fn text(&self, kind: u64, bytes: &[u8]) -> Value {
        match kind {
            1..=6 => {
                let sign = bytes.first().is_some_and(|b| b & 0x80 != 0);
                let start = if sign { -1_i64 } else { 0 };
                let number = bytes.iter().fold(start, |n, b| n << 8 | i64::from(*b));
                number.to_string().into_bytes()
            }
            8 => b"0".to_vec(),
            9 => b"1".to_vec(),
            kind if kind >= 13 && kind % 2 == 1 => match self.wide {
                None => bytes[..bytes.len().min(VALUE)].to_vec(),
                Some(wide) => {
                    let pairs = bytes[..bytes.len().min(VALUE)].chunks_exact(2);
                    let units = pairs.map(|pair| match wide {
                        Wide::Little => u16::from_le_bytes([pair[0], pair[1]]),
                        Wide::Big => u16::from_be_bytes([pair[0], pair[1]]),
                    });
                    let text: String = char::decode_utf16(units)
                        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                        .collect();
                    text.into_bytes()
                }
            },
            _ => Vec::new(),
        }
    }

    /// Returns the first bytes of a payload: on the page of the cell, and in a chain of others.
    fn payload(&self, cell: &[u8], size: usize) -> Option<Vec<u8>> {
        let most = self.usable - 35;
        let least = (self.usable - 12) * 32 / 255 - 23;
        let local = match size {
            size if size <= most => size,
            size => match least + (size - least) % (self.usable - 4) {
                fitting if fitting <= most => fitting,
                _ => least,
            },
        };
        let mut payload = cell.get(..local)?.to_vec();
        let mut next = if local < size { u32_at(cell, local) } else { 0 };
        while payload.len() < size.min(VALUE) && next != 0 {
            let Some(page) = self.page(next) else { break };
            let more = (size - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(&page[4..4 + more]);
            next = u32_at(page, 0);
        }
        Some(payload)
    }
}

/// Finds what the columns of a database say: patients, and values under the name of a secret. The
/// ranges are the whole file, because nothing can be cut out of it; one finding of each kind.
pub(super) fn scan(bytes: &[u8], profile: Profile, found: &mut Vec<Finding>) {
    let Some(database) = Database::open(bytes) else {
        return;
    };
    let mut add = |kind: &'static str, group: Group| {
        if !found.iter().any(|one| one.kind == kind) {
            found.push(Finding {
                range: 0..bytes.len(),
                group,
                kind,
            });
        }
    };
    let strict = profile == Profile::Strict;
    for table in database.tables() {
        let persons = match profile {
            Profile::Off => None,
            _ => Columns::of(&table.name, &table.columns, strict),
        };
        let is_secret = |name: &&Vec<u8>| strength(name) >= Strength::Token;
        let mut names: Vec<Option<&Vec<u8>>> = table.columns.iter().map(Some).collect();
        names
            .iter_mut()
            .for_each(|name| *name = name.filter(is_secret));
        if persons.is_none() && names.iter().all(Option::is_none) {
            continue;
        }
        database.each_row(&table, &mut |row| {
            for (kind, group) in persons.iter().flat_map(|columns| columns.kinds(row)) {
                add(kind, group);
            }
            for (name, value) in names.iter().zip(row) {
                if name.is_some_and(|name| secrets::is_value_of(name, value, strict)) {
                    add("column", Group::Secret);
                }
            }
            true
        });
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let both = bytes.get(at..at + 2);
    both.map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let all = bytes.get(at..at + 4);
    all.map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

/// Returns a number of variable length, and how long it is.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            return Some((value << 8 | u64::from(*byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Returns the names of the columns that a row has, from the `CREATE TABLE` of a table.
fn columns_of(sql: &[u8]) -> Vec<Vec<u8>> {
    let Some(open) = memchr::memchr(b'(', sql) else {
        return Vec::new();
    };
    let mut parts: Vec<&[u8]> = Vec::new();
    let (mut depth, mut quote, mut from) = (0_usize, 0_u8, open + 1);
    for (at, byte) in sql.iter().enumerate().skip(open) {
        match byte {
            _ if quote == *byte => quote = 0,
            _ if quote != 0 => {}
            b'"' | b'\'' | b'`' => quote = *byte,
            b'[' => quote = b']',
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => {
                parts.push(&sql[from..at]);
                from = at + 1;
            }
            _ => {}
        }
        if depth == 0 && *byte == b')' {
            parts.push(&sql[from..at]);
            break;
        }
    }
    parts.into_iter().filter_map(column_of).collect()
}

fn column_of(part: &[u8]) -> Option<Vec<u8>> {
    const NO_NAMES: [&[u8]; 5] = [b"constraint", b"primary", b"unique", b"check", b"foreign"];
    let part = part.trim_ascii();
    let (name, rest) = match part.first()? {
        open @ (b'"' | b'`' | b'\'' | b'[') => {
            let close = if *open == b'[' { b']' } else { *open };
            let end = memchr::memchr(close, &part[1..])? + 1;
            (&part[1..end], &part[end + 1..])
        }
        _ => {
            let is_end = |b: &u8| b.is_ascii_whitespace() || *b == b'(';
            let end = part.iter().position(is_end).unwrap_or(part.len());
            let name = &part[..end];
            if NO_NAMES.iter().any(|word| name.eq_ignore_ascii_case(word)) {
                return None;
            }
            (name, &part[end..])
        }
    };
    // It is computed when it is asked for.
    let lower = rest.to_ascii_lowercase();
    let has = |what: &[u8]| memchr::memmem::find(&lower, what).is_some();
    let is_computed = (has(b" as (") || has(b" as(")) && !has(b"stored");
    (!is_computed).then(|| name.to_vec())
}
