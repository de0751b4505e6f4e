//! What the fuzz targets in `fuzz/` reach of this room, under the feature `fuzzing` alone. No part of the program.

pub use super::entra::fuzzing::{believed, principals};
