//! The stored vectors, for the pipeline that keeps them up to date. As the tables' owner, outside of any call.
#![allow(clippy::disallowed_methods, reason = "an administrator's own connection, not one of the request path's")]

use pgvector::Vector;
use sha2::{Digest, Sha256};

use super::admin::{Admin, AdminError};
use crate::domain::{SearchModel, SearchSource};

/// How many neighbours a vector has in the index, and among how many they are picked; pgvector's own are 16 and 64.
const M: usize = 32;
const EF_CONSTRUCTION: usize = 256;

/// A row whose vector is missing or was made from another text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    key: i32,
    /// What its vector is made from.
    pub text: String,
}

/// Rows without a current vector of a model; all rows if `all`. In the order of their keys.
pub async fn pending(
    admin: &Admin,
    source: &SearchSource,
    model: &SearchModel,
    all: bool,
) -> Result<Vec<Document>, AdminError> {
    let SearchSource { source, key, text, vectors, vector_key, .. } = source;
    let sql = format!(
        "select d.key, d.text, e.content_hash
           from (select {key} as key, {text} as text from {source}) d
           left join {vectors} e on e.{vector_key} = d.key and e.model = $1
          order by d.key"
    );
    let mut documents = Vec::new();
    for row in as_owner(admin, &sql, &model.name).await? {
        let (text, stored): (String, Option<Vec<u8>>) = (row.try_get(1)?, row.try_get(2)?);
        if all || stored.is_none_or(|stored| stored != content_hash(&text)) {
            documents.push(Document { key: row.try_get(0)?, text });
        }
    }
    Ok(documents)
}

/// How many rows have a vector of a model.
pub async fn count(admin: &Admin, source: &SearchSource, model: &SearchModel) -> Result<i64, AdminError> {
    let sql = format!("select count(*) from {} where model = $1", source.vectors);
    let rows = as_owner(admin, &sql, &model.name).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.try_get(0))?)
}

async fn as_owner(admin: &Admin, sql: &str, model: &str) -> Result<Vec<tokio_postgres::Row>, AdminError> {
    admin.batch_execute("set role rowgate_owner").await?;
    let rows = admin.query(sql, &[&model]).await;
    admin.batch_execute("reset role").await?;
    Ok(rows?)
}

/// Stores the vectors of some documents, in one transaction: a batch is there or it is not. Both are in the same order.
pub async fn store(
    admin: &mut Admin,
    source: &SearchSource,
    model: &SearchModel,
    documents: &[Document],
    vectors: Vec<Vec<f32>>,
) -> Result<(), AdminError> {
    let SearchSource { vectors: table, vector_key, vector, .. } = source;
    let sql = format!(
        "insert into {table} ({vector_key}, model, {vector}, content_hash) values ($1, $2, $3, $4)
         on conflict ({vector_key}, model) do update
            set {vector} = excluded.{vector}, content_hash = excluded.content_hash"
    );
    let transaction = admin.transaction().await?;
    transaction.batch_execute("set local role rowgate_owner").await?;
    let insert = transaction.prepare(&sql).await?;
    for (document, numbers) in documents.iter().zip(vectors) {
        let hash = content_hash(&document.text);
        transaction.execute(&insert, &[&document.key, &model.name, &Vector::from(numbers), &hash]).await?;
    }
    Ok(transaction.commit().await?)
}

/// What the indexes of a model are called, whatever characters its own name has.
pub(super) struct IndexNames {
    /// The one that a search is written for.
    pub(super) wide: String,
    /// The one that an earlier version made.
    pub(super) narrow: String,
}

impl IndexNames {
    pub(super) fn of(model: &SearchModel) -> Self {
        let digest: String = Sha256::digest(&model.name).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { wide: format!("vectors_of_{digest}_m{M}"), narrow: format!("vectors_of_{digest}") }
    }
}

/// Makes the index of a model unless it is there: HNSW over its own rows, by the cosine. As wide as it is, a search
/// finds 99 of 100 of the nearest ten where the plain comparison would take too long (docs/search.md).
pub async fn index(admin: &mut Admin, source: &SearchSource, model: &SearchModel) -> Result<(), AdminError> {
    let SearchSource { vectors, vector, .. } = source;
    let IndexNames { wide, narrow } = IndexNames::of(model);
    let transaction = admin.transaction().await?;
    transaction.batch_execute("set local role rowgate_owner; set local maintenance_work_mem = '512MB'").await?;
    let literal = transaction.query_one("select quote_literal($1::text)", &[&model.name]).await?;
    let literal: String = literal.try_get(0)?;
    transaction
        .batch_execute(&format!(
            "create index if not exists {wide} on {vectors}
              using hnsw (({vector}::vector({})) vector_cosine_ops)
               with (m = {M}, ef_construction = {EF_CONSTRUCTION}) where model = {literal};
             analyze {vectors}",
            model.dimensions
        ))
        .await?;
    // Last, as nothing can be searched while an index is dropped.
    let narrower = "select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indexrelid
                     where i.indrelid = $1::text::regclass and c.relname = $2::text";
    for row in transaction.query(narrower, &[vectors, &narrow]).await? {
        transaction.batch_execute(&format!("drop index {}", row.try_get::<_, String>(0)?)).await?;
    }
    Ok(transaction.commit().await?)
}

fn content_hash(text: &str) -> Vec<u8> {
    Sha256::digest(text).to_vec()
}
