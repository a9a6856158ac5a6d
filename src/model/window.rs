//! Maintenance windows: when they open, in cron's five fields, in which time zone, and how long they stay open.

use std::{str::FromStr, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// The longest that a window stays open.
pub const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// How many days are looked ahead: between two 29th of February lie up to eight years.
const HORIZON: usize = 8 * 366;

/// A text that is no time in cron's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// It has not five fields.
    #[error(
        "`{0}` has {1} fields, and five are expected: minute, hour, day of the month, month, day of the week"
    )]
    Fields(String, usize),
    /// A field is not what it should be.
    #[error(
        "`{value}` is not {what}: {expected} is expected, or `*`, lists, ranges and steps of these"
    )]
    Field {
        /// What is written.
        value: String,
        /// Which field it is.
        what: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// No day is like that.
    #[error("`{0}` never comes")]
    Never(String),
}

/// Times in cron's five fields, as POSIX and Vixie's cron have them: where both days are restricted, either one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

/// One of the five fields.
struct Field {
    what: &'static str,
    expected: &'static str,
    least: u8,
    most: u8,
    names: &'static [&'static str],
}

const MINUTE: Field = Field {
    what: "a minute",
    expected: "0 to 59",
    least: 0,
    most: 59,
    names: &[],
};

const HOUR: Field = Field {
    what: "an hour",
    expected: "0 to 23",
    least: 0,
    most: 23,
    names: &[],
};

const DAY: Field = Field {
    what: "a day of the month",
    expected: "1 to 31",
    least: 1,
    most: 31,
    names: &[],
};

const MONTH: Field = Field {
    what: "a month",
    expected: "1 to 12 or JAN to DEC",
    least: 1,
    most: 12,
    names: &[
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ],
};

const WEEKDAY: Field = Field {
    what: "a day of the week",
    expected: "0 to 7 (0 and 7 are Sunday) or SUN to SAT",
    least: 0,
    most: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};

impl Field {
    /// Reads a list of values, ranges and steps as a set of bits.
    fn read(&self, text: &str) -> Option<u64> {
        let mut parts = text.split(',').map(|part| self.part(part));
        parts.try_fold(0, |all, part| Some(all | part?))
    }

    fn part(&self, text: &str) -> Option<u64> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
            None => (text, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (self.least, self.most),
            (_, Some((first, last))) => (self.value(first)?, self.value(last)?),
            (one, None) => {
                let one = self.value(one)?;
                // A step from a single value leads to the end, as Vixie's cron has it.
                (one, if step.is_some() { self.most } else { one })
            }
        };
        let values = (first..=last).step_by(usize::from(step.unwrap_or(1)));
        (first <= last).then(|| values.fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Option<u8> {
        let named = self.names.iter().position(|n| n.eq_ignore_ascii_case(text));
        let named = named.and_then(|at| u8::try_from(at).ok());
        let value = named.map(|at| at + self.least).or_else(|| number(text))?;
        (self.least..=self.most).contains(&value).then_some(value)
    }
}

fn number(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let shown = || crate::yaml::shorten(text);
        let fields: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(CronError::Fields(shown(), fields.len()));
        };
        let read = |field: &Field, text: &str| {
            field.read(text).ok_or_else(|| CronError::Field {
                value: crate::yaml::shorten(text),
                what: field.what,
                expected: field.expected,
            })
        };
        let weekdays = read(&WEEKDAY, weekday)?;
        let cron = Cron {
            minutes: read(&MINUTE, minute)?,
            hours: read(&HOUR, hour)?,
            days: read(&DAY, day)?,
            months: read(&MONTH, month)?,
            weekdays: weekdays | weekdays >> 7,
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
        };
        let window = Window {
            opens: cron,
            lasts: Duration::ZERO,
            zone: TimeZone::UTC,
        };
        match window.opens_after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(window.opens),
            None => Err(CronError::Never(shown())),
        }
    }
}

impl Cron {
    fn has_day(&self, date: Date) -> bool {
        let has = |bits: u64, value: i8| bits >> value & 1 == 1;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let on_day = match (self.any_day, self.any_weekday) {
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        has(self.months, date.month()) && on_day
    }
}

/// When something may be done that disturbs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// When it opens.
    pub opens: Cron,
    /// How long it stays open.
    pub lasts: Duration,
    /// Where the clock hangs by which it opens. A time that a change of the clocks leaves out counts as the one an hour on, one that comes
    /// twice as the first of the two.
    pub zone: TimeZone,
}

impl Window {
    /// Returns until when it is open, if it is open.
    fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let first = now.checked_sub(self.lasts).ok()?;
        let (first, last) = (self.date(first), self.date(now));
        let opened = self.days(first).take_while(|date| *date <= last);
        let ends = opened
            .flat_map(|date| self.openings(date))
            .filter(|opened| *opened <= now)
            .filter_map(|opened| opened.checked_add(self.lasts).ok());
        ends.filter(|end| *end > now).max()
    }

    /// Returns when it opens next.
    fn opens_after(&self, now: Timestamp) -> Option<Timestamp> {
        let days = self.days(self.date(now)).take(HORIZON);
        let next = |date| self.openings(date).filter(|at| *at > now).min();
        days.filter(|date| self.opens.has_day(*date)).find_map(next)
    }

    fn date(&self, at: Timestamp) -> Date {
        self.zone.to_datetime(at).date()
    }

    fn days(&self, first: Date) -> impl Iterator<Item = Date> {
        std::iter::successors(Some(first), |date| date.tomorrow().ok())
    }

    /// The moments of a day at which it opens.
    fn openings(&self, date: Date) -> impl Iterator<Item = Timestamp> {
        let has = |bits: u64, value: i8| bits >> value & 1 == 1;
        let hours =
            (0..24).filter(move |hour| self.opens.has_day(date) && has(self.opens.hours, *hour));
        let times = hours.flat_map(move |hour| {
            let minutes = (0..60).filter(move |minute| has(self.opens.minutes, *minute));
            minutes.map(move |minute| date.at(hour, minute, 0, 0))
        });
        times.filter_map(|time| self.zone.to_timestamp(time).ok())
    }
}

/// Returns until when one of the windows is open, if one is.
pub fn open_until(windows: &[Window], now: Timestamp) -> Option<Timestamp> {
    let open = windows.iter().filter_map(|window| window.open_until(now));
    open.max()
}

/// Returns when the next of the windows opens, and how its own clock says that.
pub fn next(windows: &[Window], now: Timestamp) -> Option<(Timestamp, String)> {
    let opening = windows.iter().filter_map(|window| {
        let at = window.opens_after(now)?;
        Some((at, said(at, &window.zone)))
    });
    opening.min()
}

fn said(at: Timestamp, zone: &TimeZone) -> String {
    let time = zone.to_datetime(at).strftime("%Y-%m-%d %H:%M");
    format!("{time} {}", zone.iana_name().unwrap_or("UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(opens: &str, hours: u64, zone: &str) -> Window {
        Window {
            opens: opens.parse().unwrap(),
            lasts: Duration::from_secs(hours * 3600),
            zone: TimeZone::get(zone).unwrap(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_opens_when_its_fields_say_so() {
        // 2026-11-26 is a Thursday.
        let now = at("2026-11-26T12:00:00Z");
        for (opens, next) in [
            ("0 22 * * SAT", "2026-11-28T22:00:00Z"),
            ("0 22 * * 6", "2026-11-28T22:00:00Z"),
            ("30 1 * * 7", "2026-11-29T01:30:00Z"),
            ("30 1 * * sun", "2026-11-29T01:30:00Z"),
            ("0 12 * * *", "2026-11-27T12:00:00Z"),
            ("*/20 * * * *", "2026-11-26T12:20:00Z"),
            ("5/20 * * * *", "2026-11-26T12:05:00Z"),
            ("0 2 1-7 * *", "2026-12-01T02:00:00Z"),
            ("0 2 1,15 JAN-MAR *", "2027-01-01T02:00:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            // Both days are restricted: either one counts.
            ("0 0 1 * FRI", "2026-11-27T00:00:00Z"),
            ("0 0 */2 * FRI", "2026-11-27T00:00:00Z"),
            ("15,45 8-18/5 * * MON-FRI", "2026-11-26T13:15:00Z"),
        ] {
            let window = window(opens, 1, "UTC");
            assert_eq!(window.opens_after(now), Some(at(next)), "{opens}");
        }
    }

    #[test]
    fn it_is_open_from_its_first_moment_on_and_not_at_its_end() {
        let windows = [window("0 22 * * SAT", 4, "Europe/Berlin")];
        let until = |now: &str| open_until(&windows, at(now)).map(|at| at.to_string());
        let end = Some("2026-11-29T01:00:00Z".to_owned());
        assert_eq!(until("2026-11-28T20:59:59Z"), None);
        assert_eq!(until("2026-11-28T21:00:00Z"), end);
        assert_eq!(until("2026-11-29T00:59:59Z"), end);
        assert_eq!(until("2026-11-29T01:00:00Z"), None);
        assert_eq!(
            next(&windows, at("2026-11-28T21:00:00Z")),
            Some((
                at("2026-12-05T21:00:00Z"),
                "2026-12-05 22:00 Europe/Berlin".to_owned()
            ))
        );
        assert_eq!(next(&[], at("2026-11-28T21:00:00Z")), None);
    }

    #[test]
    fn clocks_that_change_leave_no_window_out() {
        // Berlin left 02:00 to 03:00 out on 2027-03-28, and has it twice on 2026-10-25.
        let windows = [window("30 2 * * *", 1, "Europe/Berlin")];
        let next = |now: &str| next(&windows, at(now)).unwrap().0.to_string();
        assert_eq!(next("2027-03-28T00:00:00Z"), "2027-03-28T01:30:00Z");
        assert_eq!(next("2026-10-25T00:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(next("2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn the_window_that_stays_open_longest_counts() {
        let windows = [
            window("0 20 * * *", 2, "UTC"),
            window("0 21 * * *", 5, "UTC"),
        ];
        let until = open_until(&windows, at("2026-11-26T21:30:00Z"));
        assert_eq!(until, Some(at("2026-11-27T02:00:00Z")));
    }

    #[test]
    fn what_is_no_time_is_told_with_its_field() {
        let why = |text: &str| text.parse::<Cron>().unwrap_err().to_string();
        assert_eq!(
            why("@weekly"),
            "`@weekly` has 1 fields, and five are expected: minute, hour, day of the month, month, day of the week"
        );
        assert_eq!(
            why("60 * * * *"),
            "`60` is not a minute: 0 to 59 is expected, or `*`, lists, ranges and steps of these"
        );
        for text in [
            "* 24 * * *",
            "* * 0 * *",
            "* * * FOO *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "+5 * * * *",
            ", * * * *",
            "1-2-3 * * * *",
        ] {
            assert!(why(text).contains(" is expected"), "{text}");
        }
        assert_eq!(why("0 0 31 2 *"), "`0 0 31 2 *` never comes");
    }
}
