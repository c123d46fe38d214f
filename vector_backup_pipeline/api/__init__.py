"""The REST door: the older service's API, over Dagster."""
