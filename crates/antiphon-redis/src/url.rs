//! What the URL of a Redis says: hosts, login, and the settings that connections of ours have.
//!
//! Plain functions. What can't be understood is an [`Error`] without the password.

use std::time::Duration;

use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, RedisError,
    io::tcp::TcpSettings,
};

use crate::error::Error;

/// The same login at another address.
pub(crate) fn at(info: &ConnectionInfo, to: impl Into<String>, at: u16) -> ConnectionInfo {
    let mut address = info.addr().clone();
    if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } =
        &mut address
    {
        (*host, *port) = (to.into(), at);
    }
    info.clone().set_addr(address)
}

/// What a URL says, with the settings of a connection of ours.
pub(crate) fn login(url: &str) -> Result<ConnectionInfo, Error> {
    let info = info(url)?;
    let login = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name("antiphon", env!("CARGO_PKG_VERSION"));
    Ok(info.set_redis_settings(login))
}

/// The URLs of a URL: one for each of the hosts between which commas stand.
pub(crate) fn hosts(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec![url.to_owned()];
    };
    // A password may hold a comma, and whatever isn't a part of the hosts.
    let (login, rest) = match rest.rfind('@') {
        Some(end) => rest.split_at(end + 1),
        None => ("", rest),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (hosts, path) = rest.split_at(end);
    hosts
        .split(',')
        .map(|host| format!("{scheme}://{login}{host}{path}"))
        .collect()
}

/// What a URL says.
pub(crate) fn info(url: &str) -> Result<ConnectionInfo, Error> {
    let info =
        url.into_connection_info()
            .map_err(|error| match error.to_string().contains("TLS") {
                true => Error::NoTls,
                false => Error::Url {
                    problem: plain(&error),
                },
            })?;
    // A connection that is given up must be over: what the system still holds of it would be
    // published behind what the next one has, once a network that was cut is whole again.
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_linger_time(Duration::ZERO);
    Ok(info.set_tcp_settings(settings))
}

/// What the library says of a URL, without the name of its error.
fn plain(error: &RedisError) -> String {
    let text = error.to_string();
    let (what, _) = text.split_once(" - ").unwrap_or((&text, ""));
    what.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_share_what_else_a_url_says() {
        let urls = hosts("rediss://u:p%40,@a,b:7000/0?protocol=resp3");
        let each = ["a", "b:7000"];
        let each = each.map(|host| format!("rediss://u:p%40,@{host}/0?protocol=resp3"));
        assert_eq!(urls, each);
        assert_eq!(hosts("unix:/a,b"), ["unix:/a,b"]);
    }
}
