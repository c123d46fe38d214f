"""Definitions as earlier versions wrote them say the same as today's."""

import json
from typing import Any

from vector_backup_pipeline.engine.older_definitions import definition_as_written_today
from vector_backup_pipeline.engine.table_definition import Relation, TableDefinition
from vector_backup_pipeline_tests.fix_sets import DEFINITION

_COMMENT_ON_SEQUENCE = """COMMENT ON SEQUENCE public."a.b_seq" IS 'x'"""
_OTHERS = (
    "trigger policy of, which could not be read",
    "owner somebody else",
    "grants {owner=r/owner}",
)


def _read(changes: dict[str, Any]) -> TableDefinition:
    """A definition of before, with `changes`, as it comes out of its manifest."""
    written = json.loads(DEFINITION.model_dump_json()) | changes
    for field in ("unread_policies", "sequence_comments"):
        del written[field]
    older = TableDefinition.model_validate_json(json.dumps(written))
    return definition_as_written_today(older)


def test_the_policies_that_could_not_be_read_are_known_with_their_tables() -> None:
    partition = {
        **DEFINITION.model_dump(include=set(Relation.model_fields)),
        "name": "a: policy b",
        "parent": {"schema_name": "public", "name": DEFINITION.name},
        "bound": "DEFAULT",
    }
    table = _read(
        {
            "partitions": [partition],
            "not_recreated": [
                *("policy x, y: z, which could not be read without waiting", *_OTHERS),
                "partition public.a: policy b: policy p, which could not be read without waiting",
            ],
        }
    )

    assert [(str(each.table), each.name) for each in table.unread_policies] == [
        (str(DEFINITION), "x, y: z"),
        ("public.a: policy b", "p"),
    ]
    assert table.not_recreated == _OTHERS


def test_the_owner_is_not_among_what_is_not_recreated() -> None:
    owner = f"owner {DEFINITION.owner}"
    assert _read({"not_recreated": [owner, *_OTHERS]}).not_recreated == _OTHERS


def test_comments_on_sequences_are_known_with_their_names() -> None:
    others = ["COMMENT ON TABLE public.t IS 'COMMENT ON SEQUENCE public.t IS ''x'''"]
    table = _read({"comment_ddl": [*others, _COMMENT_ON_SEQUENCE]})

    (comment,) = table.sequence_comments
    assert (comment.schema_name, comment.name) == ("public", "a.b_seq")
    assert table.sequence_comment_ddl == (_COMMENT_ON_SEQUENCE,)
    assert table.comment_ddl == tuple(others)


def test_todays_words_are_not_read() -> None:
    words = ("policy x, which could not be read without waiting", f"owner {DEFINITION.owner}")
    written = DEFINITION.model_copy(update={"not_recreated": words}).model_dump_json()
    table = definition_as_written_today(TableDefinition.model_validate_json(written))

    assert table.not_recreated == words
    assert table.unread_policies == ()
