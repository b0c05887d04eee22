//! Columns of text for people.

/// Widths in which every cell of these rows fits. Of a row with fewer cells than there are
/// `columns`, the last one is a sentence, which may run over those of others: it does not count.
pub(super) fn widths<const COLUMNS: usize>(rows: &[Vec<String>]) -> [usize; COLUMNS] {
    let whole = |row: &&Vec<String>| row.len() == COLUMNS;
    let width = |column: usize| rows.iter().filter(whole).map(|row| row[column].chars().count()).max().unwrap_or(0);
    std::array::from_fn(width)
}

/// A row as one line.
pub(super) fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, &width)| format!("{cell:width$}"));
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}
