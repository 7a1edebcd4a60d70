//! The service in a process.

use greenroom_chassis::{Host, Process};
use greenroom_contracts::Origin;
use greenroom_contracts::proto::v1::accounts_service_server::AccountsServiceServer;
use greenroom_contracts::proto::v1::{CreateKeyRequest, CreateKeyResponse};
use greenroom_store::{Schema, Store};
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::rpc::Rpc;
use crate::{Config, Error};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/accounts");

/// What this service keeps in Postgres.
pub const SCHEMA: Schema = Schema { name: "accounts", migrations: &MIGRATIONS };

/// This service's store, for migrating it.
///
/// # Errors
/// When the address is missing or none.
pub fn store(config: &Config, host: &Host) -> Result<Store, Error> {
    let origin = Origin { installation: host.installation.clone(), service: "accounts" };
    // Nothing is said on the bus, so nobody takes what was committed.
    let (store, _committed) = Store::new(&config.database, SCHEMA, origin).map_err(Error::Database)?;
    Ok(store)
}

/// Tenants and keys.
#[derive(Debug, Clone)]
pub struct Service {
    rpc: Rpc,
}

impl Service {
    /// Builds it; nothing is asked of Postgres yet.
    ///
    /// # Errors
    /// When the database's address is missing or none.
    pub fn build(config: &Config, host: &Host) -> Result<Self, Error> {
        Ok(Self { rpc: Rpc { store: store(config, host)?, clock: host.clock } })
    }

    /// Adds its gRPC methods and its condition for being ready.
    pub fn register(&self, process: &mut Process) {
        process.routes().add_service(AccountsServiceServer::new(self.rpc.clone()));
        let store = self.rpc.store.clone();
        process.health().require("accounts.database", move || {
            let store = store.clone();
            async move { store.is_ready().await }
        });
    }

    /// Makes a key without going over the wire, for whoever sets an installation up.
    ///
    /// # Errors
    /// As `AccountsService.CreateKey`.
    pub async fn create_key(&self, tenant_name: &str, label: &str) -> Result<CreateKeyResponse, Status> {
        use greenroom_contracts::proto::v1::accounts_service_server::AccountsService as _;
        let request = CreateKeyRequest { tenant_name: tenant_name.to_owned(), label: label.to_owned() };
        Ok(self.rpc.create_key(tonic::Request::new(request)).await?.into_inner())
    }

    /// There is no work in the background.
    pub async fn run(self, stop: CancellationToken) {
        stop.cancelled().await;
    }
}
