//! Progress of long work: on standard error, and only when that is a terminal.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over bytes.
pub(crate) fn bytes(total: u64, what: &'static str) -> ProgressBar {
    styled(total, what, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// A bar over a number of things.
pub(crate) fn count(total: u64, what: &'static str) -> ProgressBar {
    styled(total, what, "{msg} {wide_bar} {pos}/{len} {eta}")
}

/// Steps of a bar over a share.
pub(crate) const PART_WHOLE: u64 = 1000;

/// A bar over the share that is done.
pub(crate) fn part(what: &'static str) -> ProgressBar {
    styled(PART_WHOLE, what, "{msg} {wide_bar} {percent} % {eta}")
}

/// The time a run of known length has taken.
pub(crate) fn clock(what: String) -> ProgressBar {
    styled(0, what, "{spinner} {msg} {elapsed_precise}")
}

fn styled(total: u64, what: impl Into<Cow<'static, str>>, template: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(4)
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    // An unknown key in a template is a bug of ours and shows as the plain bar.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
