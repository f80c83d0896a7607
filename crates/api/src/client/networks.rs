//! Networks, and pools.

use crate::pools::{MachinePoolView, PoolChange};
use hostler_model::network::{NetworkView, NewNetwork};

use super::{Call, Client, ClientError, encode};
use crate::endpoints::Method;
use crate::networks::{NetworkList, NetworksQuery, PoolList};
use crate::types::NamespaceQuery;

impl Client {
    fn of_network(&self, network: &str) -> Result<String, ClientError> {
        let mut path = String::from("/v1/networks/");
        encode(network, &mut path);
        self.target(&path, &NamespaceQuery::default())
    }

    /// `GET /v1/networks`.
    pub async fn networks(&self) -> Result<NetworkList, ClientError> {
        self.json(Call::new(Method::Get, self.target("/v1/networks", &NetworksQuery::default())?)).await
    }

    /// `POST /v1/networks`. Without a deadline: the answer comes when it is made on the machine.
    pub async fn create_network(&self, new: &NewNetwork) -> Result<NetworkView, ClientError> {
        let target = self.target("/v1/networks", &NamespaceQuery::default())?;
        self.json(Call::new(Method::Post, target).body(new)?.endless_if(true)).await
    }

    /// `GET /v1/networks/{network}`.
    pub async fn network(&self, network: &str) -> Result<NetworkView, ClientError> {
        self.json(Call::new(Method::Get, self.of_network(network)?)).await
    }

    /// `DELETE /v1/networks/{network}`: how it stood last.
    pub async fn remove_network(&self, network: &str) -> Result<NetworkView, ClientError> {
        self.json(Call::new(Method::Delete, self.of_network(network)?)).await
    }

    /// `PATCH /v1/pools/{pool}`: how it stands right after it.
    pub async fn change_pool(&self, pool: &str, change: PoolChange) -> Result<MachinePoolView, ClientError> {
        let mut path = String::from("/v1/pools/");
        encode(pool, &mut path);
        self.json(Call::new(Method::Patch, path).body(&change)?).await
    }

    /// `GET /v1/pools`.
    pub async fn pools(&self) -> Result<PoolList, ClientError> {
        self.json(Call::new(Method::Get, self.target("/v1/pools", &NetworksQuery::default())?)).await
    }
}
