//! The runtime over real sockets and threads: who is polled, who is woken, what is kept.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use tokio::sync::{Notify, oneshot};

use super::*;

/// Longer than anything here takes.
const NEVER: Duration = Duration::from_secs(3600);

/// A connected pair: the runtime's side, and the other.
fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let far = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    (Stream::new(listener.accept().expect("connected").0).expect("open"), far)
}

#[test]
fn a_wake_from_another_thread_ends_the_wait() {
    let (send, receive) = oneshot::channel();
    let (ready, is_ready) = mpsc::channel();
    let sender = thread::spawn(move || {
        is_ready.recv().expect("it waits");
        send.send(7).expect("it waits");
    });
    let got = block_on(8, async {
        let task = spawn(async { receive.await.expect("sent") });
        ready.send(()).expect("somebody listens");
        task.await
    });
    assert_eq!(got.expect("a ring"), 7);
    sender.join().expect("no panic");
}

#[test]
fn between_two_large_transfers_all_that_is_small_goes_first() {
    let order = Rc::new(RefCell::new(Vec::new()));
    block_on(8, async {
        let mut tasks = Vec::new();
        for name in ["large 1", "large 2", "large 3"] {
            let order = Rc::clone(&order);
            tasks.push(spawn(async move {
                for _ in 0..2 {
                    large::large_turn().await;
                    order.borrow_mut().push(name);
                }
            }));
        }
        // One that gives up leaves no gap.
        let none = timeout(Duration::ZERO, large::large_turn()).await;
        assert_eq!(none, Err(Elapsed));
        let all = Rc::clone(&order);
        let (near, _far) = pair();
        let small = spawn(async move {
            loop {
                // The kernel answers at once, but it has to be asked.
                near.writable().await.expect("open");
                all.borrow_mut().push("small");
            }
        });
        for task in tasks {
            task.await;
        }
        small.abort();
    })
    .expect("a ring");
    let order = order.take();
    let is_large = |name: &&&str| **name != "small";
    let large: Vec<_> = order.iter().filter(is_large).collect();
    assert_eq!(large, [&"large 1", &"large 2", &"large 3", &"large 1", &"large 2", &"large 3"]);
    let in_a_row = order.windows(2).any(|two| two.iter().all(|name| is_large(&name)));
    assert!(!in_a_row, "{order:?}");
}

#[test]
fn tasks_are_polled_in_turn_and_one_that_is_always_ready_holds_up_nobody() {
    let order = Rc::new(RefCell::new(Vec::new()));
    block_on(8, async {
        let tasks: Vec<_> = (0..3)
            .map(|number| {
                let order = Rc::clone(&order);
                spawn(async move {
                    for _ in 0..3 {
                        order.borrow_mut().push(number);
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    })
    .expect("a ring");
    assert_eq!(order.take(), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_panic_ends_its_own_task_alone() {
    let outcome = block_on(8, async {
        drop(spawn(async { panic!("meant: nobody awaits it") }));
        spawn(async { 5 }).await
    });
    assert_eq!(outcome.expect("a ring"), 5);
    let awaited = std::panic::catch_unwind(|| {
        block_on(8, async { spawn(async { panic!("meant: somebody awaits it") }).await })
    });
    assert!(awaited.is_err());
    block_on(8, async {}).expect("the thread can have another runtime");
}

#[test]
fn what_a_runtime_leaves_behind_is_dropped_with_it() {
    let alive = Rc::new(());
    let notify = Rc::new(Notify::new());
    let (near, _far) = pair();
    block_on(8, async {
        let (waits, reads, sleeps) = (Rc::clone(&alive), Rc::clone(&alive), Rc::clone(&alive));
        let held = Rc::clone(&notify);
        drop(spawn(async move {
            held.notified().await;
            drop(waits);
        }));
        drop(spawn(async move {
            let (result, _) = near.read(Vec::with_capacity(10)).await;
            drop((reads, result));
        }));
        drop(spawn(async move {
            sleep(NEVER).await;
            drop(sleeps);
        }));
        yield_now().await;
        assert_eq!(Rc::strong_count(&alive), 4);
    })
    .expect("a ring");
    assert_eq!(Rc::strong_count(&alive), 1);
    assert_eq!(Rc::strong_count(&notify), 1);
}

#[test]
fn an_aborted_task_is_dropped_and_a_dropped_handle_lets_its_task_go_on() {
    let (aborted, detached) = (Rc::new(()), Rc::new(Cell::new(false)));
    block_on(8, async {
        let held = Rc::clone(&aborted);
        let task = spawn(async move {
            sleep(NEVER).await;
            drop(held);
        });
        let done = Rc::clone(&detached);
        drop(spawn(async move { done.set(true) }));
        yield_now().await;
        task.abort();
        while Rc::strong_count(&aborted) > 1 {
            yield_now().await;
        }
    })
    .expect("a ring");
    assert!(detached.get());
}

#[test]
fn a_time_is_up_no_sooner_than_it_should_be_and_whoever_is_faster_wins() {
    block_on(8, async {
        let begun = std::time::Instant::now();
        assert_eq!(timeout(Duration::from_millis(20), sleep(NEVER)).await, Err(Elapsed));
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert_eq!(timeout(NEVER, async { 3 }).await, Ok(3));
        assert_eq!(timeout_at(begun, std::future::pending::<()>()).await, Err(Elapsed));
    })
    .expect("a ring");
}

#[test]
fn a_dropped_read_keeps_its_memory_until_the_kernel_is_done_with_it() {
    let (near, mut far) = pair();
    block_on(8, async {
        let mut read = Box::pin(near.read(Vec::with_capacity(4)));
        std::future::poll_fn(|cx| {
            assert!(read.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        yield_now().await;
        drop(read);
        assert_eq!(driver().in_flight(), 1);
        far.write_all(b"lost").expect("open");
        while driver().in_flight() > 0 {
            yield_now().await;
        }
        // The bytes went to who had asked for them.
        far.write_all(b"kept").expect("open");
        let (result, found) = near.read(Vec::with_capacity(8)).await;
        assert_eq!((result.expect("bytes"), &found[..]), (4, &b"kept"[..]));
    })
    .expect("a ring");
}

#[test]
fn an_accept_that_was_given_up_takes_no_connection_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    block_on(8, async {
        let listener = Listener::new(listener);
        for _ in 0..10 {
            assert_eq!(timeout(Duration::ZERO, listener.accept()).await.err(), Some(Elapsed));
            yield_now().await;
        }
        let client = TcpStream::connect(addr).expect("listened to");
        let stream = listener.accept().await.expect("a connection");
        drop((stream, client));
    })
    .expect("a ring");
}

#[test]
fn more_operations_than_the_queue_has_room_for_are_all_done() {
    let pairs: Vec<_> = (0..50).map(|_| pair()).collect();
    let (near, mut far): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let sum = block_on(2, async {
        let reads = near.into_iter().map(|near| {
            spawn(async move { near.read(Vec::with_capacity(8)).await.0.expect("bytes") })
        });
        let reads: Vec<_> = reads.collect();
        yield_now().await;
        far.iter_mut().for_each(|far| far.write_all(b"abc").expect("open"));
        let mut sum = 0;
        for read in reads {
            sum += read.await;
        }
        sum
    });
    assert_eq!(sum.expect("a ring"), 150);
}

#[test]
fn a_socket_has_room_until_it_is_full_and_again_when_it_was_read_from() {
    let (near, mut far) = pair();
    block_on(8, async {
        near.writable().await.expect("open");
        let soon = Duration::from_millis(10);
        let mut sent = 0;
        while timeout(soon, near.writable()).await.is_ok() {
            sent += near.write(vec![1; 1 << 20], 0).await.0.expect("open");
        }
        let reader = thread::spawn(move || {
            let mut all = vec![0; sent];
            far.read_exact(&mut all).expect("as many as were sent");
        });
        near.writable().await.expect("open");
        reader.join().expect("no panic");
    })
    .expect("a ring");
}
