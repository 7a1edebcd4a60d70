//! The service in a process.

use greenroom_chassis::{Host, Process};
use greenroom_contracts::Origin;
use greenroom_contracts::proto::internal::v1::accounts_service_server::AccountsServiceServer;
use greenroom_contracts::proto::internal::v1::{
    CreateKeyRequest, CreateKeyResponse, ListTenantsRequest, SetTenantRequest, Tenant,
};
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
        Ok(Self {
            rpc: Rpc {
                store: store(config, host)?,
                clock: host.clock,
                plans: config.plans,
                images: config.images.clone(),
            },
        })
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

    /// Makes a key without going over the wire, for whoever sets an installation up. An operator's may do what concerns
    /// everybody.
    ///
    /// # Errors
    /// As `AccountsService.CreateKey`.
    pub async fn create_key(
        &self,
        tenant_name: &str,
        label: &str,
        operator: bool,
    ) -> Result<CreateKeyResponse, Status> {
        use greenroom_contracts::proto::internal::v1::accounts_service_server::AccountsService as _;
        let request = CreateKeyRequest { tenant_name: tenant_name.to_owned(), label: label.to_owned(), operator };
        Ok(self.rpc.create_key(tonic::Request::new(request)).await?.into_inner())
    }

    /// All tenants, without going over the wire.
    ///
    /// # Errors
    /// As `AccountsService.ListTenants`.
    pub async fn list_tenants(&self) -> Result<Vec<Tenant>, Status> {
        use greenroom_contracts::proto::internal::v1::accounts_service_server::AccountsService as _;
        let mut all: Vec<Tenant> = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListTenantsRequest { page_token, page_size: None };
            let page = self.rpc.list_tenants(tonic::Request::new(request)).await?.into_inner();
            all.extend(page.tenants);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Sets a tenant's terms, without going over the wire.
    ///
    /// # Errors
    /// As `AccountsService.SetTenant`.
    pub async fn set_tenant(&self, request: SetTenantRequest) -> Result<Tenant, Status> {
        use greenroom_contracts::proto::internal::v1::accounts_service_server::AccountsService as _;
        Ok(self.rpc.set_tenant(tonic::Request::new(request)).await?.into_inner())
    }

    /// The work in the background: watching the store.
    pub async fn run(self, stop: CancellationToken) {
        self.rpc.store.watch(&stop).await;
    }
}
