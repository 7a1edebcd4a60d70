#!/bin/sh
# One role for each service, run once by the Postgres image when its data is empty. Passwords come from
# GREENROOM_DATABASE_PASSWORD. Each role may make its own schema (which `greenroom migrate` does) and see nothing else.
set -eu
for role in accounts scheduler queue pool recordings; do
    psql --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
        --set=role="greenroom_$role" --set=password="$GREENROOM_DATABASE_PASSWORD" --set=db="$POSTGRES_DB" <<'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password' CONNECTION LIMIT 30;
GRANT CONNECT, CREATE ON DATABASE :"db" TO :"role";
SQL
done
psql --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set=db="$POSTGRES_DB" <<'SQL'
REVOKE ALL ON DATABASE :"db" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
SQL
