//! Tests of the simulator, and by it.

mod drive;
mod exhaustive;
mod ring_wraps;
mod seeds;
