#!/bin/sh
# One role with a password of its own for each service. The Postgres image runs this when its data is empty; later it may be run
# again after passwords were changed in .env:
#
#   docker compose up --detach --wait postgres && docker compose exec postgres sh /docker-entrypoint-initdb.d/roles.sh
#
# Each role may make its own schema (which `greenroom migrate` does) and see nothing else.
set -eu

query() {
    # Passwords are read from the environment: others see command lines.
    psql --quiet --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set=db="$POSTGRES_DB" "$@"
}

role() {
    PASSWORD=$2 query --set=role="$1" <<'SQL'
\getenv password PASSWORD
SELECT format('CREATE ROLE %I', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role')
\gexec
ALTER ROLE :"role" LOGIN PASSWORD :'password' CONNECTION LIMIT 30;
GRANT CONNECT, CREATE ON DATABASE :"db" TO :"role";
SQL
}

role greenroom_accounts "$ACCOUNTS_DATABASE_PASSWORD"
role greenroom_scheduler "$SCHEDULER_DATABASE_PASSWORD"
role greenroom_queue "$QUEUE_DATABASE_PASSWORD"
role greenroom_pool "$POOL_MANAGER_DATABASE_PASSWORD"
role greenroom_recordings "$RECORDINGS_DATABASE_PASSWORD"
query --set=superuser="$POSTGRES_USER" <<'SQL'
\getenv password POSTGRES_PASSWORD
ALTER ROLE :"superuser" PASSWORD :'password';
REVOKE ALL ON DATABASE :"db" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
SQL
