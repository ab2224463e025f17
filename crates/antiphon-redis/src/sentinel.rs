//! Redis Sentinel, which says which Redis is the primary now.
//!
//! The server that was named by Sentinels owns them, and asks anew for each connection: one after the
//! other, until one answers.

use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, RedisResult};

use crate::{error::Error, url};

/// So long one of them may take to connect, and to answer: there are others.
const DEADLINE: Duration = Duration::from_secs(1);

/// The Sentinels that watch a primary.
#[derive(Debug)]
pub(crate) struct Sentinels {
    name: String,
    clients: Vec<Client>,
}

impl Sentinels {
    /// Those at these URLs, for the primary that they know by this name.
    pub(crate) fn new(name: &str, urls: &[String]) -> Result<Self, Error> {
        let open = |url: &String| {
            Client::open(url::info(url)?).map_err(|error| Error::Url {
                problem: error.to_string(),
            })
        };
        Ok(Self {
            name: name.to_owned(),
            clients: urls.iter().map(open).collect::<Result<_, _>>()?,
        })
    }

    /// Host and port of the primary, as the first that answers says.
    pub(crate) async fn primary(&self) -> Result<(String, u16), Error> {
        let mut problems = Vec::new();
        for client in &self.clients {
            let problem = match self.ask(client).await {
                Ok(Some(primary)) => return Ok(primary),
                Ok(None) => "it knows none".to_owned(),
                Err(error) => error.to_string(),
            };
            let address = client.get_connection_info().addr();
            problems.push(format!("{address}: {problem}"));
        }
        Err(Error::NoPrimary {
            name: self.name.clone(),
            problems: problems.join("; "),
        })
    }

    async fn ask(&self, client: &Client) -> RedisResult<Option<(String, u16)>> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(DEADLINE));
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(&self.name)
            .query_async(&mut connection)
            .await
    }
}
