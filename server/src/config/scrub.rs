//! `scrub-cycle` and `scrub-share`: keys of the file only.

use super::file::File;
use super::{ConfigError, units};
use std::time::Duration;
use tapeloop_engine::ScrubOptions;

const CYCLE_MS_MIN: u64 = 60_000;
const CYCLE_MS_MAX: u64 = 365 * 86_400_000;
/// The word for "never by itself".
const OFF: &str = "off";

pub(super) fn options(file: &File) -> Result<ScrubOptions, ConfigError> {
    let mut options = ScrubOptions::default();
    if let Some(text) = &file.scrub_cycle {
        options.cycle = cycle(text)?;
    }
    if let Some(text) = &file.scrub_share {
        options.share_permille = share_permille(text)?;
    }
    Ok(options)
}

fn cycle(text: &str) -> Result<Option<Duration>, ConfigError> {
    if text == OFF {
        return Ok(None);
    }
    match units::parse_duration_ms(text) {
        Some(ms) if (CYCLE_MS_MIN..=CYCLE_MS_MAX).contains(&ms) => {
            Ok(Some(Duration::from_millis(ms)))
        }
        _ => {
            let allowed = "a duration from 1m to 365d, as in 7d or 12h, or \"off\"";
            Err(refused("scrub-cycle", text, allowed))
        }
    }
}

fn share_permille(text: &str) -> Result<u16, ConfigError> {
    let permille = text.strip_suffix('%').and_then(|number| {
        let (whole, tenths) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), "0"));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(tenths) || tenths.len() != 1 {
            return None;
        }
        whole.parse::<u16>().ok()?.checked_mul(10)?.checked_add(tenths.parse().ok()?)
    });
    match permille {
        Some(permille @ 1..=1000) => Ok(permille),
        _ => Err(refused("scrub-share", text, "a percentage from 0.1% to 100%, as in 5%")),
    }
}

fn refused(name: &str, value: &str, allowed: &str) -> ConfigError {
    let (name, value, allowed) = (name.to_owned(), value.to_owned(), allowed.to_owned());
    ConfigError::Value { name, value, allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options_of(cycle: Option<&str>, share: Option<&str>) -> Result<ScrubOptions, String> {
        let file = File {
            scrub_cycle: cycle.map(str::to_owned),
            scrub_share: share.map(str::to_owned),
            ..File::default()
        };
        options(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn without_keys_all_is_read_in_7_days_with_5_percent_of_the_drive() {
        let options = options_of(None, None).expect("defaults");
        assert_eq!(options.cycle, Some(Duration::from_secs(7 * 86_400)));
        assert_eq!((options.share_permille, options.share_permille_max()), (50, 250));
    }

    #[test]
    fn cycle_and_share_are_taken_with_their_units() {
        let options = options_of(Some("12h"), Some("2.5%")).expect("valid");
        assert_eq!(options.cycle, Some(Duration::from_secs(12 * 3600)));
        assert_eq!(options.share_permille, 25);
        assert_eq!(options_of(Some("off"), Some("100 %")).expect("valid").cycle, None);
        assert_eq!(options_of(None, Some("100%")).expect("valid").share_permille, 1000);
    }

    #[test]
    fn a_wrong_value_names_key_value_and_what_is_allowed() {
        for cycle in ["7", "59s", "366d", "weekly", ""] {
            let error = options_of(Some(cycle), None).expect_err(cycle);
            assert!(error.contains("scrub-cycle") && error.contains("1m to 365d"), "{error}");
        }
        for share in ["5", "0%", "101%", "5.25%", "-5%", "+5%", "%", "5.%", "six%", "70000%"] {
            let error = options_of(None, Some(share)).expect_err(share);
            assert!(error.contains("scrub-share") && error.contains("0.1% to 100%"), "{error}");
        }
    }
}
