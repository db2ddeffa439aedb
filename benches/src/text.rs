//! Figures as text, and tables of them: aligned for a terminal, or in Markdown.

use crate::figures::{Spread, short};

/// What stands where nothing was measured.
pub(crate) const NOTHING: &str = "-";

/// Three significant digits, and thousands with separators: `1,234`. Of a figure, so not below 0.
pub(crate) fn number(value: f64) -> String {
    let digits = short(value);
    if digits.contains('.') {
        return digits;
    }
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12.3 [11.9-14.0]`, or only the median where the range is no wider than its digits.
pub(crate) fn range(spread: Spread) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(number);
    if min == max { median } else { format!("{median} [{min}-{max}]") }
}

/// The same of what may not have been measured.
pub(crate) fn range_or_nothing(spread: Option<Spread>) -> String {
    spread.map_or(NOTHING.to_owned(), range)
}

/// Only the median, of what may not have been measured.
pub(crate) fn median_or_nothing(spread: Option<Spread>) -> String {
    spread.map_or(NOTHING.to_owned(), |spread| number(spread.median))
}

/// A table: every row has as many cells as the head.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Table {
        Table { head: head.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    /// For documents.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells = cells
                .iter()
                .map(|cell| if cell.is_empty() { "|".into() } else { format!("| {cell}") });
            cells.collect::<Vec<_>>().join(" ") + " |\n"
        };
        let rule = format!("|{}\n", "---|".repeat(self.head.len()));
        let rows = self.rows.iter().map(|row| line(row));
        line(&self.head) + &rule + &rows.collect::<String>()
    }

    /// For a terminal: columns as wide as their widest cell.
    pub(crate) fn aligned(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let widest = |at: usize| lines().map(|cells| cells[at].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(widest).collect();
        let line = |cells: &Vec<String>| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            format!("  {}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
        };
        lines().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_three_digits_and_from_a_thousand_on_all_of_them_in_threes() {
        let values = [0.054, 9.876, 23.96, 145.4, 999.4, 999.6, 1_000.0, 15_584.2, 1_234_567.0];
        let texts = ["0.05", "9.88", "24.0", "145", "999", "1,000", "1,000", "15,584", "1,234,567"];
        assert_eq!(values.map(number), texts);
    }

    #[test]
    fn a_range_is_told_where_it_can_be_seen() {
        let text = |values: [f64; 3]| range(Spread::of(values).expect("values"));
        assert_eq!(text([0.051, 0.054, 0.046]), "0.05");
        assert_eq!(text([14_985.0, 15_584.0, 16_793.0]), "15,584 [14,985-16,793]");
        assert_eq!(range_or_nothing(None), "-");
    }

    #[test]
    fn a_table_is_the_same_in_markdown_and_aligned() {
        let mut table = Table::new(&["drive bytes", ""]);
        table.rows.push(vec!["95 % full".to_owned(), "1.03".to_owned()]);
        let markdown = "| drive bytes | |\n|---|---|\n| 95 % full | 1.03 |\n";
        assert_eq!(table.markdown(), markdown);
        assert_eq!(table.aligned(), "  drive bytes\n  95 % full    1.03\n");
    }
}
