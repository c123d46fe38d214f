"""Sample documents for LangChain's tables: docstrings of the standard library.

Their vectors are computed from their words, without network or model, and are the same in every run
of the same Python. Needs the extra `demo`.
"""

import hashlib
import importlib
import inspect
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
import psycopg
import sqlalchemy
from langchain_core.embeddings import Embeddings
from langchain_postgres import PGVector
from numpy.typing import NDArray

from vector_backup_pipeline.engine.errors import DatabaseError

DIMENSIONS: Final = 1536

# The modules of each collection. They exist on every platform, do nothing on import, and have more
# than 100 documents together.
COLLECTIONS: Final[Mapping[str, str]] = {
    "python_text": "argparse codecs difflib email.message gettext html.parser locale pprint re "
    "shlex string textwrap",
    "python_data": "bisect calendar collections csv datetime decimal fractions heapq itertools "
    "json math random statistics",
    "python_files": "glob gzip io mimetypes os pathlib shutil tarfile tempfile zipfile",
    "python_concurrency": "asyncio concurrent.futures contextlib functools logging "
    "multiprocessing.pool queue sched selectors subprocess threading",
}

_WORD: Final = re.compile(r"[^\W_]+")
_SHORTEST_DOCUMENT, _LONGEST_DOCUMENT = 60, 2000
# They are in every document and would make all documents alike.
_STOP_WORDS: Final = frozenset(
    _WORD.findall(
        "a an and are as at be by can does for from has if in is it its not of on or self that the "
        "then this to used was when which will with"
    )
)
# A word that is repeated more often says no more about a document.
_MOST_REPETITIONS: Final = 4


class DeterministicEmbeddings(Embeddings):
    """Vectors of unit length. The cosine of two is high if the texts share many words.

    Each word has a pseudo-random direction of its own, nearly orthogonal to all others; a text is
    the sum of its words. The sums are of integers, so every machine computes the same bits.
    """

    def __init__(self, dimensions: int = DIMENSIONS):
        self.dimensions = dimensions

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        words = Counter(w for w in _WORD.findall(text.lower()) if w not in _STOP_WORDS)
        total = np.zeros(self.dimensions, dtype=np.int64)
        for word, count in words.items():
            total += min(count, _MOST_REPETITIONS) * _word_direction(word, self.dimensions)
        length = math.sqrt(int(total @ total)) or 1.0
        vector: list[float] = (total / length).tolist()
        return vector


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
        for collection, modules in COLLECTIONS.items():
            share = itertools.islice(_documents(modules.split()), documents // len(COLLECTIONS))
            texts, metadata = zip(*share, strict=True)
            store = PGVector(
                embeddings=DeterministicEmbeddings(),
                embedding_length=DIMENSIONS,
                connection=engine,
                collection_name=collection,
                collection_metadata={"topic": collection.removeprefix("python_"), "language": "en"},
            )
            ids = [f"{collection}:{about['source']}" for about in metadata]
            filled += len(store.add_texts(texts, list(metadata), ids=ids))
    except Exception as error:
        # langchain-postgres raises plain exceptions, too.
        raise DatabaseError(f"LangChain's tables could not be filled: {error}") from error
    finally:
        engine.dispose()
    return filled


def _documents(modules: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The documents of the modules with their metadata, from each module in turn."""
    turns = itertools.zip_longest(*map(_module_documents, modules))
    return (document for turn in turns for document in turn if document is not None)


def _module_documents(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for source, documented in _documented(name):
        text = inspect.cleandoc(documented.__doc__ or "")
        # CPython's own signatures may show an address, which is another one in each process.
        if len(text) < _SHORTEST_DOCUMENT or " at 0x" in text:
            continue
        text = f"{source}\n\n{text}"[:_LONGEST_DOCUMENT]
        parent = source.rpartition(".")[0] or None
        yield text, {"source": source, "module": name, "parent": parent, "characters": len(text)}


def _documented(name: str) -> Iterator[tuple[str, Any]]:
    """The module, its public functions and classes, and their public methods."""
    module = importlib.import_module(name)
    yield name, module
    own = [n for n, value in vars(module).items() if getattr(value, "__module__", None) == name]
    for attribute in sorted(getattr(module, "__all__", own)):
        value = getattr(module, attribute, None)
        if attribute.startswith("_") or not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        yield f"{name}.{attribute}", value
        for method, routine in sorted(vars(value).items()) if inspect.isclass(value) else ():
            if not method.startswith("_") and inspect.isroutine(routine):
                yield f"{name}.{attribute}.{method}", routine


@lru_cache(maxsize=8192)  # of 12 KB; 400 documents have 3,000 words
def _word_direction(word: str, dimensions: int) -> NDArray[np.int64]:
    noise = hashlib.shake_256(word.encode()).digest(dimensions)
    # Odd numbers around zero: their mean of zero keeps the cosine of different words near zero.
    return 2 * np.frombuffer(noise, dtype=np.int8).astype(np.int64) + 1
