//! Prompts that a person can pick, from the profile. No data.

use rmcp::model::{ErrorData, GetPromptResult, ListPromptsResult, Prompt, PromptMessage, Role};

use crate::domain::Profile;

pub(super) fn list(profile: &Profile) -> ListPromptsResult {
    let prompts = profile
        .prompts
        .iter()
        .map(|prompt| Prompt::new(&prompt.name, Some(&prompt.description), None).with_title(&prompt.title));
    ListPromptsResult::with_all_items(prompts.collect())
}

pub(super) fn get(profile: &Profile, name: &str) -> Result<GetPromptResult, ErrorData> {
    let prompt = profile.prompts.iter().find(|prompt| prompt.name == name);
    let prompt = prompt.ok_or_else(|| ErrorData::invalid_params(format!("There is no prompt {name:?}."), None))?;
    let message = PromptMessage::new_text(Role::User, &prompt.text);
    Ok(GetPromptResult::new(vec![message]).with_description(&prompt.description))
}
