"""The parameters of each operation, one model per operation: the only place of a parameter's name,
type, default, limits and description.

The models make the run configs of the jobs, the options of the command line, the bodies of the REST
API with their schemas, and the tables of the documentation. The engine takes the models themselves.
"""
