//! The profile: everything that names the data set at hand (tool names and descriptions, instructions, prompts,
//! value hints). The rest of the house works for any schema. Parsed from TOML; reads no file itself.

use serde::Deserialize;

use super::SearchSource;

/// What a data set is called and how its tools present themselves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Shown as the server's title.
    pub title: String,
    /// What a model reads before it calls anything.
    pub instructions: String,
    /// Schemas that unqualified names in a caller's SQL are looked up in, in this order.
    pub search_path: Vec<String>,
    /// The folder of migrations that makes this data set, if the program ships it.
    pub migrations: Option<String>,
    /// A first question for a person to ask.
    pub first_question: String,
    /// The tools, by what they do.
    pub tools: ToolProfiles,
    /// Prompts that a person can pick.
    #[serde(default)]
    pub prompts: Vec<PromptProfile>,
    /// Values that a model should know before it writes SQL, beyond those found in the catalog.
    #[serde(default)]
    pub value_hints: Vec<ValueHint>,
    /// Where things are searched by meaning, if they are.
    pub search: Option<SearchSource>,
    /// Sentences of advice on a table, by its qualified name.
    #[serde(default)]
    pub table_hints: std::collections::BTreeMap<String, String>,
}

/// The tools.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolProfiles {
    /// Describes tables.
    pub get_table_schemas: ToolProfile,
    /// Runs a statement.
    pub execute_query: ToolProfile,
    /// Finds rows by meaning.
    pub semantic_search: ToolProfile,
    /// Finds rows like one.
    pub find_similar: ToolProfile,
    /// Tells the time.
    pub get_utc_date: ToolProfile,
}

/// How one tool presents itself to people and models.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolProfile {
    /// The tool's name in MCP.
    pub name: String,
    /// For people.
    pub title: String,
    /// For the model.
    pub description: String,
    /// A PNG, base64.
    pub icon: String,
}

/// A prompt that a person can pick in a client.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptProfile {
    /// The prompt's name in MCP.
    pub name: String,
    /// For people.
    pub title: String,
    /// For people.
    pub description: String,
    /// What the model is told.
    pub text: String,
}

/// Values to show with a table, read as the caller and never kept for another one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueHint {
    /// Qualified table name.
    pub table: String,
    /// What the values are.
    pub label: String,
    /// A query of one text column.
    pub query: String,
}

/// Why a profile is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not TOML, or not this shape.
    #[error("the profile can not be read")]
    Toml(#[from] toml::de::Error),
    /// A tool name that clients refuse.
    #[error("the tool name {0:?} must have 1 to 64 characters: letters, digits, `_` or `-`")]
    ToolName(String),
}

impl Profile {
    /// Reads a profile.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text)?;
        for tool in profile.tools.all() {
            let fits = (1..=64).contains(&tool.name.len())
                && tool.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
            if !fits {
                return Err(ProfileError::ToolName(tool.name.clone()));
            }
        }
        Ok(profile)
    }
}

impl ToolProfiles {
    /// All of them.
    pub fn all(&self) -> [&ToolProfile; 5] {
        [&self.get_table_schemas, &self.execute_query, &self.semantic_search, &self.find_similar, &self.get_utc_date]
    }
}
