//! Spans of time on the command line.

use std::time::Duration;

/// Parses `90s`, `2h`, `1h 30m`; a number needs its unit.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a span of time such as `90s`, `15m` or `2h`");
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

/// The same, but more than nothing.
pub fn parse_some(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("it has to be more than nothing".to_owned()),
        span => Ok(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_need_their_unit() {
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["90", "-1s", "", "soon"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse_some("0s").is_err() && parse_some("1s").is_ok());
    }
}
