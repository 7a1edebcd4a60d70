//! Where engines are.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket of this machine.
    Unix(PathBuf),
    /// `host:port`, in the clear unless there are certificates.
    Tcp(String),
    /// `host:port`, by TLS only.
    Https(String),
    /// `user@host:port`: the `ssh` of this machine is called, and `docker` on the other.
    Ssh(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected unix:///path, tcp://host:port, https://host:port or ssh://user@host".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
        let rest = rest.trim_end_matches('/');
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "tcp" | "http" | "https" if !rest.contains(['/', '@']) => {
                let with_port =
                    rest.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
                match (with_port, scheme) {
                    (false, _) => Err(expected()),
                    (true, "https") => Ok(Self::Https(rest.to_owned())),
                    (true, _) => Ok(Self::Tcp(rest.to_owned())),
                }
            }
            "ssh" if !rest.is_empty() && !rest.contains('/') => Ok(Self::Ssh(rest.to_owned())),
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(at) => write!(f, "tcp://{at}"),
            Self::Https(at) => write!(f, "https://{at}"),
            Self::Ssh(at) => write!(f, "ssh://{at}"),
        }
    }
}

/// One of a platform's engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// What it is called here, and in nothing that outlives the settings.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Most runners at a time; none: only the platform's own limit holds.
    pub limit: Option<u32>,
}

impl HostEntry {
    /// The only one.
    #[must_use]
    pub fn single(address: Address) -> Self {
        Self { name: "docker".to_owned(), address, limit: None }
    }
}

impl FromStr for HostEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?}: {why}");
        let (name, rest) = text.split_once('=').ok_or_else(|| wrong("expected <name>=<address>;<most runners>"))?;
        let named = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !named {
            return Err(wrong("a host's name has lower-case letters, digits and -"));
        }
        let (address, limit) = match rest.split_once(';') {
            None => (rest, None),
            Some((address, limit)) => {
                let limit = limit.trim().parse().map_err(|_| wrong("the most runners of a host are a number"))?;
                (address, Some(limit))
            }
        };
        let address = address.trim().parse().map_err(|why: String| wrong(&why))?;
        Ok(Self { name: name.to_owned(), address, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        let read = |text: &str| text.parse::<Address>();
        assert_eq!(read("unix:///var/run/docker.sock"), Ok(Address::Unix("/var/run/docker.sock".into())));
        assert_eq!(read("tcp://10.1.2.3:2376/"), Ok(Address::Tcp("10.1.2.3:2376".to_owned())));
        assert_eq!(read("http://127.0.0.1:2375"), Ok(Address::Tcp("127.0.0.1:2375".to_owned())));
        assert_eq!(read("https://engine:2376"), Ok(Address::Https("engine:2376".to_owned())));
        assert_eq!(read("ssh://me@engine:22"), Ok(Address::Ssh("me@engine:22".to_owned())));
        for text in ["", "engine", "unix://socket", "tcp://engine", "tcp://:1", "tcp://me@x:1", "npipe:////./pipe/x"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        for text in ["unix:///a/b", "tcp://a:1", "https://a:1", "ssh://a@b"] {
            assert_eq!(read(text).map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn hosts_have_names_and_perhaps_limits() {
        let host = "big-1=tcp://10.0.0.1:2375;40".parse::<HostEntry>().expect("valid");
        assert_eq!((host.name.as_str(), host.limit), ("big-1", Some(40)));
        assert_eq!("a=unix:///x".parse::<HostEntry>().expect("valid").limit, None);
        for text in ["tcp://10.0.0.1:1", "=tcp://a:1", "A=tcp://a:1", "a=tcp://a:1;many", "a=ftp://b;1"] {
            assert!(text.parse::<HostEntry>().is_err(), "{text:?}");
        }
    }
}
