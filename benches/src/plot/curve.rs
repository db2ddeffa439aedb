//! Curves: medians as lines with dots, ranges as thin upright lines, the names beside.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, FAINT, GRID, HEIGHT, INK, Stroke, thin};
use crate::figures::Spread;

const LEFT: f64 = 80.0;
const RIGHT: f64 = 575.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = HEIGHT - 72.0;
const LEGEND_LINE: f64 = 20.0;

/// One line.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: &'static str,
    pub(super) dashes: &'static str,
    pub(super) points: Vec<(f64, Spread)>,
}

impl Line {
    /// Sorted by x, whatever the order of measuring was.
    pub(super) fn new(name: String, colour: &'static str, mut points: Vec<(f64, Spread)>) -> Line {
        points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        Line { name, colour, dashes: "", points }
    }

    pub(super) fn dashed(self, dashes: &'static str) -> Line {
        Line { dashes, ..self }
    }
}

/// Smallest and largest value of all lines above zero, ranges included.
pub(super) fn ends(lines: &[Line]) -> Option<(f64, f64)> {
    let points = lines.iter().flat_map(|line| &line.points);
    let values = points.flat_map(|(_, spread)| [spread.min, spread.median, spread.max]);
    let above = values.filter(|value| *value > 0.0);
    above.fold(None, |ends, value| match ends {
        None => Some((value, value)),
        Some((min, max)) => Some((f64::min(min, value), f64::max(max, value))),
    })
}

pub(super) fn draw(title: &str, foot: &str, (x, y): (&Axis, &Axis), lines: &[Line]) -> String {
    let mut canvas = Canvas::new(title, foot);
    let place_x = |value: f64| x.place(value).map(|share| LEFT + (RIGHT - LEFT) * share);
    let place_y = |value: f64| y.place(value).map(|share| BOTTOM - (BOTTOM - TOP) * share);
    for (at, text) in x.ticks.iter().filter_map(|(value, text)| Some((place_x(*value)?, text))) {
        canvas.line(&[(at, TOP), (at, BOTTOM)], thin(GRID));
        canvas.text(at, BOTTOM + 17.0, Anchor::Middle, FAINT, text);
    }
    for (at, text) in y.ticks.iter().filter_map(|(value, text)| Some((place_y(*value)?, text))) {
        canvas.line(&[(LEFT, at), (RIGHT, at)], thin(GRID));
        canvas.text(LEFT - 6.0, at + 4.0, Anchor::End, FAINT, text);
    }
    canvas.line(&[(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], thin(FAINT));
    canvas.text((LEFT + RIGHT) / 2.0, BOTTOM + 37.0, Anchor::Middle, INK, &x.label);
    canvas.text_upward(26.0, (TOP + BOTTOM) / 2.0, &y.label);
    for (number, line) in lines.iter().enumerate() {
        let stroke = Stroke { colour: line.colour, width: 1.8, dashes: line.dashes };
        let mut track = Vec::new();
        for (value, spread) in &line.points {
            let (Some(at), Some(median)) = (place_x(*value), place_y(spread.median)) else {
                continue;
            };
            track.push((at, median));
            // Below the end of a log axis is the end.
            let low = place_y(spread.min).unwrap_or(BOTTOM);
            if let Some(high) = place_y(spread.max).filter(|_| spread.min < spread.max) {
                canvas.line(&[(at, low), (at, high)], thin(line.colour));
            }
            canvas.dot(at, median, line.colour);
        }
        canvas.line(&track, stroke);
        let legend = TOP + 8.0 + LEGEND_LINE * number as f64;
        canvas.line(&[(RIGHT + 14.0, legend), (RIGHT + 44.0, legend)], stroke);
        canvas.text(RIGHT + 50.0, legend + 4.0, Anchor::Start, INK, &line.name);
    }
    canvas.finish()
}
