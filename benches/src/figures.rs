//! Medians and ranges.

use serde::Serialize;

/// Median and range of one figure over the rounds of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Spread { median, min, max })
    }

    /// `12.3 [11.9-14.0]`
    pub(crate) fn text(&self) -> String {
        format!("{} [{}-{}]", short(self.median), short(self.min), short(self.max))
    }
}

/// Three significant digits.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// The value below which `quantile` of the sorted values lie.
pub(crate) fn quantile(sorted: &[u64], quantile: f64) -> u64 {
    assert!(sorted.is_sorted() && !sorted.is_empty());
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle_and_the_range_around_it() {
        let spread = Spread::of([5.0, 1.0, 9.0, 2.0]).expect("values");
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 3.5, 9.0));
        assert!(Spread::of([]).is_none());
    }

    #[test]
    fn a_quantile_is_a_value_that_was_seen() {
        let sorted: Vec<u64> = (1..=1000).collect();
        let at = |share| quantile(&sorted, share);
        assert_eq!([at(0.5), at(0.99), at(0.999), at(1.0)], [500, 990, 999, 1000]);
        assert_eq!(quantile(&[7], 0.999), 7);
    }
}
