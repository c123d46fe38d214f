"""LangChain's tables, filled by LangChain itself with documents that every Python brings along.

The documents are docstrings of the standard library, the vectors are made of the documents' words:
no network, no model, and the same rows from every run of the same Python.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from vector_backup_pipeline.engine.errors import (
    BackupError,
    DatabaseError,
    InvalidParams,
    MissingExtra,
)

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray
    from sqlalchemy.engine import Engine
else:
    try:
        from langchain_core.embeddings import Embeddings
    except ImportError:  # the extra is not installed; fill_langchain_tables says so
        Embeddings = object

DIMENSIONS: Final = 1536
DEFAULT_DOCUMENTS: Final = 400


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Collection -> the modules whose docstrings it holds; all of them exist on every platform and do
# nothing on import. Each collection has more than a quarter of DEFAULT_DOCUMENTS to give.
COLLECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "python_text": _words(
        "argparse codecs difflib email.message gettext html.parser locale pprint re shlex string "
        "textwrap"
    ),
    "python_data": _words(
        "bisect calendar collections csv datetime decimal fractions heapq itertools json math "
        "random statistics"
    ),
    "python_files": _words(
        "glob gzip io mimetypes os pathlib shutil tarfile tempfile zipfile",
    ),
    "python_concurrency": _words(
        "asyncio concurrent.futures contextlib functools logging multiprocessing.pool queue sched "
        "selectors subprocess threading"
    ),
}

# Shorter docstrings say little more than the name; longer ones are cut, as a RAG's splitter would.
SHORTEST_DOCUMENT: Final = 60
LONGEST_DOCUMENT: Final = 2000

# They are in every document, so they would make every document look like every other.
STOP_WORDS: Final = frozenset(
    _words(
        "a an and are as at be by can does for from has if in is it its not of on or self that "
        "the then this to used was when which will with"
    )
)
# A word that is repeated often is not that many times as telling.
MOST_REPETITIONS: Final = 4


@dataclass(frozen=True)
class FilledCorpus:
    """What `fill_langchain_tables` left in the database: documents by collection."""

    collections: Mapping[str, int]

    @property
    def documents(self) -> int:
        return sum(self.collections.values())


@dataclass(frozen=True)
class _StandardLibraryText:
    source: str
    module: str
    kind: str
    text: str


class DeterministicEmbeddings(Embeddings):
    """Vectors of unit length whose cosine tells how many telling words two texts share.

    Each word has its own pseudo-random direction, nearly at right angles to all others; a text is
    the sum of its words'. The sums are of whole numbers, so every machine gets the same bits.
    """

    def __init__(self, dimensions: int = DIMENSIONS):
        self.dimensions = dimensions

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        import numpy as np

        total = np.zeros(self.dimensions, dtype=np.int64)
        for word, count in _count_words(text).items():
            total += min(count, MOST_REPETITIONS) * _word_direction(word, self.dimensions)
        # A text without words has no direction; pgvector's cosine of it is NaN, as it should be.
        length = math.sqrt(int(total @ total)) or 1.0
        vector: list[float] = (total / length).tolist()
        return vector


def fill_langchain_tables(
    connection_string: str, documents: int = DEFAULT_DOCUMENTS
) -> FilledCorpus:
    """Fill `langchain_pg_collection` and `langchain_pg_embedding` through langchain-postgres.

    It makes the extension and the tables when they are missing. Documents have ids of their own,
    so filling again leaves the same rows, and so does filling what a truncate emptied.

    Args:
        connection_string: A URL (`postgresql://…`) or libpq's key=value.
        documents: How many in all, spread evenly over the four collections.

    Raises:
        MissingExtra: The extra `demo` is not installed.
        InvalidParams: The connection string is malformed.
        DatabaseError: The server can't be reached or refuses.
    """
    try:
        import langchain_postgres  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingExtra(
            "langchain-postgres, which fills the demo's tables, is not installed.", "demo"
        ) from error
    engine = _create_engine(connection_string)
    try:
        return FilledCorpus(
            {
                collection: _fill_collection(engine, collection, share)
                for collection, share in zip(COLLECTIONS, _even_shares(documents), strict=True)
            }
        )
    except BackupError:
        raise
    except Exception as error:
        # langchain-postgres raises bare exceptions, too.
        raise DatabaseError(f"LangChain's tables could not be filled: {error}") from error
    finally:
        engine.dispose()


def _create_engine(connection_string: str) -> Engine:
    import psycopg
    import sqlalchemy
    from psycopg.conninfo import conninfo_to_dict

    try:
        conninfo_to_dict(connection_string)
    except psycopg.Error:
        # Its message quotes the string, and with it a password.
        raise InvalidParams("The connection string is malformed.") from None
    return sqlalchemy.create_engine(
        # The address is libpq's business; SQLAlchemy would take a URL only.
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(connection_string),
        poolclass=sqlalchemy.pool.NullPool,
        hide_parameters=True,
    )


def _even_shares(documents: int) -> list[int]:
    whole, rest = divmod(documents, len(COLLECTIONS))
    return [whole + (place < rest) for place in range(len(COLLECTIONS))]


def _fill_collection(engine: Engine, collection: str, documents: int) -> int:
    from langchain_core.documents import Document
    from langchain_postgres import PGVector

    texts = list(itertools.islice(_read_standard_library(COLLECTIONS[collection]), documents))
    store = PGVector(
        embeddings=DeterministicEmbeddings(),
        embedding_length=DIMENSIONS,
        connection=engine,
        collection_name=collection,
        collection_metadata={"topic": collection.removeprefix("python_"), "language": "en"},
    )
    if texts:
        store.add_documents(
            [Document(page_content=text.text, metadata=_describe(text)) for text in texts],
            ids=[f"{collection}:{text.source}" for text in texts],
        )
    return len(texts)


def _describe(text: _StandardLibraryText) -> dict[str, Any]:
    return {
        "source": text.source,
        "module": text.module,
        "kind": text.kind,
        "characters": len(text.text),
        "is_cut": len(text.text) == LONGEST_DOCUMENT,
        "parent": text.source.rpartition(".")[0] or None,
    }


def _read_standard_library(modules: tuple[str, ...]) -> Iterator[_StandardLibraryText]:
    """The modules' docstrings, a module's turn at a time, so that a short list holds all."""
    turns = itertools.zip_longest(*map(_read_module, modules))
    return (text for turn in turns for text in turn if text is not None)


def _read_module(name: str) -> Iterator[_StandardLibraryText]:
    module = importlib.import_module(name)
    for source, kind, thing in _list_documented(module):
        text = inspect.cleandoc(thing.__doc__ or "")
        # CPython's own signatures may show an address, another one in each process.
        if len(text) >= SHORTEST_DOCUMENT and " at 0x" not in text:
            cut = f"{source}\n\n{text}"[:LONGEST_DOCUMENT]
            yield _StandardLibraryText(source, name, kind, cut)


def _list_documented(module: ModuleType) -> Iterator[tuple[str, str, Any]]:
    yield module.__name__, "module", module
    for name in _list_public(module):
        thing = getattr(module, name, None)
        if not (inspect.isclass(thing) or inspect.isroutine(thing)):
            continue
        source = f"{module.__name__}.{name}"
        yield source, "class" if inspect.isclass(thing) else "function", thing
        if inspect.isclass(thing):
            for method, routine in sorted(vars(thing).items()):
                if not method.startswith("_") and inspect.isroutine(routine):
                    yield f"{source}.{method}", "method", routine


def _list_public(module: ModuleType) -> list[str]:
    own = (n for n, thing in vars(module).items() if _module_of(thing) == module.__name__)
    return sorted(n for n in getattr(module, "__all__", own) if not n.startswith("_"))


def _module_of(thing: object) -> object:
    return getattr(thing, "__module__", None)


def _count_words(text: str) -> Counter[str]:
    words = re.findall(r"[^\W_]+", text.lower())
    return Counter(word for word in words if word not in STOP_WORDS)


@lru_cache(maxsize=8192)  # 12 KB each: 100 MB at most; the demo's 400 documents have 3,000 words
def _word_direction(word: str, dimensions: int) -> NDArray[np.int64]:
    import numpy as np

    noise = hashlib.shake_256(word.encode()).digest(dimensions)
    # Odd numbers around zero: a mean of zero keeps strangers' cosine near zero.
    return 2 * np.frombuffer(noise, dtype=np.int8).astype(np.int64) + 1
