#!/bin/sh
# Dagster reads the address of its own database only from the environment.
secret="${CREDENTIALS_DIRECTORY:-/run/secrets}/dagster_postgres_url"
[ ! -r "$secret" ] || export DAGSTER_POSTGRES_URL="$(cat "$secret")"
exec "$@"
