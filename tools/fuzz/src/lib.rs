//! Fuzz targets live in fuzz_targets/.
#![forbid(unsafe_code)]
