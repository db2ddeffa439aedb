//! In the place of tapectl's progress: bars that nobody sees.

pub(crate) struct Bar;

impl Bar {
    pub(crate) fn inc(&self, _: u64) {}

    pub(crate) fn finish_and_clear(&self) {}
}

pub(crate) fn bytes(_: u64, _: &'static str) -> Bar {
    Bar
}
