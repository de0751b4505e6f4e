//! BERT's tokenizer for uncased text: cleaned, split at spaces and punctuation, then into the longest known pieces.

use std::collections::HashMap;

use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

/// Longer words become a single `[UNK]`, as in BERT.
const MAX_WORD_CHARS: usize = 100;

/// A token a line; its number is the line's, from 0.
const VOCABULARY: &str = include_str!("vocabulary.txt");

/// Turns text into BERT token ids. `[CLS]` and the like inside a text are ordinary text.
pub(super) struct WordPiece {
    vocab: HashMap<&'static str, i32>,
    cls: i32,
    sep: i32,
    unknown: i32,
}

impl WordPiece {
    /// Reads the vocabulary; an error names the special token that it lacks.
    pub(super) fn new() -> Result<Self, &'static str> {
        let vocab: HashMap<_, _> = VOCABULARY.lines().zip(0..).collect();
        let special = |name: &'static str| vocab.get(name).copied().ok_or(name);
        let (cls, sep, unknown) = (special("[CLS]")?, special("[SEP]")?, special("[UNK]")?);
        Ok(Self { vocab, cls, sep, unknown })
    }

    /// The ids of `text` between `[CLS]` and `[SEP]`, at most `max_tokens` (two or more) in all.
    pub(super) fn encode(&self, text: &str, max_tokens: usize) -> Vec<i32> {
        let room = max_tokens.saturating_sub(1);
        let mut ids = vec![self.cls];
        for chunk in normalise(text).split_whitespace() {
            for piece in chunk.split_inclusive(is_punctuation) {
                let word = piece.trim_end_matches(is_punctuation);
                self.push_word(word, &mut ids);
                self.push_word(piece.strip_prefix(word).unwrap_or_default(), &mut ids);
            }
            if ids.len() >= room {
                break;
            }
        }
        ids.truncate(room);
        ids.push(self.sep);
        ids
    }

    /// Splits `word` greedily into the longest known pieces; `[UNK]` if that fails anywhere.
    fn push_word(&self, word: &str, ids: &mut Vec<i32>) {
        let start = ids.len();
        let mut key = String::new();
        let mut rest = if word.chars().count() > MAX_WORD_CHARS { "" } else { word };
        while !rest.is_empty() {
            let prefix = if ids.len() == start { "" } else { "##" };
            let found = rest.char_indices().rev().find_map(|(i, c)| {
                let (head, tail) = rest.split_at_checked(i + c.len_utf8())?;
                key.clear();
                key.extend([prefix, head]);
                self.vocab.get(key.as_str()).map(|id| (*id, tail))
            });
            let Some((id, tail)) = found else {
                ids.truncate(start);
                break;
            };
            ids.push(id);
            rest = tail;
        }
        if ids.len() == start && !word.is_empty() {
            ids.push(self.unknown);
        }
    }
}

/// Drops control characters and accents, lower-cases, and sets CJK ideographs apart.
fn normalise(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' => clean.push(' '),
            '\u{fffd}' => {}
            c if c.is_other() => {}
            c if is_ideograph(c) => clean.extend([' ', c, ' ']),
            c => clean.push(c),
        }
    }
    let bare = clean.nfd().filter(|c| !c.is_mark_nonspacing());
    bare.flat_map(char::to_lowercase).collect()
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.is_punctuation()
}

/// The ideographs BERT knows of (the gap after `2b81f` is the reference's own).
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}'
        | '\u{2f800}'..='\u{2fa1f}')
}
