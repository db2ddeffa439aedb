//! The slots on their own and under eight real threads. They lie beside their file because the loom
//! models compile that file too.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::slots::{Slots, release};

fn drop_handle(slots: &Slots, index: u32) -> bool {
    let last = release(slots.refs(index));
    if last {
        slots.give_back(index);
    }
    last
}

#[test]
fn a_slot_is_free_again_only_after_its_last_handle() {
    let slots = Slots::new(1);
    let index = slots.take().unwrap();
    slots.retain(index);
    assert_eq!(slots.take(), None);
    assert!(!drop_handle(&slots, index));
    assert_eq!(slots.take(), None);
    assert!(drop_handle(&slots, index));
    assert_eq!(slots.take(), Some(index));
}

#[test]
#[should_panic(expected = "released more often than held")]
fn releasing_a_free_slot_is_refused() {
    let slots = Slots::new(1);
    let index = slots.take().unwrap();
    drop_handle(&slots, index);
    drop_handle(&slots, index);
}

#[test]
fn a_taken_slot_starts_with_nothing_published_and_unsealed() {
    let slots = Slots::new(1);
    let index = slots.take().unwrap();
    slots.publish(index, 100);
    slots.seal(index);
    drop_handle(&slots, index);
    let index = slots.take().unwrap();
    assert_eq!(slots.published(index), 0);
    assert!(!slots.is_sealed(index));
}

#[test]
fn slots_taken_by_many_threads_are_never_handed_out_twice() {
    const COUNT: usize = 7;
    let slots = Slots::new(COUNT);
    let held: Vec<AtomicBool> = (0..COUNT).map(|_| AtomicBool::new(false)).collect();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let Some(index) = slots.take() else { continue };
                    assert!(!held[index as usize].swap(true, Ordering::Relaxed));
                    slots.retain(index);
                    assert!(!drop_handle(&slots, index));
                    assert!(held[index as usize].swap(false, Ordering::Relaxed));
                    assert!(drop_handle(&slots, index));
                }
            });
        }
    });
    assert_eq!(slots.free_count(), COUNT);
}
