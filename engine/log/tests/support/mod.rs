//! What the simulations share.
#![allow(dead_code)] // each test binary uses its part

pub(crate) mod drive;
pub(crate) mod oracle;
pub(crate) mod rig;
pub(crate) mod rng;
