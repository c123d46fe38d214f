"""Sample documents for LangChain's tables: paragraphs of Python's language reference.

The embeddings are LangChain's deterministic fake ones: they need no network and no model, and
depend only on the text. Needs the extra `demo`.
"""

import itertools
from collections.abc import Iterator, Mapping
from pydoc_data.topics import topics
from typing import Final

import psycopg
import sqlalchemy
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_postgres import PGVector

from vector_backup_pipeline.engine.errors import DatabaseError

DIMENSIONS: Final = 1536
EMBEDDINGS: Final = DeterministicFakeEmbedding(size=DIMENSIONS)

# The topics of each collection: in every version of Python, more than 100 paragraphs.
COLLECTIONS: Final[Mapping[str, str]] = {
    "python_statements": "compound function class import try with assignment raise",
    "python_types": "types typesseq typesmapping typesfunctions bltin-type-objects",
    "python_text": "strings formatstrings string-methods debugger",
    "python_objects": "specialnames customization objects attribute-access callable-types",
}
_SHORTEST_DOCUMENT = 60


def fill_langchain_tables(connection_string: str, documents: int = 400) -> int:
    """Fill `langchain_pg_collection` and `langchain_pg_embedding` through langchain-postgres, which
    creates them and the extension if missing. Returns the number of documents, which are spread
    evenly over the collections. Filling again gives the same rows."""
    engine = sqlalchemy.create_engine(
        # libpq reads the connection string: SQLAlchemy accepts URLs only.
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(connection_string),
        poolclass=sqlalchemy.pool.NullPool,
        hide_parameters=True,
    )
    filled = 0
    try:
        for collection, names in COLLECTIONS.items():
            store = PGVector(
                embeddings=EMBEDDINGS,
                embedding_length=DIMENSIONS,
                connection=engine,
                collection_name=collection,
                collection_metadata={"language": "en"},
            )
            share = itertools.islice(_documents(names.split()), documents // len(COLLECTIONS))
            filled += len(store.add_documents(list(share)))
    except Exception as error:
        # langchain-postgres raises plain exceptions, too.
        raise DatabaseError(f"LangChain's tables could not be filled: {error}") from error
    finally:
        engine.dispose()
    return filled


def _documents(names: list[str]) -> Iterator[Document]:
    """A document for each paragraph of these topics, except the shortest."""
    for name in names:
        for number, paragraph in enumerate(topics[name].split("\n\n")):
            if len(paragraph) >= _SHORTEST_DOCUMENT:
                metadata = {"topic": name, "characters": len(paragraph)}
                yield Document(paragraph, id=f"{name}:{number}", metadata=metadata)
