//! Sizes as people write them: `500GiB`, `10TB`, or bytes.

use std::fmt;
use std::str::FromStr;

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

const BINARY: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const LETTERS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
const DECIMAL: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];

impl FromStr for Size {
    type Err = String;

    /// A whole number and a unit, in any case; without one, bytes. `500G` is `500GB`.
    fn from_str(text: &str) -> Result<Size, String> {
        let end = text.find(|c: char| !c.is_ascii_digit());
        let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
        let unit = unit.trim_ascii();
        if digits.is_empty() {
            return Err("a size is a whole number and a unit, such as 500GiB or 10TB".to_owned());
        }
        let factor = factor(unit)
            .ok_or_else(|| format!("\"{unit}\" is no unit; write GiB or TiB, GB or TB, or none"))?;
        let number = digits.parse::<u64>().ok();
        number
            .and_then(|number| number.checked_mul(factor))
            .map(Size)
            .ok_or_else(|| "that is more than any store has".to_owned())
    }
}

fn factor(unit: &str) -> Option<u64> {
    if unit.is_empty() || unit.eq_ignore_ascii_case("B") {
        return Some(1);
    }
    let power = |units: [&str; 6], thousand: u64| {
        let place = units
            .iter()
            .position(|known| known.eq_ignore_ascii_case(unit))?;
        Some((0..=place).fold(1, |factor, _| factor * thousand))
    };
    power(LETTERS, 1000)
        .or_else(|| power(DECIMAL, 1000))
        .or_else(|| power(BINARY, 1024))
}

impl fmt::Display for Size {
    /// In the largest binary unit that has a whole one; one digit after the point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = self.0.checked_ilog2().unwrap_or(0) / 10;
        match power.checked_sub(1) {
            None => write!(f, "{} B", self.0),
            Some(place) => {
                let whole = self.0 as f64 / (1_u64 << (10 * power)) as f64;
                write!(f, "{whole:.1} {}", BINARY[place as usize])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_with_the_usual_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("3k", 3_000),
            ("500GiB", 500 << 30),
            ("500 gib", 500 << 30),
            ("10TB", 10_000_000_000_000),
            ("10T", 10_000_000_000_000),
            ("1KiB", 1024),
            ("15EiB", 15 << 60),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in [
            "",
            "GiB",
            "-1",
            "+1",
            "1.5TB",
            "1e9",
            "0x10",
            "5XB",
            "5GiBs",
            "5 G B",
            " 5",
            "16EiB",
            "é",
            "18446744073709551616",
            "99999999999999999999TB",
        ] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536 << 20, "1.5 GiB"),
            (500 << 30, "500.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
