"""The REST API: the older service's API, over Dagster."""
