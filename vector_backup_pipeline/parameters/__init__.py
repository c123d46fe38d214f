"""What a caller may ask of each operation: one model per operation.

A parameter's name, type, default, limits and description stand here and nowhere else. From the
models come the run configs of the jobs, the options of the command line, the bodies of the REST API
with their schemas, and the tables of the documentation. The engine takes the models themselves.
"""
