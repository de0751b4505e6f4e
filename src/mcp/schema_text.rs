//! Tables as text that a model reads well and that costs few tokens: close to DDL, one line a column.

use std::fmt::Write;

use crate::db::{Key, KnownValues, Table, TableColumn};
use crate::domain::Profile;

/// Writes tables, with the values that the caller sees and the profile's hints.
pub(super) fn write(tables: &[&Table], values: &[KnownValues], profile: &Profile) -> String {
    let mut text = String::new();
    for table in tables {
        if !text.is_empty() {
            text.push('\n');
        }
        let values: Vec<_> = values.iter().filter(|known| known.table == table.name).collect();
        // Writing to a String can not fail.
        let _ = write_table(&mut text, table, &values, profile.table_hints.get(&table.name));
    }
    text
}

fn write_table(text: &mut String, table: &Table, values: &[&KnownValues], hint: Option<&String>) -> std::fmt::Result {
    let kind = if table.is_view { "view " } else { "" };
    write!(text, "{kind}{}", table.name)?;
    let about = [row_estimate(table.row_estimate), table.comment.clone()].into_iter().flatten().collect::<Vec<_>>();
    if !about.is_empty() {
        write!(text, " -- {}", about.join("; "))?;
    }
    text.push('\n');
    for column in &table.columns {
        write_column(text, table, column, values)?;
    }
    for key in &table.keys {
        match key {
            Key::Primary(columns) if columns.len() > 1 => writeln!(text, "  primary key ({})", columns.join(", "))?,
            Key::Unique(columns) if columns.len() > 1 && !holds_primary_key(table, columns) => {
                writeln!(text, "  unique ({})", columns.join(", "))?;
            }
            Key::References { columns, table, target } if columns.len() > 1 => {
                writeln!(text, "  ({}) -> {table} ({})", columns.join(", "), target.join(", "))?;
            }
            Key::Check(condition) => writeln!(text, "  check {condition}")?,
            _ => {}
        }
    }
    for known in values.iter().filter(|known| table.columns.iter().all(|column| column.name != known.label)) {
        writeln!(text, "  {}: {}", known.label, known.values.join(" | "))?;
    }
    if let Some(hint) = hint {
        writeln!(text, "  hint: {hint}")?;
    }
    Ok(())
}

fn write_column(text: &mut String, table: &Table, column: &TableColumn, values: &[&KnownValues]) -> std::fmt::Result {
    write!(text, "  {} {}", column.name, short_type(&column.type_name))?;
    let mut is_primary = false;
    for key in &table.keys {
        match key {
            Key::Primary(of) if is_only(of, column) => {
                is_primary = true;
                text.push_str(" primary key");
            }
            Key::Unique(of) if is_only(of, column) => text.push_str(" unique"),
            Key::References { columns, table, target } if is_only(columns, column) => {
                write!(text, " -> {table}.{}", target.join(", "))?;
            }
            _ => {}
        }
    }
    if !column.not_null && !is_primary {
        text.push_str(" null");
    }
    let known = values.iter().find(|known| known.label == column.name);
    let values = known.map(|known| &known.values).unwrap_or(&column.labels);
    let about =
        column.comment.iter().cloned().chain((!values.is_empty()).then(|| format!("one of: {}", values.join(" | "))));
    let about: Vec<_> = about.collect();
    if !about.is_empty() {
        write!(text, " -- {}", about.join("; "))?;
    }
    text.push('\n');
    Ok(())
}

fn is_only(columns: &[String], column: &TableColumn) -> bool {
    matches!(columns, [only] if *only == column.name)
}

fn holds_primary_key(table: &Table, columns: &[String]) -> bool {
    table
        .keys
        .iter()
        .any(|key| matches!(key, Key::Primary(primary) if primary.iter().all(|column| columns.contains(column))))
}

/// `~200k rows in all`, from an estimate over all callers' rows.
fn row_estimate(rows: f64) -> Option<String> {
    let rounded = match rows {
        r if r < 0.0 => return None,
        r if r < 1_000.0 => format!("{r:.0}"),
        r if r < 1_000_000.0 => format!("{:.0}k", r / 1e3),
        r => format!("{:.1}M", r / 1e6),
    };
    Some(format!("~{rounded} rows in all"))
}

fn short_type(name: &str) -> String {
    name.replace("timestamp with time zone", "timestamptz")
        .replace("timestamp without time zone", "timestamp")
        .replace("character varying", "varchar")
        .replace("double precision", "float8")
        .replace("integer", "int")
        .replace("boolean", "bool")
}
