"""The addresses, a module for each thing that they are about."""

BASE_PATH = "/api/v0/data_pipeline/vector"
