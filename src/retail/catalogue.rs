//! The sample's fixed part, read from the data files beside this one.

use serde::Deserialize;

const CATALOGUE: &[&str] = &[
    include_str!("catalogue/hand_tools.toml"),
    include_str!("catalogue/power_tools.toml"),
    include_str!("catalogue/paint_finishes.toml"),
    include_str!("catalogue/hardware.toml"),
    include_str!("catalogue/lumber.toml"),
    include_str!("catalogue/electrical.toml"),
    include_str!("catalogue/plumbing.toml"),
    include_str!("catalogue/garden.toml"),
    include_str!("catalogue/storage.toml"),
];
const STORES: &str = include_str!("stores.toml");
const PEOPLE: &str = include_str!("people.toml");

/// A data file of the sample's is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// Not TOML, or another shape.
    #[error("a data file of the sample can not be read")]
    Toml(#[from] toml::de::Error),
    /// Weights that nothing can be drawn by.
    #[error("the sample has weights that are not positive")]
    Weights(#[from] rand::distr::weighted::Error),
}

/// All that the generator draws from.
#[derive(Debug)]
pub struct Catalogue {
    /// In the order of their ids.
    pub categories: Vec<Category>,
    /// In the order of their ids.
    pub stores: Vec<Store>,
    /// The caller that sees all stores.
    pub head_office: Caller,
    pub(super) people: People,
}

/// A category and what belongs to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// Its name.
    #[serde(rename = "category")]
    pub name: String,
    /// Weight of its demand, January to December.
    pub season: [f64; 12],
    /// Kinds of product.
    pub types: Vec<ProductType>,
}

/// A kind of product.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductType {
    /// Its name.
    pub name: String,
    /// What its products' SKUs begin with.
    pub code: String,
    /// The products.
    pub products: Vec<CatalogueProduct>,
}

/// A product as the catalogue has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueProduct {
    /// As on the shelf.
    pub name: String,
    /// US dollars.
    pub cost: f64,
    /// What it is and what one does with it.
    pub description: String,
}

/// A store.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Its name.
    pub name: String,
    /// Who asks for it.
    pub principal: String,
    /// Weight of how many customers live by it.
    pub customers: f64,
    /// How often they buy.
    pub orders: f64,
    /// Whether it is the online shop.
    #[serde(default)]
    pub is_online: bool,
}

/// A principal of the sample.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// The store's name, or head office.
    pub name: String,
    /// Its id.
    pub principal: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct People {
    pub(super) first_names: Vec<String>,
    pub(super) last_names: Vec<String>,
}

#[derive(Deserialize)]
struct Stores {
    stores: Vec<Store>,
    head_office: Caller,
}

impl Catalogue {
    /// Reads the data files.
    pub fn read() -> Result<Self, SampleError> {
        let Stores { stores, head_office } = toml::from_str(STORES)?;
        let categories = CATALOGUE.iter().map(|text| toml::from_str(text)).collect::<Result<_, _>>()?;
        Ok(Self { categories, stores, head_office, people: toml::from_str(PEOPLE)? })
    }
}

/// Head office and the stores, as callers.
pub fn callers() -> Result<Vec<Caller>, SampleError> {
    let Stores { stores, head_office } = toml::from_str(STORES)?;
    let stores = stores.into_iter().map(|store| Caller { name: store.name, principal: store.principal });
    Ok(std::iter::once(head_office).chain(stores).collect())
}
