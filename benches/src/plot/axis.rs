//! Axes: where a value lies between two ends, and which values are written beside.

const TICKS: f64 = 5.0;

/// A scale with its ticks.
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) ticks: Vec<(f64, String)>,
    min: f64,
    max: f64,
    is_log: bool,
}

impl Axis {
    /// From zero to a round number not below `max`.
    pub(super) fn linear(label: &str, max: f64) -> Axis {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = round_up(max / TICKS);
        let count = (max / step).ceil();
        let ticks = (0..=count as u32).map(|n| f64::from(n) * step);
        let ticks = ticks.map(|value| (value, number(value))).collect();
        Axis { label: label.to_owned(), ticks, min: 0.0, max: count * step, is_log: false }
    }

    /// Decades; the steps 2 and 5 between them where there are few. Values must be above zero.
    pub(super) fn log(label: &str, min: f64, max: f64) -> Axis {
        assert!(0.0 < min && min <= max, "a log axis from {min} to {max}");
        let floor = |value: f64| 10f64.powf((value.log10() + 1e-9).floor());
        let is_short = max / min < 100.0;
        let steps: &[f64] = if is_short { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut marks = vec![];
        let mut decade = floor(min);
        while decade <= floor(max) * 10.0 * 1.001 {
            marks.extend(steps.iter().map(|step| step * decade));
            decade *= 10.0;
        }
        let near = 1.0 + 1e-6;
        let low = marks.iter().copied().rfind(|mark| *mark <= min * near);
        let high = marks.iter().copied().find(|mark| *mark * near >= max && *mark > min * near);
        let (low, high) = (low.unwrap_or(min), high.unwrap_or(max));
        let ticks = marks.into_iter().filter(|mark| *mark * near >= low && *mark <= high * near);
        let ticks = ticks.map(|value| (value, number(value))).collect();
        Axis { label: label.to_owned(), ticks, min: low, max: high, is_log: true }
    }

    /// The same steps, but with the ticks at the values themselves, as bytes.
    pub(super) fn sizes(label: &str, values: &[f64]) -> Axis {
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(0.0, f64::max);
        assert!(0.0 < min && min <= max, "sizes from {min} to {max}");
        let ticks = values.iter().map(|value| (*value, bytes(*value))).collect();
        // One size alone lies in the middle.
        let (min, max) = if min < max { (min, max) } else { (min / 2.0, max * 2.0) };
        Axis { label: label.to_owned(), ticks, min, max, is_log: true }
    }

    /// 0 at the low end, 1 at the high one; `None` for what a log axis cannot show.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let (value, min, max) = match self.is_log {
            true if value <= 0.0 => return None,
            true => (value.ln(), self.min.ln(), self.max.ln()),
            false => (value, self.min, self.max),
        };
        let share = (value - min) / (max - min);
        share.is_finite().then(|| share.clamp(0.0, 1.0))
    }
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0];
    let step = steps.into_iter().find(|step| step * power >= value * (1.0 - 1e-9));
    step.unwrap_or(10.0) * power
}

/// Without the digits nobody needs: `0.05`, `2.5`, `10k`, `1M`.
fn number(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        abs if abs >= 1e6 * (1.0 - 1e-9) => (value / 1e6, "M"),
        abs if abs >= 1e4 * (1.0 - 1e-9) => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.4}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `64 KiB`
fn bytes(value: f64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| value >= *unit as f64);
    let (unit, name) = unit.unwrap_or((1, "B"));
    format!("{} {name}", number(value / unit as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_holds_all_values() {
        assert_eq!(texts(&Axis::linear("", 2.17)), ["0", "0.5", "1", "1.5", "2", "2.5"]);
        assert_eq!(
            texts(&Axis::linear("", 0.001)),
            ["0", "0.0002", "0.0004", "0.0006", "0.0008", "0.001"]
        );
        assert_eq!(texts(&Axis::linear("", 50_000.0)), ["0", "10k", "20k", "30k", "40k", "50k"]);
        assert_eq!(texts(&Axis::linear("", 0.0)).len(), 6);
    }

    #[test]
    fn a_log_axis_has_decades_and_finer_steps_where_there_are_few() {
        assert_eq!(texts(&Axis::log("", 1e4, 1e7)), ["10k", "100k", "1M", "10M"]);
        assert_eq!(texts(&Axis::log("", 0.02, 3.0)), ["0.01", "0.1", "1", "10"]);
        assert_eq!(
            texts(&Axis::log("", 141.0, 3877.0)),
            ["100", "200", "500", "1000", "2000", "5000"]
        );
        assert_eq!(texts(&Axis::log("", 10.0, 10.0)), ["10", "20"]);
    }

    #[test]
    fn a_log_axis_gives_every_factor_the_same_room() {
        let axis = Axis::log("", 1e4, 1e7);
        let places = [1e4, 1e5, 1e6, 1e7].map(|value| axis.place(value).expect("above zero"));
        for (place, want) in places.into_iter().zip([0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]) {
            assert!((place - want).abs() < 1e-9, "{place} for {want}");
        }
        assert_eq!(axis.place(0.0), None);
    }

    #[test]
    fn sizes_are_marked_where_they_were_measured() {
        let axis = Axis::sizes("", &[1024.0, 65536.0, 1_048_576.0]);
        assert_eq!(texts(&axis), ["1 KiB", "64 KiB", "1 MiB"]);
        assert_eq!(Axis::sizes("", &[512.0]).place(512.0), Some(0.5));
    }
}
