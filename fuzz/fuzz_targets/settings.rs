//! What an operator writes: the environment and the profile; and what is searched for, with the profile's names. A
//! problem with a setting never repeats a secret's text. The first byte chooses.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use rowgate::config::{Settings, VARIABLES};
use rowgate::domain::{Fit, Profile, SearchText};

const SECRET: &str = "~s3cr3t~";

fuzz_target!(|input: (u8, &str)| {
    let (what, text) = input;
    match what % 3 {
        0 => environment(text),
        1 => {
            if let Ok(profile) = Profile::parse(text) {
                assert!(profile.tools.all().iter().all(|tool| (1..=64).contains(&tool.name.len())));
            }
        }
        _ => {
            let (typed, name) = text.split_once('\n').unwrap_or((text, ""));
            if let Ok(typed) = SearchText::parse(typed) {
                assert!(typed.words().next().is_some());
                let _ = typed.fit(name, text);
                assert!(typed.fit(typed.as_str(), "") <= Fit::Name);
            }
        }
    }
});

/// Lines of `NAME=value`; a number stands for a variable that there is.
fn environment(text: &str) {
    let mut environment = BTreeMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let known = name.parse::<usize>().ok().map(|n| VARIABLES[n % VARIABLES.len()].0);
        let name = known.unwrap_or(name);
        let secret = ["_URL", "_KEYS", "_KEY", "_PASSWORD"].iter().any(|end| name.ends_with(end));
        let public = name == "ROWGATE_PUBLIC_URL";
        let value = if secret && !public { value.replace('~', SECRET) } else { value.to_owned() };
        environment.insert(name.to_owned(), value);
    }
    match Settings::read(environment) {
        Ok(settings) => assert!(!format!("{settings:?}").contains(SECRET)),
        Err(problems) => assert!(!problems.to_string().contains(SECRET) || text.contains(SECRET), "{problems}"),
    }
}
