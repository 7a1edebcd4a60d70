//! Databases of tests, each of them dropped once the process that asked for it is gone. A run of all tests makes hundreds, and
//! each takes some twelve megabytes from its first migration on.

use std::path::Path;
use std::process;

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Postgres, connect};
use crate::{Error, Password};

/// Begins the name of every one.
const PREFIX: &str = "throw_away_";

/// The name of a database that this process will use and nobody will miss: [`Postgres::drop_abandoned`] drops it once this process
/// is gone. `unique` are at most 44 characters out of `[a-z0-9_]` that no other database of this process has.
#[must_use]
pub fn throw_away_database(unique: &str) -> String {
    format!("{PREFIX}{}_{unique}", process::id())
}

/// The process that uses this database; nothing when it is none of [`throw_away_database`].
fn user_of(database: &str) -> Option<u32> {
    database.strip_prefix(PREFIX)?.split_once('_')?.0.parse().ok()
}

impl Postgres {
    /// Drops each [`throw_away_database`] whose process is gone, and says how many there were.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn drop_abandoned(&self) -> Result<usize, Error> {
        drop_abandoned(self.port(), &self.instance.program.password)
            .await
            .map_err(|source| Error::Database { doing: "drop the databases of tests that are over".into(), source })
    }
}

async fn drop_abandoned(port: u16, password: &Password) -> Result<usize, sqlx::Error> {
    let mut connection: PgConnection = connect(port, password).await?;
    let databases: Vec<String> = sqlx::query_scalar("SELECT datname FROM pg_database WHERE starts_with(datname, $1)")
        .bind(PREFIX)
        .fetch_all(&mut connection)
        .await?;
    let mut dropped = 0;
    for database in databases {
        let gone = user_of(&database).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        if gone {
            // A server process may still be busy with a statement of the client that is gone.
            let statement = format!("DROP DATABASE IF EXISTS \"{database}\" WITH (FORCE)");
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throw_away_database_names_its_process_and_others_do_not() {
        assert_eq!(user_of(&throw_away_database("queue_1f")), Some(process::id()));
        for other in ["postgres", "greenroom", "throw_away_", "throw_away_x_1", "throw_away_12"] {
            assert_eq!(user_of(other), None, "{other}");
        }
    }
}
