//! The sample has the shapes that it is described by.

use rowgate::retail::{Catalogue, Dataset, Scale};

use crate::support::TestDatabase;

#[test]
fn the_same_scale_gives_the_same_rows() {
    let catalogue = Catalogue::read().unwrap();
    let scale = Scale::parse("0.01").unwrap();
    let (one, other) = (Dataset::generate(&catalogue, scale).unwrap(), Dataset::generate(&catalogue, scale).unwrap());
    assert_eq!(format!("{:?}", one.items), format!("{:?}", other.items));
    assert_eq!(format!("{:?}", one.customers), format!("{:?}", other.customers));
}

#[test]
fn the_catalogue_is_a_real_one() {
    let catalogue = Catalogue::read().unwrap();
    let types: Vec<_> = catalogue.categories.iter().flat_map(|category| &category.types).collect();
    let products: Vec<_> = types.iter().flat_map(|of_type| &of_type.products).collect();
    assert_eq!((catalogue.categories.len(), catalogue.stores.len()), (9, 8));
    assert!(types.len() > 60 && products.len() > 400, "{} types, {} products", types.len(), products.len());
    let different = |mut all: Vec<&str>| {
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        all.len() == count
    };
    assert!(different(products.iter().map(|product| product.name.as_str()).collect()));
    assert!(different(products.iter().map(|product| product.description.as_str()).collect()));
    assert!(different(types.iter().map(|of_type| of_type.code.as_str()).collect()));
    for product in products {
        assert!(product.cost > 0.0 && product.description.len() > 80, "{}", product.name);
    }
}

/// At full size, without a database.
#[test]
fn the_whole_data_set_has_its_proportions() {
    let catalogue = Catalogue::read().unwrap();
    let data = Dataset::generate(&catalogue, Scale::FULL).unwrap();
    assert_eq!(data.customers.len(), 50_000);
    assert!((190_000..=210_000).contains(&data.orders.len()), "{} orders", data.orders.len());
    assert!((400_000..=435_000).contains(&data.items.len()), "{} items", data.items.len());
    assert_eq!(data.inventory.len(), 8 * data.products.len());

    // Customers by their stores' weights.
    let weights: f64 = catalogue.stores.iter().map(|store| store.customers).sum();
    for (id, store) in (1..).zip(&catalogue.stores) {
        let share = data.customers.iter().filter(|c| c.primary_store_id == id).count() as f64 / 50_000.0;
        assert!((share - store.customers / weights).abs() < 0.01, "{}: {share}", store.name);
    }
    // Most orders are at the customer's own store.
    let at_home = data
        .orders
        .iter()
        .filter(|order| data.customers[order.customer_id as usize - 1].primary_store_id == order.store_id);
    let loyalty = at_home.count() as f64 / data.orders.len() as f64;
    assert!((0.8..0.95).contains(&loyalty), "{loyalty}");
    // Discounts.
    let discounted =
        data.items.iter().filter(|item| item.discount_percent > 0).count() as f64 / data.items.len() as f64;
    assert!((0.14..0.16).contains(&discounted), "{discounted}");
    assert!(data.items.iter().all(|item| item.discount_percent == 0 || (5..=25).contains(&item.discount_percent)));
}

#[tokio::test]
async fn what_is_in_the_database_holds_together() {
    let database = TestDatabase::create().await;
    let superuser = database.superuser().await;
    let no_row = async |what: &str, sql: &str| {
        let rows = superuser.query(sql, &[]).await.unwrap();
        assert!(rows.is_empty(), "{what}: {rows:?}");
    };
    no_row(
        "totals are quantity × price − discount",
        "select * from retail.order_items where total_amount <> quantity * unit_price - discount_amount",
    )
    .await;
    no_row("the discount is that percentage", "select * from retail.order_items where discount_amount <> round(quantity * unit_price * discount_percent / 100, 2)").await;
    no_row("prices are within a fifth of the list price", "select * from retail.order_items join retail.products using (product_id) where unit_price not between base_price * 0.799 - 0.01 and base_price * 1.201 + 0.01").await;
    no_row("the base price is the cost through 0.67", "select * from retail.products where abs(base_price - cost / 0.67) > 0.011 or gross_margin_percent not between 31 and 35").await;
    no_row("an order has one to five items", "select order_id from retail.orders left join retail.order_items using (order_id) group by 1 having count(order_item_id) not between 1 and 5").await;
    no_row(
        "every customer has an order",
        "select * from retail.customers where customer_id not in (select customer_id from retail.orders)",
    )
    .await;
    no_row(
        "customers come before their orders",
        "select * from retail.orders join retail.customers using (customer_id) where order_date < created_at::date",
    )
    .await;
    no_row("a category is its type's", "select * from retail.products join retail.product_types t using (type_id) where products.category_id <> t.category_id").await;
    let number = async |sql: &str| -> i64 { superuser.query_one(sql, &[]).await.unwrap().get(0) };
    assert_eq!(number("select count(*) from retail.customers").await, 1_000);
    // The next row gets a new id.
    assert_eq!(number("select nextval('retail.customers_customer_id_seq')").await, 1_001);
    assert_eq!(number("select count(*) from pg_constraint where contype = 'f' and connamespace = 'retail'::regnamespace and convalidated").await, 11);
    assert_eq!(
        number("select count(*) from pg_stats where schemaname = 'retail' and tablename = 'order_items'").await,
        9
    );
}

#[test]
fn demand_has_its_seasons_and_years() {
    let data = Dataset::generate(&Catalogue::read().unwrap(), Scale::FULL).unwrap();
    use chrono::Datelike;
    let of_year = |year: i32| data.orders.iter().filter(|order| order.date.year() == year).count();
    let years: Vec<usize> = (2020..=2026).map(of_year).collect();
    assert_eq!(years.iter().sum::<usize>(), data.orders.len());
    for (before, after) in [(0, 1), (1, 2), (3, 4), (4, 5), (5, 6)] {
        assert!(years[after] > years[before], "{years:?}");
    }
    assert!(years[3] < years[2], "2023 dips: {years:?}");

    let of_month = |category: i32| {
        let mut months = [0_usize; 12];
        for item in &data.items {
            if data.products[item.product_id as usize - 1].category_id == category {
                months[data.orders[item.order_id as usize - 1].date.month0() as usize] += 1;
            }
        }
        months
    };
    let peak = |months: [usize; 12]| (0..12).max_by_key(|month| months[*month]).unwrap();
    assert_eq!(peak(of_month(3)), 3, "paint peaks in April");
    assert!([5, 6].contains(&peak(of_month(2))), "power tools peak in summer");
    assert!([5, 6].contains(&peak(of_month(5))), "lumber peaks in summer");
    let garden = of_month(8);
    assert!(garden[0] * 3 < garden[4], "the garden rests in winter: {garden:?}");
}
