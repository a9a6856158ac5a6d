//! What an unquoted word means: the rules of goyaml v2 in `sigs.k8s.io/yaml`, which is oc-mirror's reader (YAML 1.1, mostly).

use super::Scalar;

/// What a scalar stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meaning {
    /// Nothing at all.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Another number.
    Float(f64),
    /// Its own text.
    Text,
}

/// Says what a scalar stands for. Quotes make a text of it, unless a tag says otherwise.
pub(super) fn meaning(scalar: &Scalar) -> Meaning {
    match scalar.tag.as_deref() {
        Some("null" | "bool" | "int" | "float") => word(&scalar.text),
        Some(_) => Meaning::Text,
        None if scalar.plain => word(&scalar.text),
        None => Meaning::Text,
    }
}

/// Says what a plain word stands for.
fn word(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Meaning::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Meaning::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => Meaning::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Meaning::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Meaning::Float(f64::NEG_INFINITY),
        _ => number(text),
    }
}

/// Reads a number; a text where it is none.
fn number(text: &str) -> Meaning {
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) || text.len() > 64 {
        return Meaning::Text;
    }
    let plain = text.replace('_', "");
    if let Some(value) = integer(&plain) {
        return Meaning::Int(value);
    }
    match plain.parse::<f64>() {
        Ok(value) if is_float(&plain) && value.is_finite() => Meaning::Float(value),
        _ => Meaning::Text,
    }
}

/// Reads a whole number as Go's `ParseInt` does with base 0, within 64 bits.
fn integer(plain: &str) -> Option<i128> {
    let (sign, digits) = match plain.as_bytes().first()? {
        b'-' => (-1, &plain[1..]),
        b'+' => (1, &plain[1..]),
        _ => (1, plain),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(digits, base).ok()? * sign;
    (i128::from(i64::MIN)..=i128::from(u64::MAX))
        .contains(&value)
        .then_some(value)
}

/// Whether a text is written as goyaml expects of numbers with a fraction or an exponent.
fn is_float(plain: &str) -> bool {
    let unsigned = plain.strip_prefix(['-', '+']).unwrap_or(plain);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    mantissa_fits && exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `sigs.k8s.io/yaml` v1.4.0 made of the same words.
    #[test]
    fn words_mean_what_goyaml_reads() {
        use Meaning::*;
        for (text, meaning) in [
            ("yes", Bool(true)),
            ("y", Bool(true)),
            ("Y", Bool(true)),
            ("on", Bool(true)),
            ("TRUE", Bool(true)),
            ("tRUE", Text),
            ("n", Bool(false)),
            ("NO", Bool(false)),
            ("off", Bool(false)),
            ("~", Null),
            ("", Null),
            ("NULL", Null),
            ("nULL", Text),
            ("4.20", Float(4.2)),
            ("1e3", Float(1000.0)),
            ("1.", Float(1.0)),
            (".5", Float(0.5)),
            ("08", Float(8.0)),
            ("99999999999999999999", Float(1e20)),
            ("1e400", Text),
            ("0o17", Int(15)),
            ("017", Int(15)),
            ("0777", Int(511)),
            ("0o8", Text),
            ("0x1F", Int(31)),
            ("1_000", Int(1000)),
            ("+5", Int(5)),
            ("-0b11", Int(-3)),
            ("18446744073709551615", Int(u64::MAX.into())),
            ("2024-01-01", Text),
            ("12:30", Text),
            ("4.18.1", Text),
            ("=", Text),
            ("-", Text),
            ("+", Text),
            ("0x", Text),
            ("--5", Text),
            ("é", Text),
        ] {
            assert_eq!(word(text), meaning, "{text}");
        }
    }

    #[test]
    fn quotes_make_a_text_and_tags_overrule_them() {
        let scalar = |text: &str, plain, tag: Option<&str>| Scalar {
            text: text.into(),
            plain,
            tag: tag.map(str::to_owned),
        };
        assert_eq!(meaning(&scalar("yes", false, None)), Meaning::Text);
        assert_eq!(
            meaning(&scalar("yes", false, Some("bool"))),
            Meaning::Bool(true)
        );
        assert_eq!(meaning(&scalar("4.20", true, Some("str"))), Meaning::Text);
    }
}
