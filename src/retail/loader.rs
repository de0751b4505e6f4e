//! Puts the sample into a database that has its migrations: all of it or nothing.

use indicatif::ProgressBar;
use rust_decimal::Decimal;
use tokio_postgres::types::{ToSql, Type};

use super::catalogue::{Catalogue, SampleError};
use super::generator::{Dataset, Scale};
use crate::db::admin::{Admin, AdminError};
use crate::db::bulk::{BulkLoad, Target, has_rows};

/// What came of seeding.
#[derive(Debug, PartialEq, Eq)]
pub enum Seeded {
    /// The data set was there before and was left alone.
    AlreadyThere,
    /// This many rows were loaded.
    Loaded {
        /// In all tables.
        rows: u64,
    },
}

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The data files.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The database.
    #[error("the sample could not be loaded, so nothing was changed")]
    Database(#[from] AdminError),
}

type Value = Box<dyn ToSql + Sync + Send>;

macro_rules! row {
    ($($value:expr),* $(,)?) => { [$(Box::new($value) as Value),*] };
}

macro_rules! target {
    ($name:ident: $table:literal { $($column:ident $of:ident),* $(,)? }) => {
        const $name: Target = Target { table: $table, columns: &[$((stringify!($column), Type::$of)),*] };
    };
}

target!(TENANTS: "rowgate.stores" { store_id INT4 });
target!(PRINCIPALS: "rowgate.principals" { principal TEXT, display_name TEXT, all_stores BOOL });
target!(PRINCIPAL_STORES: "rowgate.principal_stores" { principal TEXT, store_id INT4 });
target!(STORES: "retail.stores" { store_id INT4, store_name TEXT, is_online BOOL });
target!(CATEGORIES: "retail.categories" { category_id INT4, category_name TEXT });
target!(TYPES: "retail.product_types" { type_id INT4, category_id INT4, type_name TEXT });
target!(PRODUCTS: "retail.products" {
    product_id INT4, sku TEXT, product_name TEXT, category_id INT4, type_id INT4, cost NUMERIC, base_price NUMERIC,
    gross_margin_percent NUMERIC, product_description TEXT,
});
target!(CUSTOMERS: "retail.customers" {
    customer_id INT4, first_name TEXT, last_name TEXT, email TEXT, phone TEXT, primary_store_id INT4,
    created_at TIMESTAMPTZ,
});
target!(INVENTORY: "retail.inventory" { store_id INT4, product_id INT4, stock_level INT4 });
target!(ORDERS: "retail.orders" { order_id INT4, customer_id INT4, store_id INT4, order_date DATE });
target!(ITEMS: "retail.order_items" {
    order_item_id INT4, order_id INT4, store_id INT4, product_id INT4, quantity INT4, unit_price NUMERIC,
    discount_percent INT4, discount_amount NUMERIC, total_amount NUMERIC,
});

/// The embeddings are emptied too: they belong to the products.
const EMPTIED: &[&str] = &["retail.product_description_embeddings"];

/// Loads the sample at a scale, replacing what is there if `reset`. `progress` is given the number of rows and counts
/// them.
pub async fn seed(admin: &mut Admin, scale: Scale, reset: bool, progress: &ProgressBar) -> Result<Seeded, SeedError> {
    if !reset && has_rows(admin, STORES.table).await? {
        return Ok(Seeded::AlreadyThere);
    }
    let catalogue = Catalogue::read()?;
    let data = Dataset::generate(&catalogue, scale)?;
    let stores = &catalogue.stores;
    let ids = || 1_i32..;

    let targets = [&STORES, &CATEGORIES, &TYPES, &PRODUCTS, &CUSTOMERS, &INVENTORY, &ORDERS, &ITEMS];
    let tables: Vec<_> = targets.iter().map(|target| target.table).chain(EMPTIED.iter().copied()).collect();
    let load = BulkLoad::begin(admin, &tables).await?;
    progress.set_length((data.customers.len() + data.inventory.len() + data.orders.len() + data.items.len()) as u64);
    let each = |rows| progress.inc(rows);

    load.add_missing(&TENANTS, ids().zip(stores).map(|(id, _)| row![id])).await?;
    let head_office = &catalogue.head_office;
    let principals = std::iter::once((&head_office.principal, &head_office.name, true))
        .chain(stores.iter().map(|store| (&store.principal, &store.name, false)));
    load.add_missing(&PRINCIPALS, principals.map(|(id, name, all)| row![id.clone(), name.clone(), all])).await?;
    let seen = ids().zip(stores).map(|(id, store)| row![store.principal.clone(), id]);
    load.add_missing(&PRINCIPAL_STORES, seen).await?;

    let rows = ids().zip(stores).map(|(id, store)| row![id, store.name.clone(), store.is_online]);
    load.copy(&STORES, rows, |_| {}).await?;
    let rows = ids().zip(&catalogue.categories).map(|(id, category)| row![id, category.name.clone()]);
    load.copy(&CATEGORIES, rows, |_| {}).await?;
    let types = ids().zip(&catalogue.categories).flat_map(|(id, c)| c.types.iter().map(move |of_type| (id, of_type)));
    let rows = ids().zip(types).map(|(id, (category, of_type))| row![id, category, of_type.name.clone()]);
    load.copy(&TYPES, rows, |_| {}).await?;
    let rows = ids().zip(&data.products).map(|(id, product)| {
        let margin = (product.base_price - product.cost) * 10_000 / product.base_price.max(1);
        row![
            id,
            product.sku.clone(),
            product.name.clone(),
            product.category_id,
            product.type_id,
            money(product.cost),
            money(product.base_price),
            money(margin),
            product.description.clone(),
        ]
    });
    load.copy(&PRODUCTS, rows, |_| {}).await?;

    let rows = ids().zip(&data.customers).map(|(id, c)| {
        row![
            id,
            c.first_name.clone(),
            c.last_name.clone(),
            c.email.clone(),
            c.phone.clone(),
            c.primary_store_id,
            c.created_at,
        ]
    });
    load.copy(&CUSTOMERS, rows, each).await?;
    let rows = data.inventory.iter().map(|stock| row![stock.store_id, stock.product_id, stock.level]);
    load.copy(&INVENTORY, rows, each).await?;
    let rows = ids().zip(&data.orders).map(|(id, order)| row![id, order.customer_id, order.store_id, order.date]);
    load.copy(&ORDERS, rows, each).await?;
    let rows = ids().zip(&data.items).map(|(id, item)| {
        row![
            id,
            item.order_id,
            item.store_id,
            item.product_id,
            item.quantity,
            money(item.unit_price),
            item.discount_percent,
            money(item.discount),
            money(item.total),
        ]
    });
    load.copy(&ITEMS, rows, each).await?;

    progress.set_message("indexing");
    load.finish().await?;
    Ok(Seeded::Loaded { rows: progress.position() })
}

fn money(cents: i64) -> Decimal {
    Decimal::new(cents, 2)
}
