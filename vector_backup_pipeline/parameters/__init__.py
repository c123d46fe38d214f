"""The parameters of each operation, one model per operation."""
