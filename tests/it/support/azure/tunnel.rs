//! An HTTP proxy (RFC 9110, section 9.3.6) that ends the tunnels in this process: it shows a certificate for the host
//! that was asked for, and hands the requests to that host's fake. Nothing goes to the network.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::certificates::{Certificates, Flaw};

/// The proxy. Ends with this, and all tunnels with it.
pub struct Tunnels {
    address: SocketAddr,
    hosts: Arc<Hosts>,
    accepting: JoinHandle<()>,
}

struct Hosts {
    certificates: Arc<Certificates>,
    routers: HashMap<&'static str, Router>,
    configs: Mutex<HashMap<String, Arc<ServerConfig>>>,
    asked: Mutex<Vec<String>>,
}

impl Tunnels {
    pub async fn open(certificates: Arc<Certificates>, routers: HashMap<&'static str, Router>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hosts = Arc::new(Hosts { certificates, routers, configs: Mutex::default(), asked: Mutex::default() });
        let served = Arc::clone(&hosts);
        let accepting = tokio::spawn(async move {
            let mut tunnels = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while tunnels.try_join_next().is_some() {}
                let hosts = Arc::clone(&served);
                // A client that goes away, or refuses the certificate, ends its tunnel only.
                tunnels.spawn(async move { hosts.serve(stream).await.ok() });
            }
        });
        Self { address, hosts, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every target that was asked for, as `host:port`.
    pub fn asked(&self) -> Vec<String> {
        self.hosts.asked.lock().unwrap().clone()
    }

    /// From the next connection on, shows such a certificate for a host.
    pub fn present(&self, host: &str, flaw: Flaw) {
        let config = self.hosts.certificates.server_config(host, flaw);
        self.hosts.configs.lock().unwrap().insert(host.to_owned(), config);
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Hosts {
    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let head = head(&mut stream).await?;
        let mut words = head.split_whitespace();
        let (Some("CONNECT"), Some(target)) = (words.next(), words.next()) else {
            return stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n").await;
        };
        self.asked.lock().unwrap().push(target.to_owned());
        let known = target.strip_suffix(":443").and_then(|host| Some((host, self.routers.get(host)?)));
        let Some((host, router)) = known else {
            return stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
        };
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        let stream = TlsAcceptor::from(self.config(host)).accept(stream).await?;
        let service = TowerToHyperService::new(router.clone());
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.map_err(std::io::Error::other)
    }

    fn config(&self, host: &str) -> Arc<ServerConfig> {
        let mut configs = self.configs.lock().unwrap();
        let sign = || self.certificates.server_config(host, Flaw::None);
        Arc::clone(configs.entry(host.to_owned()).or_insert_with(sign))
    }
}

/// The request line and headers. The client says nothing more until it has the answer.
async fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 8192 {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
