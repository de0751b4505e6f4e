//! The sample's rows, drawn from a seed: the same scale gives the same rows. Ids count from 1 in the order of the
//! vectors. Money is in cents. Does no I/O.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::catalogue::{Catalogue, SampleError};

/// The seed of everything.
const SEED: u64 = 0x5a61_7661;

/// Customers at scale 1.
const CUSTOMERS: f64 = 50_000.0;

const FIRST_YEAR: i32 = 2020;

/// Growth, with a dip in 2023.
const YEARS: [f64; 7] = [1.0, 1.1, 1.21, 1.15, 1.265, 1.392, 1.531];

/// How many customers place 0, 1, 2 … orders, before their store's frequency.
const ORDERS: [f64; 6] = [20.0, 40.0, 20.0, 10.0, 7.0, 3.0];

/// How many orders have 1, 2, 3 … items.
const ITEMS: [f64; 5] = [40.0, 30.0, 15.0, 10.0, 5.0];

/// How many items are of 1, 2, 3 … pieces.
const QUANTITIES: [f64; 5] = [60.0, 25.0, 10.0, 3.0, 2.0];

/// How many of a customer's orders are at the primary store.
const LOYALTY: f64 = 0.85;

/// The part of the price that is the cost.
const COST_SHARE: f64 = 0.67;

/// How large the data set is: 1.0 has 50,000 customers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale(f64);

/// All rows.
#[derive(Debug)]
pub struct Dataset {
    /// In the order of their ids.
    pub products: Vec<Product>,
    /// In the order of their ids.
    pub customers: Vec<Customer>,
    /// One for each store and product.
    pub inventory: Vec<Stock>,
    /// In the order of their ids, which is that of their dates.
    pub orders: Vec<Order>,
    /// In the order of their ids.
    pub items: Vec<Item>,
}

/// A product of the catalogue with its prices.
#[derive(Debug)]
pub struct Product {
    /// Unique.
    pub sku: String,
    /// Unique.
    pub name: String,
    /// Of the category.
    pub category_id: i32,
    /// Of the product type.
    pub type_id: i32,
    /// Cents.
    pub cost: i64,
    /// Cents.
    pub base_price: i64,
    /// Of its own.
    pub description: String,
}

/// A customer.
#[derive(Debug)]
pub struct Customer {
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// Unique.
    pub email: String,
    /// A number that nobody has.
    pub phone: String,
    /// Where most of the orders are.
    pub primary_store_id: i32,
    /// Before the first order.
    pub created_at: DateTime<Utc>,
}

/// How much of a product a store has.
#[derive(Debug)]
pub struct Stock {
    /// Of the store.
    pub store_id: i32,
    /// Of the product.
    pub product_id: i32,
    /// Pieces.
    pub level: i32,
}

/// An order.
#[derive(Debug)]
pub struct Order {
    /// Of the customer.
    pub customer_id: i32,
    /// Of the store.
    pub store_id: i32,
    /// When.
    pub date: NaiveDate,
}

/// A line of an order.
#[derive(Debug)]
pub struct Item {
    /// Of the order.
    pub order_id: i32,
    /// Of the order's store.
    pub store_id: i32,
    /// Of the product.
    pub product_id: i32,
    /// Pieces.
    pub quantity: i32,
    /// Cents.
    pub unit_price: i64,
    /// 0 to 25.
    pub discount_percent: i32,
    /// Cents.
    pub discount: i64,
    /// Cents.
    pub total: i64,
}

impl Scale {
    /// The whole data set.
    pub const FULL: Self = Self(1.0);

    /// Reads a scale: 0.001 to 20.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(scale) if (0.001..=20.0).contains(&scale) => Ok(Self(scale)),
            _ => Err("a scale is a number from 0.001 to 20; 1 makes 50,000 customers".to_owned()),
        }
    }

    fn customers(self) -> usize {
        // Within 50 and 1,000,000, so the cast keeps the number.
        (CUSTOMERS * self.0).round() as usize
    }
}

/// What is drawn from, prepared once.
struct Draws<'a> {
    catalogue: &'a Catalogue,
    stores: WeightedIndex<f64>,
    years: WeightedIndex<f64>,
    months: WeightedIndex<f64>,
    orders: WeightedIndex<f64>,
    items: WeightedIndex<f64>,
    quantities: WeightedIndex<f64>,
    /// By month, the category.
    categories: Vec<WeightedIndex<f64>>,
    /// By category, the ids and base prices of its products.
    products: Vec<Vec<(i32, i64)>>,
}

impl Dataset {
    /// Draws a data set.
    pub fn generate(catalogue: &Catalogue, scale: Scale) -> Result<Self, SampleError> {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let products = products(catalogue);
        let draws = Draws::prepare(catalogue, &products)?;
        let inventory = draws.inventory(&mut rng, &products);

        let mut customers = Vec::with_capacity(scale.customers());
        let mut orders = Vec::new();
        for n in 1..=scale.customers() {
            let (customer, placed) = draws.customer(&mut rng, n);
            orders.extend(placed.into_iter().map(|(store_id, date)| Order { customer_id: n as i32, store_id, date }));
            customers.push(customer);
        }
        orders.sort_by_key(|order| (order.date, order.customer_id, order.store_id));

        let mut items = Vec::with_capacity(orders.len() * 2);
        for (n, order) in (1..).zip(&orders) {
            for _ in 0..=draws.items.sample(&mut rng) {
                items.push(draws.item(&mut rng, n, order));
            }
        }
        Ok(Self { products, customers, inventory, orders, items })
    }
}

impl<'a> Draws<'a> {
    fn prepare(catalogue: &'a Catalogue, products: &[Product]) -> Result<Self, SampleError> {
        let of_month = |month: usize| {
            catalogue.categories.iter().map(|c| c.season.get(month).copied().unwrap_or_default()).collect::<Vec<_>>()
        };
        let of_category = |n: i32| {
            let of_it = (1..).zip(products).filter(|(_, product)| product.category_id == n);
            of_it.map(|(id, product)| (id, product.base_price)).collect()
        };
        Ok(Self {
            catalogue,
            stores: WeightedIndex::new(catalogue.stores.iter().map(|store| store.customers))?,
            years: WeightedIndex::new(YEARS)?,
            months: WeightedIndex::new((0..12).map(|month| of_month(month).iter().sum::<f64>()))?,
            orders: WeightedIndex::new(ORDERS)?,
            items: WeightedIndex::new(ITEMS)?,
            quantities: WeightedIndex::new(QUANTITIES)?,
            categories: (0..12).map(|month| WeightedIndex::new(of_month(month))).collect::<Result<_, _>>()?,
            products: (1..=catalogue.categories.len() as i32).map(of_category).collect(),
        })
    }

    /// A customer, and the stores and dates of the orders.
    fn customer(&self, rng: &mut ChaCha8Rng, n: usize) -> (Customer, Vec<(i32, NaiveDate)>) {
        let people = &self.catalogue.people;
        let first_name = pick(rng, &people.first_names).cloned().unwrap_or_default();
        let last_name = pick(rng, &people.last_names).cloned().unwrap_or_default();
        let primary = self.stores.sample(rng);
        let frequency = self.catalogue.stores.get(primary).map_or(1.0, |store| store.orders);
        let count = ((self.orders.sample(rng) as f64 * frequency).floor() as usize).max(1);
        let placed: Vec<_> = (0..count)
            .map(|_| {
                let store = if rng.random_bool(LOYALTY) { primary } else { self.stores.sample(rng) };
                (store as i32 + 1, self.date(rng))
            })
            .collect();
        let first = placed.iter().map(|(_, date)| *date).min().unwrap_or_default();
        let day = first.checked_sub_days(Days::new(rng.random_range(0..90))).unwrap_or(first);
        let created_at = day.and_time(NaiveTime::MIN) + TimeDelta::seconds(rng.random_range(0..86_400));
        let area = pick(rng, &[206, 253, 360, 425, 509, 564]).copied().unwrap_or(206);
        let mailbox = format!("{first_name}.{last_name}").to_lowercase().replace(' ', "");
        let customer = Customer {
            email: format!("{mailbox}.{n}@example.com"),
            phone: format!("({area}) 555-01{:02}", rng.random_range(0..100)),
            first_name,
            last_name,
            primary_store_id: primary as i32 + 1,
            created_at: created_at.and_utc(),
        };
        (customer, placed)
    }

    fn date(&self, rng: &mut ChaCha8Rng) -> NaiveDate {
        let year = FIRST_YEAR + self.years.sample(rng) as i32;
        let first = NaiveDate::from_ymd_opt(year, self.months.sample(rng) as u32 + 1, 1).unwrap_or_default();
        first + Days::new(rng.random_range(0..u64::from(first.num_days_in_month())))
    }

    fn item(&self, rng: &mut ChaCha8Rng, order_id: i32, order: &Order) -> Item {
        let month = order.date.month0() as usize;
        let category = self.categories.get(month).map_or(0, |weights| weights.sample(rng));
        let (product_id, base_price) =
            self.products.get(category).and_then(|products| pick(rng, products)).copied().unwrap_or((1, 0));
        let quantity = self.quantities.sample(rng) as i32 + 1;
        let unit_price = cents(base_price as f64 / 100.0 * rng.random_range(0.8..1.2));
        let discount_percent = if rng.random_bool(0.15) { rng.random_range(5..=25) } else { 0 };
        let gross = unit_price * i64::from(quantity);
        let discount = (gross * i64::from(discount_percent) + 50) / 100;
        Item {
            order_id,
            store_id: order.store_id,
            product_id,
            quantity,
            unit_price,
            discount_percent,
            discount,
            total: gross - discount,
        }
    }

    /// Stock as it stands in December, the last month of the data.
    fn inventory(&self, rng: &mut ChaCha8Rng, products: &[Product]) -> Vec<Stock> {
        let heaviest = self.catalogue.stores.iter().map(|store| store.customers).fold(1.0, f64::max);
        let mut inventory = Vec::with_capacity(self.catalogue.stores.len() * products.len());
        for (store_id, store) in (1..).zip(&self.catalogue.stores) {
            for (product_id, product) in (1..).zip(products) {
                let category = self.catalogue.categories.get(product.category_id as usize - 1);
                let season = category.map_or(1.0, |category| category.season[11]);
                let usual = rng.random_range(10.0..=100.0) * (store.customers / heaviest) * season;
                let level = (usual * rng.random_range(0.5..1.5)).round() as i32;
                inventory.push(Stock { store_id, product_id, level });
            }
        }
        inventory
    }
}

fn products(catalogue: &Catalogue) -> Vec<Product> {
    let mut products = Vec::new();
    let mut type_id = 0;
    for (category_id, category) in (1..).zip(&catalogue.categories) {
        for of_type in &category.types {
            type_id += 1;
            for (n, product) in (1..).zip(&of_type.products) {
                products.push(Product {
                    sku: format!("{}-{n:02}", of_type.code),
                    name: product.name.clone(),
                    category_id,
                    type_id,
                    cost: cents(product.cost),
                    base_price: cents(product.cost / COST_SHARE),
                    description: product.description.clone(),
                });
            }
        }
    }
    products
}

fn cents(dollars: f64) -> i64 {
    (dollars * 100.0).round() as i64
}

fn pick<'t, T>(rng: &mut ChaCha8Rng, of: &'t [T]) -> Option<&'t T> {
    (!of.is_empty()).then(|| of.get(rng.random_range(0..of.len()))).flatten()
}
