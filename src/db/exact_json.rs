//! JSON that a row holds: it becomes part of an answer if who reads that gets exactly what the database has, and stays a
//! text otherwise. Knows no types and no rows.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::value::EXACT_DIGITS;

/// JSON without its spaces, unless reading it would lose something: a long number or one of two equal keys.
pub(super) fn exact_json(text: &str) -> Option<String> {
    if !numbers_are_exact(text) {
        return None;
    }
    serde_json::from_str::<ExactJson>(text).ok().map(|exact| exact.0.to_string())
}

/// Whether every number outside of strings is read as what it is.
fn numbers_are_exact(json: &str) -> bool {
    let (mut in_string, mut escaped, mut number) = (false, false, None);
    // JSON that ends with a number is followed by what is none.
    for (at, byte) in json.bytes().chain([b' ']).enumerate() {
        if in_string {
            (in_string, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
        } else if byte.is_ascii_digit() || b".-+eE".contains(&byte) {
            number.get_or_insert(at);
        } else {
            in_string = byte == b'"';
            if number.take().and_then(|from| json.get(from..at)).is_some_and(|number| !is_exact(number)) {
                return false;
            }
        }
    }
    true
}

/// Whether serde_json reads this number as the nearest one there is: it multiplies the digits by a power of ten, and
/// double precision has both, without rounding, up to 10^22.
fn is_exact(number: &str) -> bool {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    // The end of `true`.
    digits == 0
        || digits <= EXACT_DIGITS && exponent.parse::<i16>().is_ok_and(|e| (i64::from(e) - fraction as i64).abs() <= 22)
}

/// JSON without equal keys in one object.
struct ExactJson(Value);

impl<'de> Deserialize<'de> for ExactJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExactVisitor).map(Self)
    }
}

struct ExactVisitor;

impl<'de> Visitor<'de> for ExactVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON without equal keys")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(ExactJson(element)) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, ExactJson(value))) = map.next_entry::<String, _>()? {
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("two equal keys"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a reader gets.
    fn read(text: &str) -> Value {
        exact_json(text).map_or_else(|| json!(text), |exact| serde_json::from_str(&exact).unwrap())
    }

    #[test]
    fn json_stays_json_unless_reading_it_loses_something() {
        for (text, value) in [
            (
                r#"{"a": [1, "2", null, {"b": "12345678901234567890"}]}"#,
                json!({"a": [1, "2", null, {"b": "12345678901234567890"}]}),
            ),
            (r#"{"a": 12345678901234567890}"#, json!(r#"{"a": 12345678901234567890}"#)),
            (r#"{"a": 1, "a": 2}"#, json!(r#"{"a": 1, "a": 2}"#)),
            ("[true, 3e-05, -1.5E+7, 123456789012345e8]", json!([true, 3e-5, -1.5e7, 123456789012345e8])),
            ("3e+30", json!("3e+30")),
            ("[1.23456789012345e-9]", json!("[1.23456789012345e-9]")),
            ("1e-400", json!("1e-400")),
            (r#""\\" "#, json!("\\")),
        ] {
            assert_eq!(read(text), value, "{text}");
        }
    }
}
