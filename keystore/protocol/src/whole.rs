//! Whole numbers in messages.
//!
//! To JSON Schema, and so to whoever makes a client from our description, `15.0` is an integer like `15`; serde takes only the
//! second for one. These take both: `#[serde(deserialize_with = "...")]`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// The largest whole number that every double below it can tell from its neighbours.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A whole number that fits `T`.
pub fn number<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Whole(PhantomData))
}

/// The same, or nothing.
pub fn optional<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct Number<T>(T);
    impl<'de, T: TryFrom<u64>> Deserialize<'de> for Number<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            number(deserializer).map(Number)
        }
    }
    let found = Option::<Number<T>>::deserialize(deserializer)?;
    Ok(found.map(|number| number.0))
}

struct Whole<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number in its range")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::custom("the number is out of range"))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        let value = u64::try_from(value).map_err(|_| E::custom("the number is negative"))?;
        self.visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        if value.fract() == 0.0 && (0.0..EXACT).contains(&value) {
            self.visit_u64(value as u64)
        } else {
            Err(E::custom("the number is not whole"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Deserialize, PartialEq, Debug)]
    struct Message {
        #[serde(deserialize_with = "super::number")]
        small: u8,
        #[serde(default, deserialize_with = "super::optional")]
        large: Option<u64>,
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        let read = |json: &str| serde_json::from_str::<Message>(json).ok();
        let message = |small, large| Some(Message { small, large });
        assert_eq!(read(r#"{"small": 15}"#), message(15, None));
        assert_eq!(
            read(r#"{"small": 15.0, "large": 1e3}"#),
            message(15, Some(1000))
        );
        assert_eq!(read(r#"{"small": 1, "large": null}"#), message(1, None));
        for bad in ["15.5", "256", "-1", "-1.0", "1e300", "\"1\"", "null"] {
            assert_eq!(read(&format!(r#"{{"small": {bad}}}"#)), None, "{bad}");
        }
    }
}
