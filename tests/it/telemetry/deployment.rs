//! The alerts and the workbook of infra/ ask for what the program emits, by the very names.

use std::collections::BTreeSet;
use std::fs;

use rowgate::telemetry::names;
use serde_json::Value;

/// All texts between two marks.
fn between<'a>(text: &'a str, before: &str, after: &str) -> BTreeSet<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
}

/// The queries of the alerts, and those of the workbook.
fn queries() -> Vec<String> {
    let alerts = fs::read_to_string("infra/app/alerts.bicep").unwrap();
    let mut queries: Vec<String> = alerts.split("'''").skip(1).step_by(2).map(str::to_owned).collect();
    let workbook: Value = serde_json::from_str(&fs::read_to_string("infra/app/workbook.json").unwrap()).unwrap();
    let items = workbook["items"].as_array().unwrap().iter();
    queries.extend(items.filter_map(|item| item["content"]["query"].as_str()).map(str::to_owned));
    assert!(queries.len() >= 18, "{queries:#?}");
    queries
}

/// Every string in the sources of the program.
fn sources() -> String {
    fn read(folder: &str, into: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => read(path.to_str().unwrap(), into),
                false if path.extension().is_some_and(|e| e == "rs") => {
                    into.push_str(&fs::read_to_string(&path).unwrap())
                }
                false => {}
            }
        }
    }
    let mut text = String::new();
    read("src", &mut text);
    text
}

#[test]
fn queries_name_what_is_emitted() {
    let (queries, sources) = (queries(), sources());
    let measures: BTreeSet<&str> = names::ALL.iter().map(|(name, ..)| *name).collect();
    let mut asked = BTreeSet::new();
    for query in &queries {
        let of_measures = query.contains("AppMetrics");
        for name in between(query, "Name == \"", "\"") {
            if of_measures {
                assert!(measures.contains(name), "{name}: {query}");
                asked.insert(name);
            } else {
                assert!(["rowgate", "POST /mcp"].contains(&name), "{name}: {query}");
            }
        }
        // Labels, and the words that they are compared with, stand in the program as they stand here.
        let labels = between(query, "Properties[\"", "\"]");
        let words = query.split("Properties[").skip(1).filter(|rest| rest.contains("\"]) "));
        let words = words.flat_map(|rest| rest.lines().next().unwrap().split('"').skip(3).step_by(2));
        for word in labels.into_iter().chain(words) {
            assert!(sources.contains(&format!("\"{word}\"")), "{word:?} of {query}");
        }
        for span in between(query, "Name startswith \"", " \"") {
            assert!(sources.contains(&format!("\"{span}\"")), "{span}: {query}");
        }
        // Fields of the log.
        for field in between(query, "Line.", ")") {
            assert!(["level", "message", "error", "tool"].contains(&field), "{field}: {query}");
        }
    }
    assert!(asked.len() >= 8, "{asked:?}");
}

/// Each alert has its paragraph in docs/operate.md.
#[test]
fn each_alert_has_a_runbook() {
    let alerts = fs::read_to_string("infra/app/alerts.bicep").unwrap();
    let operate = fs::read_to_string("docs/operate.md").unwrap();
    let names = between(&alerts, "name: 'rowgate-", "'");
    assert!(names.len() >= 6, "{names:?}");
    for name in names.iter().filter(|name| **name != "operators") {
        assert!(operate.contains(&format!("### `rowgate-{name}`")), "docs/operate.md has nothing of rowgate-{name}");
    }
}
