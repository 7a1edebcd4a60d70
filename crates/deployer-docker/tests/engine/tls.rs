//! An engine behind TLS, where both sides show who they are.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use greenroom_deployer::conformance::Upstream;
use greenroom_deployer::{Class, Deployer, Observed};
use greenroom_deployer_docker::{Address, DockerDeployer};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::stage::{Stage, exit, launch, new_runner, start, upstream};

/// An authority and a server of it, with what a client needs in a folder.
struct Certificates {
    authority: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("signed");
        Self { authority, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("valid");
        params.extended_key_usages = vec![purpose];
        (params.signed_by(&key, &self.issuer).expect("signed"), key)
    }

    /// `ca.pem`, `cert.pem` and `key.pem`, as Docker's own client wants them.
    fn write(&self, folder: &Path) {
        let (certificate, key) = self.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
        for (file, text) in
            [("ca.pem", self.authority.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
        {
            fs::write(folder.join(file), text).expect("written");
        }
    }

    /// Passes on what comes from those who have a certificate of ours.
    async fn serve(&self) -> SocketAddr {
        let (certificate, key) = self.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("a root");
        let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("they belong together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut client = acceptor.accept(client).await?;
                    match upstream() {
                        Upstream::Unix(path) => {
                            tokio::io::copy_bidirectional(&mut client, &mut UnixStream::connect(path).await?).await
                        }
                        Upstream::Tcp(at) => {
                            tokio::io::copy_bidirectional(&mut client, &mut TcpStream::connect(at).await?).await
                        }
                    }
                });
            }
        });
        address
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_show_who_they_are() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ours = Certificates::new();
    let address = ours.serve().await;
    let folder = tempfile::tempdir().expect("a folder");
    ours.write(folder.path());
    let stage = Stage::with(|config| {
        config.hosts[0].address = Address::Tcp(format!("localhost:{}", address.port()));
        config.certificates = Some(folder.path().to_owned());
    });
    let driver = stage.driver().await;
    let runner = start(&driver, &launch("exit 5")).await;
    assert_eq!(exit(&driver, runner).await.code, Some(5));
    driver.remove(runner).await.expect("removed");
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Gone));

    // Somebody else's certificate is no certificate.
    Certificates::new().write(folder.path());
    let refused = stage.driver().await.inspect(new_runner()).await;
    assert_eq!(refused.map_err(|error| error.class()), Err(Class::Unauthorized), "and nobody is gone because of it");

    // And a file that is missing is told before anything is asked.
    fs::remove_file(folder.path().join("key.pem")).expect("removed");
    let missing = DockerDeployer::build(
        stage.config.clone(),
        &stage.installation,
        &stage.platform,
        greenroom_chassis::Clock::system(),
    )
    .await;
    assert!(missing.is_err_and(|why| why.starts_with("DOCKER_CERT_PATH: ") && why.contains("key.pem")));
}
