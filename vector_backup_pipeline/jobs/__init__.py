"""The jobs: how the steps of each operation are composed."""
