//! Ranges of versions as requirements are written in: `>=1.0.0 <2.0.0 || 3.x`.
//!
//! Source: `blang/semver`, `ParseRange`, which OLM reads them with.

use std::cmp::Ordering;

use semver::{BuildMetadata, Prerelease, Version};

/// A range: one of these, each all of those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range(Vec<Vec<Comparison>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparison {
    operator: Operator,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The longest range that is read.
const MAX_LENGTH: usize = 4096;

impl Range {
    /// Reads a range; nothing where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        text.split("||").map(all).collect::<Option<_>>().map(Range)
    }

    /// Whether a version is in it. Versions compare by precedence, pre-releases like any other.
    pub fn contains(&self, version: &Version) -> bool {
        self.0
            .iter()
            .any(|all| all.iter().all(|one| one.holds(version)))
    }
}

impl Comparison {
    fn holds(&self, version: &Version) -> bool {
        let order = version.cmp_precedence(&self.version);
        match self.operator {
            Operator::Equal => order == Ordering::Equal,
            Operator::NotEqual => order != Ordering::Equal,
            Operator::Less => order == Ordering::Less,
            Operator::LessOrEqual => order != Ordering::Greater,
            Operator::Greater => order == Ordering::Greater,
            Operator::GreaterOrEqual => order != Ordering::Less,
        }
    }
}

/// Reads comparisons that hold together. White space may stand between an operator and its version.
fn all(text: &str) -> Option<Vec<Comparison>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !"<>=! \t".contains(c))?;
        let operator = operator(rest[..digits].trim())?;
        let end = rest[digits..]
            .find(|c: char| c.is_whitespace() || "<>=!".contains(c))
            .map_or(rest.len(), |end| digits + end);
        found.extend(comparisons(operator, &rest[digits..end])?);
        rest = rest[end..].trim_start();
    }
    Some(found)
}

fn operator(text: &str) -> Option<Operator> {
    Some(match text {
        "" | "=" | "==" => Operator::Equal,
        "!" | "!=" => Operator::NotEqual,
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        ">" => Operator::Greater,
        ">=" => Operator::GreaterOrEqual,
        _ => return None,
    })
}

/// Reads one version, which may have `x` in place of its last numbers: then it stands for all versions that begin so.
fn comparisons(operator: Operator, text: &str) -> Option<Vec<Comparison>> {
    if let Ok(version) = Version::parse(text) {
        return Some(vec![Comparison { operator, version }]);
    }
    let numbers: Vec<&str> = text.split('.').collect();
    let wild = numbers.iter().position(|part| *part == "x")?;
    let wild_to_the_end = numbers[wild..].iter().all(|part| *part == "x");
    if wild == 0 || numbers.len() > 3 || !wild_to_the_end {
        return None;
    }
    let number = |at: usize| match at < wild {
        true => numbers[at].parse::<u64>().ok(),
        false => Some(0),
    };
    let low = plain(number(0)?, number(1)?, number(2)?);
    let high = match wild {
        1 => plain(low.major.checked_add(1)?, 0, 0),
        _ => plain(low.major, low.minor.checked_add(1)?, 0),
    };
    let one = |operator, version| Comparison { operator, version };
    Some(match operator {
        Operator::Equal => vec![
            one(Operator::GreaterOrEqual, low),
            one(Operator::Less, high),
        ],
        Operator::Greater => vec![one(Operator::GreaterOrEqual, high)],
        Operator::GreaterOrEqual => vec![one(Operator::GreaterOrEqual, low)],
        Operator::Less => vec![one(Operator::Less, low)],
        Operator::LessOrEqual => vec![one(Operator::Less, high)],
        // Below or above: not to be said by what holds together, and nobody writes it.
        Operator::NotEqual => return None,
    })
}

fn plain(major: u64, minor: u64, patch: u64) -> Version {
    Version {
        major,
        minor,
        patch,
        pre: Prerelease::EMPTY,
        build: BuildMetadata::EMPTY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_olm_holds() {
        let holds = |range: &str, version: &str| {
            Range::parse(range)
                .unwrap_or_else(|| panic!("{range}"))
                .contains(&version.parse().unwrap())
        };
        for (range, inside, outside) in [
            (">=1.0.0 <2.0.0", "1.9.9", "2.0.0"),
            (">1.0.0  < 2.0.0", "2.0.0-rc1", "1.0.0"),
            (">= 4.8.0", "4.8.0+build", "4.8.0-0"),
            ("<0.2.0", "0.1.0", "0.2.0"),
            ("1.2.3", "1.2.3+a", "1.2.4"),
            ("==1.2.3 || >=2.0.0", "2.1.0", "1.3.0"),
            ("!=1.2.3", "1.2.4", "1.2.3"),
            ("!1.2.3", "1.2.4", "1.2.3"),
            ("1.x", "1.9.0", "2.0.0"),
            ("1.2.x", "1.2.7", "1.3.0"),
            (">1.2.x", "1.3.0", "1.2.9"),
            ("<=1.x", "1.9.9", "2.0.0"),
            (">=1.0.0<2.0.0", "1.5.0", "2.5.0"),
        ] {
            assert!(holds(range, inside), "{range} {inside}");
            assert!(!holds(range, outside), "{range} {outside}");
        }
    }

    #[test]
    fn what_is_no_range_is_nothing() {
        for text in [
            "", " ", "latest", ">=", ">=1.0", "x", "1.x.3", "><1.0.0", "1.0.0 ||", "~1.0.0",
            "!=1.x",
        ] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
        assert_eq!(Range::parse(&">1.0.0 ".repeat(1000)), None);
    }
}
