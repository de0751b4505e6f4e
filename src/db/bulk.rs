//! Bulk loading by binary COPY, as the tables' owner and in one transaction: either all of a data set is there
//! afterwards, protected as before, or nothing has changed.
#![allow(clippy::disallowed_methods, reason = "an administrator's own connection, not one of the request path's")]

use futures_util::pin_mut;
use tokio_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use super::admin::{Admin, AdminError};

/// A load under way. Dropping it undoes it.
pub struct BulkLoad<'a> {
    transaction: Transaction<'a>,
    tables: Vec<&'static str>,
    /// Statements that bring back what was set aside for speed.
    restore: Vec<String>,
}

/// A table to load: its qualified name, the columns given, and their types.
pub struct Target {
    /// `schema.table`.
    pub table: &'static str,
    /// In the order of the values.
    pub columns: &'static [(&'static str, Type)],
}

/// Whether a table has rows. For the tables' owner.
pub async fn has_rows(admin: &mut Admin, table: &'static str) -> Result<bool, AdminError> {
    let transaction = admin.transaction().await?;
    transaction.batch_execute("set local role rowgate_owner").await?;
    let row = transaction.query_one(&format!("select exists (select from {table})"), &[]).await?;
    Ok(row.try_get(0)?)
}

impl<'a> BulkLoad<'a> {
    /// Empties the tables and sets aside what slows loading: indexes, foreign keys and, because COPY refuses tables
    /// whose policies apply to the loader, FORCE. Nobody sees that: the tables are locked until the end.
    pub async fn begin(admin: &'a mut Admin, tables: &[&'static str]) -> Result<Self, AdminError> {
        let transaction = admin.transaction().await?;
        transaction.batch_execute("set local role rowgate_owner; set local maintenance_work_mem = '256MB'").await?;
        transaction.batch_execute(&format!("truncate {}", tables.join(", "))).await?;
        let set_aside = transaction
            .query(
                "with loaded as (select t::regclass::oid as oid from unnest($1::text[]) t)
                 select 1, format('alter table %s drop constraint %I', k.conrelid::regclass, k.conname),
                        format('alter table %s add constraint %I %s', k.conrelid::regclass, k.conname,
                               pg_get_constraintdef(k.oid))
                   from pg_constraint k where k.contype = 'f' and k.conrelid in (select oid from loaded)
                 union all
                 select 2, format('drop index %s', i.indexrelid::regclass), pg_get_indexdef(i.indexrelid)
                   from pg_index i where i.indrelid in (select oid from loaded)
                    and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
                 union all
                 select 3, format('alter table %s no force row level security', c.oid::regclass),
                        format('alter table %s force row level security', c.oid::regclass)
                   from pg_class c where c.relforcerowsecurity and c.oid in (select oid from loaded)
                 order by 1",
                &[&tables],
            )
            .await?;
        let mut restore = Vec::new();
        for row in &set_aside {
            transaction.batch_execute(row.try_get(1)?).await?;
            restore.push((row.try_get::<_, i32>(0)?, row.try_get(2)?));
        }
        // Indexes first, so that the keys are checked by them; FORCE last.
        restore.sort_by_key(|(kind, _): &(i32, String)| match kind {
            2 => 0,
            1 => 1,
            _ => 2,
        });
        let restore = restore.into_iter().map(|(_, statement)| statement).collect();
        Ok(Self { transaction, tables: tables.to_vec(), restore })
    }

    /// Loads rows into one table. `each` is called with how many rows went out since the last time.
    pub async fn copy<const N: usize>(
        &self,
        target: &Target,
        rows: impl Iterator<Item = [Box<dyn ToSql + Sync + Send>; N]>,
        mut each: impl FnMut(u64),
    ) -> Result<(), AdminError> {
        let columns: Vec<_> = target.columns.iter().map(|(name, _)| *name).collect();
        let types: Vec<_> = target.columns.iter().map(|(_, of)| of.clone()).collect();
        let statement = format!("copy {} ({}) from stdin (format binary)", target.table, columns.join(", "));
        let sink = self.transaction.copy_in(&statement).await?;
        let writer = BinaryCopyInWriter::new(sink, &types);
        pin_mut!(writer);
        let mut sent = 0;
        for row in rows {
            writer.as_mut().write_raw(row.iter().map(|value| &**value as &(dyn ToSql + Sync))).await?;
            sent += 1;
            if sent == 1_000 {
                each(sent);
                sent = 0;
            }
        }
        each(sent);
        writer.finish().await?;
        Ok(())
    }

    /// Adds the rows that are missing from a table which is not emptied, because others put rows there too.
    pub async fn add_missing<const N: usize>(
        &self,
        target: &Target,
        rows: impl Iterator<Item = [Box<dyn ToSql + Sync + Send>; N]>,
    ) -> Result<(), AdminError> {
        let columns: Vec<_> = target.columns.iter().map(|(name, _)| *name).collect();
        let bound: Vec<_> = (1..=N).map(|n| format!("${n}")).collect();
        let statement = format!(
            "insert into {} ({}) values ({}) on conflict do nothing",
            target.table,
            columns.join(", "),
            bound.join(", ")
        );
        let insert = self.transaction.prepare(&statement).await?;
        for row in rows {
            let values: Vec<_> = row.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
            self.transaction.execute(&insert, &values).await?;
        }
        Ok(())
    }

    /// Brings back indexes, keys and protection, commits, and lets the planner count the rows.
    pub async fn finish(self) -> Result<(), AdminError> {
        for statement in &self.restore {
            self.transaction.batch_execute(statement).await?;
        }
        // Ids that were given move their sequences, so that the next row gets a new one.
        let sequences = self
            .transaction
            .query(
                "select format('select setval(%L, greatest(max(%I), 1)) from %s',
                               pg_get_serial_sequence(a.attrelid::regclass::text, a.attname), a.attname, a.attrelid::regclass)
                   from pg_attribute a
                  where a.attidentity <> '' and a.attrelid in (select t::regclass::oid from unnest($1::text[]) t)",
                &[&self.tables],
            )
            .await?;
        for row in &sequences {
            self.transaction.batch_execute(row.try_get(0)?).await?;
        }
        self.transaction.batch_execute(&format!("analyze {}", self.tables.join(", "))).await?;
        self.transaction.commit().await?;
        Ok(())
    }
}
