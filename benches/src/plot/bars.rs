//! Bars beside each other: one panel for each figure, one bar for each peer, the range as a
//! whisker.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, FAINT, GRID, INK, Stroke, WIDTH, thin};
use crate::figures::Spread;

const TOP: f64 = 64.0;
const BOTTOM: f64 = 396.0;
const NAMES_WIDTH: f64 = 200.0;
const GAP: f64 = 30.0;
const BAR_MAX: f64 = 26.0;
/// About what a letter takes.
const LETTER: f64 = 6.2;

/// One figure of all peers.
pub(super) struct Panel {
    /// With the unit.
    pub(super) label: &'static str,
    /// As many as there are peers; `None` where a peer has no such figure.
    pub(super) spreads: Vec<Option<Spread>>,
}

/// A peer and its colour.
pub(super) type Name = (String, &'static str);

pub(super) fn draw(title: &str, foot: &str, names: &[Name], panels: &[Panel]) -> String {
    assert!(!names.is_empty() && !panels.is_empty());
    let mut canvas = Canvas::new(title, foot);
    let slot = (BOTTOM - TOP) / names.len() as f64;
    for (at, (name, _)) in names.iter().enumerate() {
        let middle = TOP + slot * (at as f64 + 0.5);
        canvas.text(NAMES_WIDTH - 8.0, middle + 4.0, Anchor::End, INK, name);
    }
    let room = WIDTH - NAMES_WIDTH - GAP * panels.len() as f64;
    let width = room / panels.len() as f64;
    for (at, panel) in panels.iter().enumerate() {
        assert_eq!(panel.spreads.len(), names.len());
        let left = NAMES_WIDTH + (width + GAP) * at as f64;
        draw_panel(&mut canvas, panel, names, (left, width));
    }
    canvas.finish()
}

fn draw_panel(canvas: &mut Canvas, panel: &Panel, names: &[Name], (left, width): (f64, f64)) {
    let max = panel.spreads.iter().flatten().map(|spread| spread.max).fold(0.0, f64::max);
    let axis = Axis::linear(panel.label, max);
    let place = |value: f64| left + width * axis.place(value).unwrap_or(0.0);
    for (value, text) in &axis.ticks {
        let x = place(*value);
        canvas.line(&[(x, TOP), (x, BOTTOM)], thin(GRID));
        canvas.text(x, BOTTOM + 15.0, Anchor::Middle, FAINT, text);
    }
    canvas.text(left + width / 2.0, BOTTOM + 31.0, Anchor::Middle, INK, &axis.label);
    let slot = (BOTTOM - TOP) / names.len() as f64;
    let height = (slot * 0.45).min(BAR_MAX);
    for (at, (spread, (_, colour))) in panel.spreads.iter().zip(names).enumerate() {
        let middle = TOP + slot * (at as f64 + 0.5);
        let Some(spread) = spread else {
            canvas.text(left + 4.0, middle + 4.0, Anchor::Start, FAINT, "not measured");
            continue;
        };
        let (min, median, max) = (place(spread.min), place(spread.median), place(spread.max));
        canvas.rect(left, middle - height / 2.0, median - left, height, colour);
        let whisker = Stroke { colour: INK, width: 1.5, dashes: "" };
        canvas.line(&[(min, middle), (max, middle)], whisker);
        for x in [min, max] {
            canvas.line(&[(x, middle - 4.0), (x, middle + 4.0)], whisker);
        }
        let text = spread.text();
        // Above the bar, where no whisker is; a white ground keeps it off the grid.
        let y = middle - height / 2.0 - 4.0;
        canvas.rect(left + 1.0, y - 10.0, text.len() as f64 * LETTER + 4.0, 12.0, "#fff");
        canvas.text(left + 3.0, y, Anchor::Start, INK, &text);
    }
    canvas.line(&[(left, TOP), (left, BOTTOM)], thin(FAINT));
}
