//! Columns.

/// Lays out rows in columns two spaces apart. `align` has a letter per column, `l` or `r`; a last
/// left column is not padded.
///
/// Cells must be plain, because colour codes would count as width. Colour whole lines instead.
pub(crate) fn table(rows: &[Vec<String>], align: &str) -> Vec<String> {
    let columns = align.len();
    let width = |text: &str| text.chars().count();
    let mut widths = vec![0; columns];
    for row in rows {
        for (i, cell) in row.iter().enumerate().take(columns) {
            widths[i] = widths[i].max(width(cell));
        }
    }
    let aligns: Vec<char> = align.chars().collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate().take(columns) {
                if widths[i] == 0 {
                    continue;
                }
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let pad = " ".repeat(widths[i] - width(cell));
                match aligns[i] {
                    'r' => line.push_str(&format!("{pad}{cell}")),
                    _ => line.push_str(&format!("{cell}{pad}")),
                }
            }
            line.truncate(line.trim_end().len());
            line
        })
        .collect()
}

/// The columns of a table, and how they shrink on a narrow screen.
pub(crate) struct Columns<'a> {
    /// The heading of each column.
    pub(crate) names: &'a [&'a str],
    /// As for [`table`].
    pub(crate) align: &'a str,
    /// Columns to drop if there is no room, the first one first.
    pub(crate) dropped: &'a [usize],
    /// The column to cut once no more can be dropped.
    pub(crate) cut: usize,
}

/// A cut column keeps at least this many characters.
const LEAST: usize = 16;

/// Lays out rows for a screen of `width` columns, below the headings: columns are dropped and one
/// is cut, so that nothing wraps in the middle of a word. Without a screen nothing is left out and
/// there are no headings, because another program reads it.
pub(crate) fn fitted(
    rows: &[Vec<String>],
    columns: &Columns<'_>,
    width: Option<usize>,
    more: char,
) -> Vec<String> {
    let Some(width) = width else {
        return table(rows, columns.align);
    };
    let names = columns.names.iter().map(|name| (*name).to_owned());
    let mut all = vec![names.collect::<Vec<_>>()];
    all.extend(rows.iter().cloned());
    let mut widths = vec![0; columns.names.len()];
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row.iter()) {
            *widest = (*widest).max(cell.chars().count());
        }
    }
    // An empty column needs no heading.
    for (at, widest) in widths.iter_mut().enumerate() {
        match *widest {
            0 => all[0][at].clear(),
            _ => *widest = (*widest).max(all[0][at].chars().count()),
        }
    }
    let needed = |widths: &[usize]| {
        let shown = widths.iter().filter(|width| **width > 0);
        shown
            .map(|width| width + 2)
            .sum::<usize>()
            .saturating_sub(2)
    };
    for &at in columns.dropped {
        let mut least = widths.clone();
        least[columns.cut] = least[columns.cut].min(LEAST);
        if needed(&least) <= width {
            break;
        }
        widths[at] = 0;
        all.iter_mut().for_each(|row| row[at].clear());
    }
    let over = needed(&widths).saturating_sub(width);
    if over > 0 {
        let most = widths[columns.cut].saturating_sub(over).max(1);
        for row in &mut all {
            row[columns.cut] = shorten(&row[columns.cut], most, more);
        }
    }
    table(&all, columns.align)
}

/// Returns a text of at most `width` characters; `more` marks a longer one.
pub(crate) fn shorten(text: &str, width: usize, more: char) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push(more);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_screen_has_fewer_columns_and_no_line_that_wraps() {
        let rows = [
            ["7f3a", "2 min ago", "rm -rf temp/workflows data.db", "-313"],
            ["6b20", "yesterday 13:58", "git rebase main", "~14"],
        ]
        .map(|row| row.map(str::to_owned).to_vec());
        let columns = Columns {
            names: &["id", "age", "command", "files"],
            align: "llll",
            dropped: &[1, 3],
            cut: 2,
        };
        let at = |width| fitted(&rows, &columns, width, '~');
        assert_eq!(
            at(Some(80)),
            [
                "id    age              command                        files",
                "7f3a  2 min ago        rm -rf temp/workflows data.db  -313",
                "6b20  yesterday 13:58  git rebase main                ~14",
            ]
        );
        assert_eq!(
            at(Some(32)),
            [
                "id    command              files",
                "7f3a  rm -rf temp/workfl~  -313",
                "6b20  git rebase main      ~14"
            ]
        );
        assert_eq!(at(Some(22))[1], "7f3a  rm -rf temp/wor~");
        assert_eq!(at(None), table(&rows, "llll"));
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "1", "", "x"], ["bcd", "22", "", "yy"]]
            .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows, "lrll"), ["a     1  x", "bcd  22  yy"]);
    }
}
