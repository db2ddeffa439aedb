//! A sheet of SVG: the few shapes the plots are made of, as text.
//!
//! Coordinates have one decimal, so that the same figures give the same bytes everywhere.

use std::fmt::Write;

pub(super) const WIDTH: f64 = 800.0;
pub(super) const HEIGHT: f64 = 450.0;
pub(super) const INK: &str = "#222";
pub(super) const FAINT: &str = "#777";
pub(super) const GRID: &str = "#ddd";

/// Told apart by the colour-blind too; the first is ours.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#666666"];

/// Where a text is held.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a line is drawn.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    pub(super) colour: &'static str,
    pub(super) width: f64,
    /// SVG's dashes; empty for a full line.
    pub(super) dashes: &'static str,
}

/// A thin full line.
pub(super) const fn thin(colour: &'static str) -> Stroke {
    Stroke { colour, width: 1.0, dashes: "" }
}

/// Always the same colour for the same peer of a run.
pub(super) fn colour(peers: &[String], peer: &str) -> &'static str {
    if peer == "tapeloop" {
        return COLOURS[0];
    }
    let others = peers.iter().filter(|known| *known != "tapeloop");
    let at = others.take_while(|known| *known != peer).count();
    COLOURS[1 + at % (COLOURS.len() - 1)]
}

/// A sheet with a title and a line at its foot that says where the figures are from.
pub(super) struct Canvas {
    body: String,
}

impl Canvas {
    pub(super) fn new(title: &str, foot: &str) -> Canvas {
        let mut canvas = Canvas { body: String::new() };
        canvas.push(format_args!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{HEIGHT}' \
             viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' font-size='12'>"
        ));
        canvas.rect(0.0, 0.0, WIDTH, HEIGHT, "#fff");
        let title = escape(title);
        canvas.push(format_args!(
            r#"<text x="20" y="26" font-size="16" fill="{INK}">{title}</text>"#
        ));
        let (y, foot) = (HEIGHT - 8.0, escape(foot));
        canvas.push(format_args!(
            r#"<text x="20" y="{y:.1}" font-size="10" fill="{FAINT}">{foot}</text>"#
        ));
        canvas
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        assert!(x.is_finite() && y.is_finite() && width >= 0.0 && height >= 0.0);
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"/>"#
        ));
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, fill: &str, text: &str) {
        let (anchor, text) = (anchor.name(), escape(text));
        self.push(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{fill}">{text}</text>"#
        ));
    }

    /// A text that runs upward, for a vertical axis.
    pub(super) fn text_upward(&mut self, x: f64, y: f64, text: &str) {
        let text = escape(text);
        self.push(format_args!(
            "<text transform='translate({x:.1} {y:.1}) rotate(-90)' text-anchor='middle' \
             fill='{INK}'>{text}</text>"
        ));
    }

    pub(super) fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let mut list = String::new();
        for (x, y) in points {
            assert!(x.is_finite() && y.is_finite(), "a point of a plot is at {x}, {y}");
            let _ = write!(list, "{x:.1},{y:.1} ");
        }
        let Stroke { colour, width, dashes } = stroke;
        let dashes = match dashes {
            "" => String::new(),
            dashes => format!(" stroke-dasharray='{dashes}'"),
        };
        self.push(format_args!(
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='{width}'{dashes}/>",
            list.trim_end(),
        ));
    }

    pub(super) fn dot(&mut self, x: f64, y: f64, fill: &str) {
        self.push(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{fill}"/>"#));
    }

    pub(super) fn finish(mut self) -> String {
        self.body.push_str("</svg>\n");
        self.body
    }

    fn push(&mut self, shape: std::fmt::Arguments<'_>) {
        // A String takes whatever is written.
        let _ = writeln!(self.body, "{shape}");
    }
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        }
    }
}

/// Text as XML wants it.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no way to write these.
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_break_out_of_its_element() {
        assert_eq!(escape("a<b> & \"c\"\u{1b}[2m"), "a&lt;b&gt; &amp; &quot;c&quot; [2m");
    }

    #[test]
    fn tapeloop_keeps_its_colour_and_no_two_of_seven_peers_share_one() {
        let names = ["nginx", "tapeloop", "varnish", "ats", "a", "b", "c"];
        let peers = names.map(str::to_owned);
        let mut colours: Vec<_> = names.iter().map(|peer| colour(&peers, peer)).collect();
        assert_eq!(colours[1], COLOURS[0]);
        colours.sort_unstable();
        colours.dedup();
        assert_eq!(colours.len(), names.len());
    }
}
