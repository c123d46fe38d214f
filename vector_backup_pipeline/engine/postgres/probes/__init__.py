"""Probes: a few of a table's own vectors, answered through each index and exactly, after a restore.

searches.py    what there is to search: the vector columns and their indexes
statements.py  the SQL of choosing probes and answering them
reading.py     the transaction that all of it is read in, bounded in time
recall.py      how many of the true neighbours were found
"""

from vector_backup_pipeline.engine.postgres.probes.recall import measure_recall

__all__ = ["measure_recall"]
