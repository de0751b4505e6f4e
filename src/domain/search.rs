//! Search, as far as it needs no I/O: where a data set is searched, what a person typed, and how what was found is put
//! in order. Meaning decides, unless the words are those of a name or a code.

use std::collections::BTreeSet;

use serde::Deserialize;

/// Where a data set is searched. The expressions are SQL of the profile's author, who is the operator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchSource {
    /// What a row is called, as an argument's name.
    pub row: String,
    /// What stands after FROM: a table or a join.
    pub source: String,
    /// An integer that names a row of the source.
    pub key: String,
    /// The row's name, text.
    pub name: String,
    /// A code that people type, text and unique.
    pub code: String,
    /// What a row's vector is made from, text.
    pub text: String,
    /// The table of vectors, with columns `model` and `content_hash`.
    pub vectors: String,
    /// Its column that holds the key.
    pub vector_key: String,
    /// Its column that holds the vector.
    pub vector: String,
    /// What is answered for a row.
    pub columns: Vec<SearchColumn>,
    /// What a person can narrow a search by.
    #[serde(default)]
    pub filters: Vec<SearchFilter>,
    /// The models that are known to work, with what was measured of them.
    pub models: Vec<SearchModel>,
}

/// A column of the answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchColumn {
    /// Its name.
    pub name: String,
    /// PostgreSQL's short name of its type.
    pub r#type: String,
    /// Its value.
    pub expression: String,
}

/// An optional argument of the search tools.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchFilter {
    /// The argument's name.
    pub name: String,
    /// What a value is.
    pub r#type: FilterType,
    /// For the model.
    pub description: String,
    /// The condition, with `$value` in place of the value; one of type `flag` applies when it is true.
    pub condition: String,
}

/// What the value of a filter is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum FilterType {
    /// A text.
    Text,
    /// A number, double precision.
    Number,
    /// True applies the condition.
    Flag,
}

/// A value given for a filter.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterValue {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// True.
    Flag,
}

/// What was measured of a model on this data set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchModel {
    /// Its name, as rows carry it.
    pub name: String,
    /// Numbers in a vector.
    pub dimensions: usize,
    /// Similarity in percent below which a row is no answer, unless the caller says otherwise.
    pub threshold: f64,
}

/// What a person typed, in words.
#[derive(Clone, Debug)]
pub struct SearchText {
    text: String,
    words: BTreeSet<String>,
}

/// How a found row fits what was typed, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// The code itself.
    Code,
    /// The name, word for word.
    Name,
    /// Every word typed is in the name.
    PartOfName,
    /// Every word typed is in the name but for a typing error.
    NearName,
    /// By meaning.
    Meaning,
}

/// Why a text can not be searched for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SearchTextError {
    /// No letter and no digit.
    #[error("There is nothing to search for: describe what you need in a few words.")]
    Empty,
    /// Too long.
    #[error("The description has {0} characters; 1000 is the most.")]
    TooLong(usize),
}

impl SearchText {
    /// Reads what a person typed.
    pub fn parse(text: &str) -> Result<Self, SearchTextError> {
        let length = text.chars().count();
        if length > 1_000 {
            return Err(SearchTextError::TooLong(length));
        }
        let words = words(text);
        if words.is_empty() { Err(SearchTextError::Empty) } else { Ok(Self { text: text.trim().to_owned(), words }) }
    }

    /// As typed, without the space around it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The words, lower-case and singular.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// The codes that may be meant: as typed, in capitals, and with dashes for what separates.
    pub fn codes(&self) -> Vec<String> {
        let capitals = self.text.to_uppercase();
        let dashed = capitals.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
        vec![self.text.clone(), dashed.collect::<Vec<_>>().join("-"), capitals]
    }

    /// How a row of this name and code fits.
    pub fn fit(&self, name: &str, code: &str) -> Fit {
        if self.codes().iter().any(|typed| typed == code) {
            return Fit::Code;
        }
        let named = words(name);
        if named == self.words {
            Fit::Name
        } else if self.words.is_subset(&named) {
            Fit::PartOfName
        } else if self.words.iter().all(|word| named.iter().any(|other| near(word, other))) {
            Fit::NearName
        } else {
            Fit::Meaning
        }
    }
}

/// Lower-case, split where neither letters nor digits are, without the plural's s.
fn words(text: &str) -> BTreeSet<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| if word.len() > 3 { word.strip_suffix('s').unwrap_or(word) } else { word }.to_owned()).collect()
}

/// Whether two words are the same but for a typing error: one in four letters or more, two in eight or more.
fn near(word: &str, other: &str) -> bool {
    let allowed = match word.len() {
        0..4 => 0,
        4..8 => 1,
        _ => 2,
    };
    word == other || allowed > 0 && strsim::damerau_levenshtein(word, other) <= allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_come_before_meaning() {
        let fit = |typed: &str| SearchText::parse(typed).unwrap().fit("PVC Elbow 3/4 in", "PL-FIT-01");
        for (typed, expected) in [
            ("pl fit 01", Fit::Code),
            ("PL-FIT-01", Fit::Code),
            ("pvc elbow 3/4 in", Fit::Name),
            ("PVC elbow 3/4", Fit::PartOfName),
            ("elbows, pvc", Fit::PartOfName),
            ("pvc elbwo 3/4", Fit::NearName),
            ("a bend for plastic pipe", Fit::Meaning),
            ("pvc elbow 1/2", Fit::Meaning),
        ] {
            assert_eq!(fit(typed), expected, "{typed}");
        }
        assert!(Fit::Code < Fit::Name && Fit::NearName < Fit::Meaning);
    }

    #[test]
    fn nothing_is_nothing_to_search_for() {
        assert_eq!(SearchText::parse(" -- ").unwrap_err(), SearchTextError::Empty);
        assert_eq!(SearchText::parse(&"x".repeat(1_001)).unwrap_err(), SearchTextError::TooLong(1_001));
    }
}
