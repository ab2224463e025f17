//! Where the program listens and keeps what it knows, and when it stops.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use tokio::net::TcpListener;

/// Only this machine can reach the chat, unless `HOST` says otherwise.
pub(crate) fn host() -> Result<IpAddr, String> {
    match std::env::var("HOST") {
        Ok(host) => host.parse().map_err(|_| {
            format!(
                "HOST is {host:?}, but has to be an address of this machine, as 0.0.0.0 for all."
            )
        }),
        Err(_) => Ok(Ipv4Addr::LOCALHOST.into()),
    }
}

/// 3000, unless `PORT` says otherwise; 0 is any that is free.
pub(crate) fn port() -> Result<u16, String> {
    match std::env::var("PORT") {
        Ok(port) => port
            .parse()
            .map_err(|_| format!("PORT is {port:?}, but a port is a number from 0 to 65535.")),
        Err(_) => Ok(3000),
    }
}

/// The number of this server among several: 0, unless `SERVER` says otherwise.
pub(crate) fn server() -> Result<u64, String> {
    match std::env::var("SERVER") {
        Ok(server) => server.parse().map_err(|_| {
            format!("SERVER is {server:?}, but a server's number is one from 0 to 99.")
        }),
        Err(_) => Ok(0),
    }
}

/// The folder of what is kept: `data` beside the sources, unless `DATA` says otherwise.
pub(crate) fn data() -> PathBuf {
    match std::env::var_os("DATA") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("data"),
    }
}

/// Listens, or says what to do about it.
pub(crate) async fn listen(host: IpAddr, port: u16) -> Result<TcpListener, String> {
    let bound = TcpListener::bind((host, port)).await;
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let other = port.checked_add(1).unwrap_or(3000);
            format!("Port {port} is in use, perhaps by another chat. Choose another one: PORT={other} ./dev demo")
        }
        io::ErrorKind::PermissionDenied => {
            format!("This user may not listen on port {port}. Choose one from 1024 on: PORT=3000 ./dev demo")
        }
        _ => format!("Can't listen on {host}, port {port}: {error}"),
    })
}

/// Ctrl-C, or the signal by which a service is stopped.
pub(crate) async fn asked_to_stop() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await; // no signals here: runs until it is killed
        }
    };
    #[cfg(unix)]
    let terminate = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
