//! Examines a large file in parts.

use super::{Examined, Rules, Treatment, examine_mapped, name_of, phi, source};

/// A large file that is examined in parts, one after the other.
pub struct Parts {
    course: Option<source::Course>,
    /// The line of a table that says what its columns are.
    header: Vec<u8>,
    /// The next part does not begin with it.
    is_later: bool,
}

impl Parts {
    /// `head` is the beginning of the file; `by_language`: read a program as what it is.
    pub fn new(path: &[u8], head: &[u8], by_language: bool) -> Self {
        let name = name_of(path);
        let language = by_language.then(|| source::language(name, head)).flatten();
        Self {
            course: language.map(source::Course::new),
            header: phi::header_of(name, head).to_vec(),
            is_later: false,
        }
    }

    /// The same for parts that begin later; `head` is still the beginning of the file.
    pub fn later(path: &[u8], head: &[u8]) -> Self {
        Self {
            is_later: true,
            ..Self::new(path, head, false)
        }
    }

    /// Examines a part, which is cut between lines and may have more than is passed.
    pub fn examine(&self, path: &[u8], part: &[u8], rules: &Rules) -> Examined {
        let map = || self.course.as_ref().map(|course| course.map(part));
        if !self.is_later || self.header.is_empty() {
            return examine_mapped(path, part, rules, &map);
        }
        let text = [&self.header, part].concat();
        let mut examined = examine_mapped(path, &text, rules, &map);
        let before = self.header.len();
        examined.findings.retain(|one| one.range.start >= before);
        examined.seals.retain(|(range, _)| range.start >= before);
        let findings = examined.findings.iter_mut().map(|one| &mut one.range);
        let seals = examined.seals.iter_mut().map(|(range, _)| range);
        for range in findings.chain(seals) {
            *range = range.start - before..range.end - before;
        }
        if examined.treatment == Treatment::Seal && examined.seals.is_empty() {
            examined.treatment = Treatment::Clear;
        }
        examined
    }

    /// Goes on behind `passed`.
    pub fn pass(&mut self, passed: &[u8]) {
        self.is_later |= !passed.is_empty();
        if let Some(course) = &mut self.course {
            course.pass(passed);
        }
    }

    /// Returns true if, at the end of the file, it is clear that it was not read right: then it has to
    /// be examined as text of an unknown kind.
    pub fn is_lost(&self) -> bool {
        self.course.as_ref().is_some_and(source::Course::is_lost)
    }
}
