//! How many requests are under way at one time: to one address, for one namespace, on the node. Whoever waits for a
//! slow address holds nothing that another address would need.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use hostler_model::{Namespace, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

type Table<K> = Mutex<HashMap<K, Arc<Semaphore>>>;

#[derive(Debug)]
pub(super) struct Gates {
    addresses: Table<(Namespace, String)>,
    namespaces: Table<Namespace>,
    node: Arc<Semaphore>,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            addresses: Mutex::default(),
            namespaces: Mutex::default(),
            node: Arc::new(Semaphore::new(limits::HOOK_REQUESTS_MAX)),
        }
    }
}

impl Gates {
    /// Waits for a place. The narrowest gate comes first.
    pub(super) async fn enter(&self, namespace: &Namespace, authority: &str) -> [OwnedSemaphorePermit; 3] {
        let address = (namespace.clone(), authority.to_ascii_lowercase());
        let address = gate(&self.addresses, address, limits::HOOK_REQUESTS_PER_ADDRESS_MAX);
        let address = pass(address).await;
        let share = pass(gate(&self.namespaces, namespace.clone(), limits::HOOK_REQUESTS_PER_NAMESPACE_MAX)).await;
        [address, share, pass(self.node.clone()).await]
    }
}

async fn pass(gate: Arc<Semaphore>) -> OwnedSemaphorePermit {
    gate.acquire_owned().await.expect("never closed")
}

fn gate<K: Eq + Hash>(table: &Table<K>, key: K, places: usize) -> Arc<Semaphore> {
    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
    // Only those that somebody is in, or waits at.
    table.retain(|_, gate| Arc::strong_count(gate) > 1);
    table.entry(key).or_insert_with(|| Arc::new(Semaphore::new(places))).clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    #[tokio::test]
    async fn a_full_address_holds_up_no_other() {
        let gates = Gates::default();
        let [ann, bob] = [Namespace::of_uid(1), Namespace::of_uid(2)];
        let mut inside = Vec::new();
        for _ in 0..limits::HOOK_REQUESTS_PER_ADDRESS_MAX {
            inside.push(gates.enter(&ann, "slow:80").await);
        }
        let mut waiting = Box::pin(gates.enter(&ann, "SLOW:80"));
        let waits = std::future::poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending()));
        assert!(waits.await);
        drop(gates.enter(&ann, "fast:80").await);
        drop(gates.enter(&bob, "slow:80").await);
        inside.pop();
        drop(waiting.await);
        drop(inside);
        drop(gates.enter(&ann, "other").await);
        assert_eq!(gates.addresses.lock().expect("a lock").len(), 1);
    }
}
