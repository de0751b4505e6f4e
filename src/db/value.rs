//! From PostgreSQL's text of a value to JSON, exactly: a number where a reader of JSON gets the very value, else the
//! text. Knows types, not rows; reads nothing.

use std::fmt::Write;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use tokio_postgres::types::{Kind, Type};

use super::facts::ServerFacts;

/// The largest integer whose neighbours a reader with double precision can tell from it: 2^53 - 1.
const EXACT_INTEGER: i64 = 9_007_199_254_740_991;

/// Decimal digits that double precision always keeps.
const EXACT_DIGITS: usize = 15;

/// The name of a type that is in no facts.
pub(super) const UNKNOWN_TYPE: &str = "unknown";

/// How the text of a column's values turns into JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Boolean,
    Integer,
    Float,
    Numeric,
    Json,
    Array(Box<Encoding>),
    Text,
}

/// The name that a reader of SQL knows a type by, and how its values are encoded.
pub(super) fn encoding(oid: u32, facts: &ServerFacts) -> (String, Encoding) {
    if let Some(shipped) = Type::from_oid(oid) {
        return match shipped.kind() {
            Kind::Array(element) if *element != Type::BOX => {
                let (name, inner) = encoding(element.oid(), facts);
                (format!("{name}[]"), Encoding::Array(Box::new(inner)))
            }
            _ => (shipped.name().to_owned(), shipped_encoding(&shipped)),
        };
    }
    let Some(other) = facts.other_type(oid) else {
        return (UNKNOWN_TYPE.to_owned(), Encoding::Text);
    };
    let encoding = match (other.base, other.element, other.name.as_str()) {
        (Some(base), ..) => encoding(base, facts).1,
        (_, Some(element), _) => {
            let (name, inner) = encoding(element, facts);
            return (format!("{name}[]"), Encoding::Array(Box::new(inner)));
        }
        // pgvector writes its dense vectors as JSON arrays.
        (_, _, "vector" | "halfvec") => Encoding::Json,
        _ => Encoding::Text,
    };
    (other.name.clone(), encoding)
}

fn shipped_encoding(shipped: &Type) -> Encoding {
    match *shipped {
        Type::BOOL => Encoding::Boolean,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => Encoding::Integer,
        Type::FLOAT4 | Type::FLOAT8 => Encoding::Float,
        Type::NUMERIC => Encoding::Numeric,
        Type::JSON | Type::JSONB => Encoding::Json,
        _ => Encoding::Text,
    }
}

impl Encoding {
    /// The JSON of a value that PostgreSQL writes as `text`.
    pub(super) fn encode(&self, text: &str) -> Value {
        let exact = match self {
            Self::Boolean => match text {
                "t" => Some(Value::Bool(true)),
                "f" => Some(Value::Bool(false)),
                _ => None,
            },
            Self::Integer => text.parse::<i64>().ok().filter(|n| n.abs() <= EXACT_INTEGER).map(Value::from),
            Self::Float => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
            Self::Numeric => numeric(text),
            Self::Json => exact_json(text),
            Self::Array(element) => array(text, element),
            Self::Text => None,
        };
        exact.unwrap_or_else(|| Value::String(text.to_owned()))
    }
}

/// A numeric as a JSON number, if double precision keeps it. Trailing zeros go: 12.50 is 12.5.
fn numeric(text: &str) -> Option<Value> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.trim_start_matches(['-', '0']).len() + fraction.len();
    if digits > EXACT_DIGITS || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if fraction.bytes().all(|b| b == b'0') {
        return whole.parse::<i64>().ok().map(Value::from);
    }
    text.parse().ok().and_then(Number::from_f64).map(Value::Number)
}

/// JSON as it is, unless reading it would lose something: a long number or one of two equal keys.
fn exact_json(text: &str) -> Option<Value> {
    if !numbers_are_exact(text) {
        return None;
    }
    serde_json::from_str::<ExactJson>(text).ok().map(|exact| exact.0)
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

/// An array, if its text is of the plain kind: no explicit bounds, at most six dimensions.
fn array(text: &str, element: &Encoding) -> Option<Value> {
    let mut rest = text;
    let value = array_level(&mut rest, element, 0)?;
    rest.is_empty().then_some(value)
}

fn array_level(rest: &mut &str, element: &Encoding, depth: usize) -> Option<Value> {
    // PostgreSQL has six dimensions at most.
    if depth > 6 {
        return None;
    }
    *rest = rest.strip_prefix('{')?;
    let mut elements = Vec::new();
    if let Some(after) = rest.strip_prefix('}') {
        *rest = after;
        return Some(Value::Array(elements));
    }
    loop {
        elements.push(if rest.starts_with('{') {
            array_level(rest, element, depth + 1)?
        } else {
            array_element(rest, element)?
        });
        if let Some(after) = rest.strip_prefix(',') {
            *rest = after;
        } else {
            *rest = rest.strip_prefix('}')?;
            return Some(Value::Array(elements));
        }
    }
}

fn array_element(rest: &mut &str, element: &Encoding) -> Option<Value> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', '}'])?;
        let (plain, after) = rest.split_at_checked(end)?;
        *rest = after;
        return Some(if plain == "NULL" { Value::Null } else { element.encode(plain) });
    };
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    loop {
        match characters.next()? {
            (_, '\\') => text.push(characters.next()?.1),
            (at, '"') => {
                *rest = quoted.get(at + 1..)?;
                return Some(element.encode(&text));
            }
            (_, other) => text.push(other),
        }
    }
}

/// How many bytes a value takes as JSON.
pub(super) fn json_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Number(number) => number_bytes(number),
        Value::String(text) => string_bytes(text),
        Value::Array(elements) => 2 + elements.iter().map(|e| json_bytes(e) + 1).sum::<usize>(),
        Value::Object(object) => 2 + object.iter().map(|(k, v)| string_bytes(k) + json_bytes(v) + 2).sum::<usize>(),
    }
}

fn number_bytes(number: &Number) -> usize {
    /// Counts what is written to it.
    struct Count(usize);

    impl Write for Count {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0 += text.len();
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting does not fail.
    let _ = write!(count, "{number}");
    count.0
}

fn string_bytes(text: &str) -> usize {
    let escapes = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
        0..0x20 => 5,
        _ => 0,
    };
    2 + text.len() + text.bytes().map(escapes).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_numbers_where_that_is_exact() {
        for (text, value) in [
            ("12.50", json!(12.5)),
            ("100.00", json!(100)),
            ("-0.001", json!(-0.001)),
            ("0", json!(0)),
            ("123456789012345", json!(123_456_789_012_345_i64)),
            ("1234567890123456", json!("1234567890123456")),
            ("0.1234567890123456", json!("0.1234567890123456")),
            ("0.00085e-700", json!("0.00085e-700")),
            ("NaN", json!("NaN")),
            ("-Infinity", json!("-Infinity")),
        ] {
            assert_eq!(Encoding::Numeric.encode(text), value, "{text}");
        }
        assert_eq!(Encoding::Integer.encode("9007199254740991"), json!(9_007_199_254_740_991_i64));
        assert_eq!(Encoding::Integer.encode("9007199254740992"), json!("9007199254740992"));
        assert_eq!(Encoding::Float.encode("1e+300"), json!(1e300));
        assert_eq!(Encoding::Float.encode("Infinity"), json!("Infinity"));
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
            assert_eq!(Encoding::Json.encode(text), value, "{text}");
        }
    }

    #[test]
    fn arrays_nest_and_keep_nulls_and_quotes() {
        let texts = Encoding::Array(Box::new(Encoding::Text));
        let integers = Encoding::Array(Box::new(Encoding::Integer));
        assert_eq!(integers.encode("{}"), json!([]));
        assert_eq!(integers.encode("{{1,2},{3,NULL}}"), json!([[1, 2], [3, null]]));
        assert_eq!(texts.encode(r#"{a,"b,\"\\}",NULL,"NULL",""}"#), json!(["a", "b,\"\\}", null, "NULL", ""]));
        for odd in ["[0:1]={1,2}", "{1", "{1}}", "{1,}x", "{{{{{{{{1}}}}}}}}"] {
            assert_eq!(integers.encode(odd), json!(odd));
        }
    }

    #[test]
    fn the_size_of_a_value_is_that_of_its_json() {
        for value in [json!("a\\\"\n\u{1}é"), json!([1, 2.5, null, true, false]), json!({"a": {"b": []}}), json!(-7)] {
            let (counted, written) = (json_bytes(&value), value.to_string().len());
            assert!(counted >= written && counted <= written + 4, "{value}: {counted} for {written}");
        }
    }

    /// Every text of up to seven of these characters: a number is the number that was written.
    #[test]
    fn short_numerics_are_what_they_say() {
        let characters = ['-', '0', '1', '5', '.'];
        let mut texts = vec![String::new()];
        for _ in 0..7 {
            texts = texts.iter().flat_map(|text| characters.map(|c| format!("{text}{c}"))).collect();
            for text in &texts {
                if let Value::Number(number) = Encoding::Numeric.encode(text) {
                    assert_eq!(number.as_f64().unwrap(), text.parse::<f64>().unwrap(), "{text}");
                    assert!(!text.trim_start_matches('-').is_empty());
                }
            }
        }
    }

    /// Arrays as PostgreSQL writes them, of every short text of what it quotes.
    #[test]
    fn texts_come_out_of_an_array_as_they_went_in() {
        let characters = ['"', '\\', ',', '{', '}', ' ', 'é', 'N'];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            texts = texts.iter().flat_map(|text| characters.map(|c| format!("{text}{c}"))).collect();
            let quoted = texts.iter().map(|text| format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")));
            let array = format!("{{NULL,{}}}", quoted.collect::<Vec<_>>().join(","));
            let read = Encoding::Array(Box::new(Encoding::Text)).encode(&array);
            assert!(read[0].is_null());
            assert!(read.as_array().unwrap().iter().skip(1).eq(texts.iter().map(String::as_str)));
        }
    }
}
