//! Where a keystore is: `https://HOST:PORT`.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::ServerName;
use url::{Host, Url};

const PORT: u16 = 8470;

/// An address without path, user or query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

/// Not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a keystore; write https://HOST:PORT")]
pub struct AddressError(String);

impl ServerAddress {
    /// A name or an address of the network, as TCP takes it.
    pub(crate) fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// As HTTP takes it.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// As certificates name it.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        ServerName::try_from(self.host().to_owned()).expect("checked when it was read")
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    /// `https://HOST:PORT`, `HOST:PORT` or `HOST`; the port is 8470 unless it stands there.
    fn from_str(text: &str) -> Result<ServerAddress, AddressError> {
        let bad = || AddressError(text.to_owned());
        let text = text.trim();
        let whole = match text.contains("://") {
            true => text.to_owned(),
            false => format!("https://{text}"),
        };
        let url: Url = whole.parse().map_err(|_| bad())?;
        let plain = url.scheme() == "https"
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let host = match url.host() {
            Some(Host::Ipv6(address)) => format!("[{address}]"),
            Some(host) if plain => host.to_string(),
            _ => return Err(bad()),
        };
        // `Url` drops :443, since that is what https means elsewhere.
        let says_443 = whole.trim_end_matches('/').ends_with(":443");
        let port = url.port().unwrap_or(if says_443 { 443 } else { PORT });
        ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|_| bad())?;
        match plain && port != 0 {
            true => Ok(ServerAddress { host, port }),
            false => Err(bad()),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for (typed, read) in [
            (
                "https://Keystore.Example.org:9000/",
                "https://keystore.example.org:9000",
            ),
            ("keystore.example.org", "https://keystore.example.org:8470"),
            ("localhost:443", "https://localhost:443"),
            ("https://127.0.0.1:1", "https://127.0.0.1:1"),
            (" https://[::1]:8470\n", "https://[::1]:8470"),
        ] {
            let address: ServerAddress = typed.parse().unwrap();
            assert_eq!(address.to_string(), read);
            assert_eq!(read.parse::<ServerAddress>().unwrap(), address);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "http://localhost:8470",
            "https://",
            "https://localhost:8470/path",
            "https://user@localhost",
            "https://localhost?x",
            "https://localhost:0",
            "https://a_b c",
            "file:///etc",
        ] {
            assert!(bad.parse::<ServerAddress>().is_err(), "{bad}");
        }
    }
}
