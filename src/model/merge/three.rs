//! Brings two versions of a file together that changed since they were the same.
//!
//! There may be several older versions from which both came: what two machines last had of each
//! other. A part counts as unchanged on one side if it is as in any of them; then the other side's
//! is taken. What both changed stays as it is here, and is named.

use std::collections::HashMap;

use jsonc_parser::cst::CstObject;

use super::{
    MAX_BYTES, MAX_DEPTH, Shape, input, lines, names, object, parse, place_of, plain, shape,
};

/// The versions of one file.
///
/// Values that one of them has and the other must not see may be replaced in all of them by the same
/// words: they then count as equal.
pub struct Versions<'a> {
    /// The file here, in which changes are made.
    pub live: &'a [u8],
    /// The same as it is compared.
    pub mine: &'a [u8],
    pub theirs: &'a [u8],
    /// What both came from, newest first. None if nothing is known: then what only one of them has
    /// was added.
    pub bases: &'a [Vec<u8>],
    /// Says whether a text has something that stands for a value which is not here.
    pub lacks: &'a dyn Fn(&[u8]) -> bool,
}

/// Two versions as one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Together {
    pub bytes: Vec<u8>,
    /// What both changed, differently: keys from the top, joined by dots. It stays as it is here.
    pub both: Vec<String>,
    /// What only they have, but without a value that is not here: it is not taken.
    pub lacking: Vec<String>,
}

/// Brings two versions of a file together: JSON objects key by key, JSONL logs line by line, text as
/// git does. `None` if only a person can.
pub fn three(name: &[u8], versions: &Versions<'_>) -> Option<Together> {
    let long = [versions.live, versions.mine, versions.theirs];
    let mut all = long
        .into_iter()
        .chain(versions.bases.iter().map(|b| &b[..]));
    if all.any(|bytes| bytes.len() as u64 > MAX_BYTES) {
        return None;
    }
    match shape(name) {
        Some(Shape::Object) => objects(versions),
        Some(Shape::Lines) => logs(versions),
        None => texts(versions),
    }
}

fn objects(versions: &Versions<'_>) -> Option<Together> {
    let root = parse(versions.live)?;
    let (mine, theirs) = (object(versions.mine)?, object(versions.theirs)?);
    // One that is no object says nothing about keys.
    let bases: Vec<CstObject> = versions.bases.iter().filter_map(|b| object(b)).collect();
    if bases.len() < versions.bases.len() && bases.is_empty() {
        return None;
    }
    let mut keys = Keys {
        lacks: versions.lacks,
        together: Together::default(),
        path: Vec::new(),
    };
    keys.bring(&root.object_value()?, &mine, &theirs, &bases)?;
    let mut together = keys.together;
    together.bytes = root.to_string().into_bytes();
    Some(together)
}

struct Keys<'a> {
    lacks: &'a dyn Fn(&[u8]) -> bool,
    together: Together,
    path: Vec<String>,
}

impl Keys<'_> {
    /// Takes into `live` what they changed and we did not.
    fn bring(
        &mut self,
        live: &CstObject,
        mine: &CstObject,
        theirs: &CstObject,
        bases: &[CstObject],
    ) -> Option<()> {
        if self.path.len() > MAX_DEPTH {
            return None;
        }
        let (own, others) = (names(mine)?, names(theirs)?);
        let new = others.iter().filter(|name| !own.contains(name));
        let all: Vec<String> = own.iter().chain(new).cloned().collect();
        for name in all {
            self.path.push(name.clone());
            self.key(&name, live, mine, theirs, bases)?;
            self.path.pop();
        }
        Some(())
    }

    fn key(
        &mut self,
        name: &str,
        live: &CstObject,
        mine: &CstObject,
        theirs: &CstObject,
        bases: &[CstObject],
    ) -> Option<()> {
        let value = |object: &CstObject| object.get(name).and_then(|property| property.value());
        let text = |object: &CstObject| match value(object) {
            Some(value) => plain(&value, 0).map(Some),
            None => Some(None),
        };
        let (own, other) = (text(mine)?, text(theirs)?);
        if own == other {
            return Some(());
        }
        let inside = |object: &CstObject| value(object).and_then(|value| value.as_object());
        if let (Some(mine), Some(theirs)) = (inside(mine), inside(theirs)) {
            let bases: Vec<CstObject> = bases.iter().filter_map(inside).collect();
            return self.bring(&inside(live)?, &mine, &theirs, &bases);
        }
        let known: Option<Vec<Option<String>>> = bases.iter().map(text).collect();
        let mut known = known?;
        if known.is_empty() {
            known.push(None);
        }
        // The newest that one of them still has decides.
        match known
            .iter()
            .find(|known| **known == own || **known == other)
        {
            Some(known) if *known == own => {}
            Some(_) => return Some(()),
            None => {
                self.together.both.push(self.path.join("."));
                return Some(());
            }
        }
        if other.is_some_and(|text| (self.lacks)(text.as_bytes())) {
            self.together.lacking.push(self.path.join("."));
            return Some(());
        }
        match (value(theirs), live.get(name)) {
            (Some(new), Some(property)) => property.set_value(input(&new, 0)?),
            (Some(new), None) => {
                let place = place_of(name, theirs, live)?;
                live.insert(place, name, input(&new, 0)?);
            }
            (None, Some(property)) => property.remove(),
            (None, None) => {}
        }
        Some(())
    }
}

/// Returns how often a line is in both together, if they had it so often: what both have is not
/// doubled, and what one removed is not kept by the other.
fn together(mine: usize, theirs: usize, base: usize) -> usize {
    if base >= mine && base >= theirs {
        mine.min(theirs)
    } else if base <= mine && base <= theirs {
        mine.max(theirs)
    } else {
        mine + theirs - base
    }
}

fn logs(versions: &Versions<'_>) -> Option<Together> {
    let (live, mine, theirs) = (
        lines(versions.live),
        lines(versions.mine),
        lines(versions.theirs),
    );
    if live.len() != mine.len() {
        return None;
    }
    let mut counts: HashMap<&[u8], [usize; 3]> = HashMap::new();
    for (at, lines) in [&mine, &theirs].into_iter().enumerate() {
        for line in lines {
            counts.entry(line).or_default()[at] += 1;
        }
    }
    for base in versions.bases {
        let mut own: HashMap<&[u8], usize> = HashMap::new();
        for line in lines(base) {
            *own.entry(line).or_default() += 1;
        }
        for (line, count) in own {
            let most = &mut counts.entry(line).or_default()[2];
            *most = count.max(*most);
        }
    }
    let mut left: HashMap<&[u8], usize> = counts
        .iter()
        .map(|(line, [mine, theirs, base])| (*line, together(*mine, *theirs, *base)))
        .collect();
    let mut take = |line: &[u8]| match left.get_mut(line) {
        Some(count @ 1..) => {
            *count -= 1;
            true
        }
        _ => false,
    };
    let mut result = Together::default();
    let same = mine.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    let kept: Vec<bool> = mine.iter().map(|line| take(line)).collect();
    let mut new: Vec<(usize, &[u8])> = Vec::new();
    for (at, line) in theirs.iter().enumerate() {
        if take(line) {
            match (versions.lacks)(line) {
                true => result.lacking.push(format!("line {}", at + 1)),
                false => new.push((at, line)),
            }
        }
    }
    // Two logs that both went on from the same lines: by their order, which for lines that begin
    // with a time is when they were written. Both machines come to the same order.
    let goes_on = new.iter().all(|(at, _)| *at >= same);
    let (mut out, mut new) = (Vec::new(), new.into_iter().peekable());
    for (at, line) in mine.iter().enumerate() {
        while goes_on && at >= same && new.peek().is_some_and(|(_, theirs)| theirs < line) {
            out.extend(new.next().map(|(_, theirs)| theirs));
        }
        if kept[at] {
            out.push(live[at]);
        }
    }
    out.extend(new.map(|(_, line)| line));
    result.bytes = out.join(&b'\n');
    if !out.is_empty() && (versions.live.ends_with(b"\n") || versions.theirs.ends_with(b"\n")) {
        result.bytes.push(b'\n');
    }
    Some(result)
}

fn texts(versions: &Versions<'_>) -> Option<Together> {
    let text = |bytes: &[u8]| !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok();
    let whole = versions.live == versions.mine && text(versions.live) && text(versions.theirs);
    if !whole || (versions.lacks)(versions.theirs) {
        return None;
    }
    let mut bases = versions.bases.iter().filter(|base| text(base));
    bases.find_map(|base| {
        let merged = diffy::merge_bytes(base, versions.live, versions.theirs).ok()?;
        Some(Together {
            bytes: merged,
            ..Together::default()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bring(name: &str, bases: &[&str], mine: &str, theirs: &str) -> Option<(String, String)> {
        let bases: Vec<Vec<u8>> = bases.iter().map(|base| base.as_bytes().to_vec()).collect();
        let done = three(
            name.as_bytes(),
            &Versions {
                live: mine.as_bytes(),
                mine: mine.as_bytes(),
                theirs: theirs.as_bytes(),
                bases: &bases,
                lacks: &|text| text.windows(3).any(|w| w == b"???"),
            },
        )?;
        let names = done.both.iter().chain(&done.lacking);
        let names: Vec<&str> = names.map(String::as_str).collect();
        Some((String::from_utf8(done.bytes).unwrap(), names.join(" ")))
    }

    #[test]
    fn keys_come_from_whoever_changed_them() {
        let base = r#"{"a": 1, "b": {"x": 1, "y": 2}, "gone": 0}"#;
        let mine = r#"{"a": 1, "b": {"x": 1, "y": 3}, "gone": 0, "own": []}"#;
        let theirs = r#"{"a": 2, "b": {"x": 9, "y": 2, "z": null}}"#;
        let (text, both) = bring("s.json", &[base], mine, theirs).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let wanted = r#"{"a":2,"b":{"x":9,"y":3,"z":null},"own":[]}"#;
        assert_eq!(
            value,
            serde_json::from_str::<serde_json::Value>(wanted).unwrap()
        );
        assert_eq!(both, "");
    }

    #[test]
    fn what_both_changed_stays_and_is_named() {
        let (text, both) = bring(
            "s.json",
            &[r#"{"a": {"n": 1}, "b": 1}"#],
            r#"{"a": {"n": 2}, "b": 1}"#,
            r#"{"a": {"n": 3}, "b": 2}"#,
        )
        .unwrap();
        assert_eq!(text, r#"{"a": {"n": 2}, "b": 2}"#);
        assert_eq!(both, "a.n");
    }

    #[test]
    fn without_a_base_only_additions_count() {
        let (text, both) = bring("s.json", &[], r#"{"a": 1}"#, r#"{"a": 2, "b": 3}"#).unwrap();
        assert_eq!(
            text.split_whitespace().collect::<String>(),
            r#"{"a":1,"b":3}"#
        );
        assert_eq!(both, "a");
        // What one of them lacks was never there, for all we know.
        assert_eq!(
            bring("s.json", &[], r#"{"a": 1}"#, "{}").unwrap().0,
            r#"{"a": 1}"#
        );
    }

    #[test]
    fn either_base_tells_what_is_unchanged() {
        // The first: they took ours. The second: we took theirs.
        for bases in [
            [r#"{"a": 1}"#, r#"{"a": 0}"#],
            [r#"{"a": 0}"#, r#"{"a": 1}"#],
        ] {
            let (text, both) = bring("s.json", &bases, r#"{"a": 1}"#, r#"{"a": 2}"#).unwrap();
            assert_eq!((&text[..], &both[..]), (r#"{"a": 2}"#, ""));
            let (text, both) = bring("s.json", &bases, r#"{"a": 2}"#, r#"{"a": 1}"#).unwrap();
            assert_eq!((&text[..], &both[..]), (r#"{"a": 2}"#, ""));
        }
    }

    #[test]
    fn a_value_that_is_not_here_is_not_written() {
        let (text, lacking) = bring("s.json", &["{}"], "{}", r#"{"a": {"key": "???"}}"#).unwrap();
        assert_eq!((&text[..], &lacking[..]), ("{}", "a"));
        let (text, lacking) = bring("l.jsonl", &[""], "1\n", "1\n???\n2\n").unwrap();
        assert_eq!((&text[..], &lacking[..]), ("1\n2\n", "line 2"));
    }

    #[test]
    fn logs_that_went_on_are_put_in_one_order_on_both_sides() {
        let (base, mine, theirs) = ("1\n2\n", "1\n2\n4\n6\n", "1\n2\n3\n5\n6\n");
        let here = bring("l.jsonl", &[base], mine, theirs).unwrap().0;
        let there = bring("l.jsonl", &[base], theirs, mine).unwrap().0;
        assert_eq!(here, "1\n2\n3\n4\n5\n6\n");
        assert_eq!(here, there);
        // What one removed is gone, what it had twice stays so.
        let (text, _) = bring("l.jsonl", &["1\n2\n2\n"], "2\n2\n", "1\n2\n2\n3\n").unwrap();
        assert_eq!(text, "2\n2\n3\n");
    }

    #[test]
    fn text_is_brought_together_where_the_changes_do_not_touch() {
        let base = "one\ntwo\nthree\nfour\nfive\n";
        let mine = base.replace("one", "ONE");
        let theirs = base.replace("five", "FIVE");
        let (text, _) = bring("notes.md", &[base], &mine, &theirs).unwrap();
        assert_eq!(text, "ONE\ntwo\nthree\nfour\nFIVE\n");
        let other = base.replace("one", "uno");
        assert_eq!(bring("notes.md", &[base], &mine, &other), None);
        assert_eq!(bring("notes.md", &[], &mine, &theirs), None);
        assert_eq!(bring("x.bin", &[base], &format!("{mine}\0"), &theirs), None);
    }

    /// Whatever the documents are: nothing of one side that the other did not touch is lost, and it is
    /// the same on both sides but for what both changed.
    #[test]
    fn both_sides_come_to_the_same() {
        use proptest::prelude::*;
        let value = proptest::option::of(0..4_u8);
        let map = proptest::collection::vec(value, 5);
        let three_maps = (map.clone(), map.clone(), map);
        proptest!(|((base, mine, theirs) in three_maps)| {
            let text = |map: &[Option<u8>]| {
                let parts = map.iter().enumerate();
                let parts = parts.filter_map(|(k, v)| v.map(|v| format!("\"k{k}\": {v}")));
                format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
            };
            let (base_text, mine_text, theirs_text) = (text(&base), text(&mine), text(&theirs));
            let (here, both) = bring("x.json", &[&base_text], &mine_text, &theirs_text).unwrap();
            let here: serde_json::Map<_, _> = serde_json::from_str(&here).unwrap();
            for k in 0..5 {
                let name = format!("k{k}");
                let (b, m, t) = (base[k], mine[k], theirs[k]);
                let wanted = if m == t || b == t { m } else if b == m { t } else { m };
                prop_assert_eq!(here.get(&name).and_then(|v| v.as_u64()), wanted.map(u64::from));
                let is_both = m != t && b != m && b != t;
                prop_assert_eq!(both.split(' ').any(|word| word == name), is_both);
            }
        });
    }
}
