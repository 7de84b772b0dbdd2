//! A caller may give up at any moment: a client that hangs up drops the future of its request.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::{TestStore, new_vm, settings};

/// Polls a future until it is done or was polled so many times; then it is dropped.
async fn give_up_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        let polled = future.as_mut().poll(context).map(Some);
        if polled.is_pending() && left == 0 { Poll::Ready(None) } else { polled }
    })
    .await
}

#[tokio::test]
async fn a_write_given_up_at_any_point_happens_as_a_whole_or_not_at_all() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());

    // Where a poll leaves off depends on how fast the disk is, so more than one round.
    for _ in 0..5 {
        for polls in 0.. {
            let (vm, settings) = (new_vm(), settings());
            let insert = scope.insert_vm(&vm, &settings, "create");
            let answered = give_up_after(polls, insert).await;

            // Waits for what the dropped future left behind, and is not hindered by it.
            let next = test.creating(&account).await;
            assert!(scope.vm(&next.id).await.unwrap().is_some());
            let live = system.live_vms().await.unwrap();
            assert_eq!(live.len(), system.unfinished_operations().await.unwrap().len());
            assert!(live.iter().all(|vm| vm.instance.is_some()));
            if answered.is_some() {
                assert!(scope.vm(&vm.id).await.unwrap().is_some());
                break;
            }
        }
    }
}
