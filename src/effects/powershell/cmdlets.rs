//! What cmdlets do: tables of those that only read, and of what the others write to.

use super::super::{Assessment, Effect, Operand, Place, Word};
use super::as_path;

/// The aliases of `Get-Alias` that matter here.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("rm", "remove-item"),
    ("del", "remove-item"),
    ("ri", "remove-item"),
    ("rd", "remove-item"),
    ("rmdir", "remove-item"),
    ("erase", "remove-item"),
    ("mv", "move-item"),
    ("mi", "move-item"),
    ("move", "move-item"),
    ("cp", "copy-item"),
    ("cpi", "copy-item"),
    ("copy", "copy-item"),
    ("ren", "rename-item"),
    ("rni", "rename-item"),
    ("ni", "new-item"),
    ("md", "new-item"),
    ("mkdir", "new-item"),
    ("sc", "set-content"),
    ("ac", "add-content"),
    ("clc", "clear-content"),
    ("cli", "clear-item"),
    ("si", "set-item"),
    ("tee", "tee-object"),
    ("epcsv", "export-csv"),
    ("iex", "invoke-expression"),
    ("icm", "invoke-command"),
    ("saps", "start-process"),
    ("start", "start-process"),
    ("cd", "set-location"),
    ("chdir", "set-location"),
    ("sl", "set-location"),
    ("pushd", "push-location"),
    ("popd", "pop-location"),
    ("%", "foreach-object"),
    ("foreach", "foreach-object"),
    ("?", "where-object"),
    ("where", "where-object"),
    ("echo", "write-output"),
    ("write", "write-output"),
    ("sort", "sort-object"),
    ("select", "select-object"),
    ("group", "group-object"),
    ("measure", "measure-object"),
];

/// Aliases of commands that only read.
pub(super) const READERS: &[&str] = &[
    "ls",
    "dir",
    "gci",
    "gc",
    "cat",
    "type",
    "gi",
    "gp",
    "gl",
    "pwd",
    "gm",
    "gps",
    "ps",
    "sls",
    "fl",
    "ft",
    "fw",
    "oh",
    "gcm",
    "gal",
    "gv",
    "h",
    "history",
    "help",
    "man",
    "cls",
    "clear",
    "sleep",
    "diff",
    "compare",
    "rvpa",
    "out-host",
    "out-null",
    "out-string",
    "out-default",
];

/// Verbs of commands that only read. Their blocks were checked.
pub(super) const READING_VERBS: &[&str] = &[
    "get",
    "test",
    "select",
    "where",
    "measure",
    "sort",
    "group",
    "compare",
    "convertto",
    "convertfrom",
    "resolve",
    "split",
    "join",
    "find",
    "show",
    "search",
    "wait",
];

/// Commands that only read, although others with the same verb do not.
pub(super) const READING: &[&str] = &[
    "foreach-object",
    "format-table",
    "format-list",
    "format-wide",
    "format-custom",
    "format-hex",
    "convert-path",
    "read-host",
    "write-host",
    "write-output",
    "write-verbose",
    "write-warning",
    "write-error",
    "write-debug",
    "write-progress",
    "write-information",
];

/// Options that take no value.
const SWITCHES: &[&str] = &[
    "-recurse",
    "-force",
    "-confirm",
    "-verbose",
    "-debug",
    "-append",
    "-nonewline",
    "-passthru",
    "-noclobber",
    "-container",
    "-asbytestream",
    "-directory",
    "-file",
    "-notypeinformation",
    "-hidden",
    "-readonly",
    "-r",
    "-rf",
    "-fr",
    "-f",
    "-whatif",
    "-wi",
];

/// Options whose value is a path.
const PATHS: &[&str] = &[
    "-path",
    "-literalpath",
    "-filepath",
    "-destination",
    "-destinationpath",
    "-newname",
    "-name",
    "-target",
    "-outfile",
    "-pspath",
    "-lp",
];

pub(super) fn read(name: &str) -> Assessment {
    Assessment {
        rule: "ps.read".to_owned(),
        reason: format!("`{name}` only reads"),
        ..Assessment::nothing()
    }
}

#[derive(Default)]
pub(super) struct Sorted {
    /// Paths by name, then by position.
    pub(super) paths: Vec<Word>,
    /// The one of these that is a named destination.
    destination: Option<Word>,
    /// Names of the options, in lower case.
    options: Vec<String>,
}

impl Sorted {
    /// `| % Delete`, `ForEach-Object -MemberName Delete`; blocks are not words.
    pub(super) fn calls_a_member(&self) -> bool {
        let mut options = self.options.iter();
        !self.paths.is_empty() || options.any(|o| o.starts_with("-m") || o.starts_with("-a"))
    }
}

pub(super) fn sorted(words: &[Word]) -> Sorted {
    let mut sorted = Sorted::default();
    let mut positional = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let option = word
            .text()
            .filter(|text| text.len() > 1 && text.starts_with('-'))
            .map(str::to_lowercase);
        let Some(option) = option else {
            positional.push(word.clone());
            continue;
        };
        let (name, value) = match option.split_once(':') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (option, None),
        };
        // PowerShell accepts any prefix of a name.
        let is = |names: &[&str]| names.iter().any(|full| full.starts_with(&name));
        if SWITCHES.contains(&name.as_str()) || value.is_some() || is(SWITCHES) && !is(PATHS) {
            let off = value.as_deref() == Some("$false");
            if !off {
                sorted.options.push(name);
            }
            continue;
        }
        if is(PATHS) {
            if let Some(value) = words.next() {
                if "-destination".starts_with(&name) || "-destinationpath".starts_with(&name) {
                    sorted.destination = Some(value.clone());
                }
                sorted.paths.push(value.clone());
            }
        } else {
            // A value that is not a path.
            words.next_if(|next| !next.bytes.starts_with(b"-"));
        }
        sorted.options.push(name);
    }
    sorted.paths.extend(positional);
    sorted
}

/// Assesses a cmdlet that is known to write; `None` for others.
pub(super) fn cmdlet(name: &str, shown: &str, rest: &[Word], place: &Place) -> Option<Assessment> {
    let args = sorted(rest);
    let has = |option: &str| {
        let given = args.options.iter();
        given
            .into_iter()
            .any(|o| o.len() > 1 && option.starts_with(o.as_str()))
    };
    let (rule, effect) = match name {
        "remove-item" => ("ps.remove", Effect::Destructive),
        "move-item" | "rename-item" => ("ps.move", Effect::Destructive),
        "copy-item" => ("ps.copy", Effect::Destructive),
        "set-content" | "clear-content" | "clear-item" | "set-item" | "export-csv"
        | "export-clixml" | "tee-object" => ("ps.write", Effect::Destructive),
        "out-file" if has("-append") => ("ps.write", Effect::Write),
        "out-file" => ("ps.write", Effect::Destructive),
        "add-content" | "set-itemproperty" | "remove-itemproperty" | "compress-archive" => {
            ("ps.write", Effect::Write)
        }
        "new-item" if has("-force") => ("ps.write", Effect::Destructive),
        "new-item" => ("ps.write", Effect::Write),
        "expand-archive" => ("ps.expand", Effect::Destructive),
        _ => return None,
    };
    if args
        .options
        .iter()
        .any(|o| o == "-wi" || o.len() > 2 && "-whatif".starts_with(o.as_str()))
    {
        return Some(read(shown));
    }
    let named: Vec<&Word> = match name {
        // The target; the source stays.
        "copy-item" | "expand-archive" => match &args.destination {
            Some(word) => vec![word],
            None => args.paths.iter().skip(1).last().into_iter().collect(),
        },
        // The first is the file, the second its content.
        "set-content" | "add-content" | "set-item" => args.paths.iter().take(1).collect(),
        _ => args.paths.iter().collect(),
    };
    let operands = named
        .iter()
        .filter_map(|word| place.operand(&as_path(word)?, false));
    let mut operands: Vec<Operand> = operands
        .map(|operand| Operand {
            itself: effect == Effect::Destructive,
            ..operand
        })
        .collect();
    let unclear = named.is_empty() || named.iter().any(|word| word.dynamic);
    if unclear {
        // From the pipeline or a variable: cover the current directory.
        operands.extend(place.here());
    }
    Some(Assessment {
        effect,
        operands,
        rule: rule.to_owned(),
        reason: match effect {
            Effect::Destructive => format!("`{shown}` deletes or overwrites"),
            _ => format!("`{shown}` writes"),
        },
        ..Assessment::nothing()
    })
}
