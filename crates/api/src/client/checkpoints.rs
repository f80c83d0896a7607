//! Checkpoints, and pausing.

use hostler_model::CheckpointName;

use super::{Call, Client, ClientError};
use crate::checkpoints::{
    CheckpointList, CheckpointQuery, CheckpointRequest, CheckpointView, RestoreRequest, StartRequest,
};
use crate::endpoints::Method;
use crate::types::{NamespaceQuery, WorkloadView};

impl Client {
    fn of_checkpoint(&self, name: &CheckpointName, verb: &str, query: &CheckpointQuery) -> Result<String, ClientError> {
        self.target(&format!("/v1/checkpoints/{name}{verb}"), query)
    }

    /// `POST …/pause`.
    pub async fn pause(&self, reference: &str) -> Result<WorkloadView, ClientError> {
        self.json(Call::new(Method::Post, self.of(reference, "/pause", &NamespaceQuery::default())?)).await
    }

    /// `POST …/resume`.
    pub async fn resume(&self, reference: &str) -> Result<WorkloadView, ClientError> {
        self.json(Call::new(Method::Post, self.of(reference, "/resume", &NamespaceQuery::default())?)).await
    }

    /// `POST …/start` from a checkpoint.
    pub async fn start_from(&self, reference: &str, request: &StartRequest) -> Result<WorkloadView, ClientError> {
        let target = self.of(reference, "/start", &NamespaceQuery::default())?;
        self.json(Call::new(Method::Post, target).body(request)?).await
    }

    /// `GET /v1/checkpoints`.
    pub async fn checkpoints(&self, query: &CheckpointQuery) -> Result<CheckpointList, ClientError> {
        self.json(Call::new(Method::Get, self.target("/v1/checkpoints", query)?)).await
    }

    /// `POST /v1/checkpoints`. Without a deadline: all memory of a container goes to the disk.
    pub async fn create_checkpoint(&self, request: &CheckpointRequest) -> Result<CheckpointView, ClientError> {
        let target = self.target("/v1/checkpoints", &NamespaceQuery::default())?;
        self.json(Call::new(Method::Post, target).body(request)?.endless_if(true)).await
    }

    /// `GET /v1/checkpoints/{checkpoint}`.
    pub async fn checkpoint(
        &self,
        name: &CheckpointName,
        query: &CheckpointQuery,
    ) -> Result<CheckpointView, ClientError> {
        self.json(Call::new(Method::Get, self.of_checkpoint(name, "", query)?)).await
    }

    /// `DELETE /v1/checkpoints/{checkpoint}`.
    pub async fn remove_checkpoint(
        &self,
        name: &CheckpointName,
        query: &CheckpointQuery,
    ) -> Result<CheckpointList, ClientError> {
        self.json(Call::new(Method::Delete, self.of_checkpoint(name, "", query)?)).await
    }

    /// `POST /v1/checkpoints/{checkpoint}/restore`.
    pub async fn restore_checkpoint(
        &self,
        name: &CheckpointName,
        query: &CheckpointQuery,
        request: &RestoreRequest,
    ) -> Result<WorkloadView, ClientError> {
        let target = self.of_checkpoint(name, "/restore", query)?;
        self.json(Call::new(Method::Post, target).body(request)?).await
    }
}
