//! Columns.

/// Lays out rows in columns two spaces apart. `align` has a letter per column, `l` or `r`; a last left column is not padded.
///
/// Cells must be plain: colour codes would count as width. Colour whole lines instead.
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

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = [["a", "1", "", "x"], ["bcd", "22", "", "yy"]]
            .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(super::table(&rows, "lrll"), ["a     1  x", "bcd  22  yy"]);
    }
}
