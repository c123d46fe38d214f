"""Requests from elsewhere, over REST or as files: JSON, checked before a run exists."""

from typing import Any, TypeVar

from pydantic_core import from_json

from vector_backup_pipeline.engine.errors import InvalidParams, Problem, parameter_error
from vector_backup_pipeline.engine.postgres.connection_strings import check_remote_caller
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.operations import check_parameters
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.sealing import seal
from vector_backup_pipeline.settings import Settings

# Far more than the parameters need, and small enough to parse without delaying other requests.
MAX_REQUEST_BYTES = 64 << 10
_LOCAL_FILE = (
    "names a file on the machine of the run, which the REST API does not read. Use vector-backup "
    "there."
)
# PostgreSQL and file names cannot hold NUL. JSON can write it in this way only.
_NUL = b"\\u0000"

_P = TypeVar("_P", bound=Parameters)


def parse_request(text: bytes, model: type[_P], target: str | None = None) -> _P:
    """The parameters in a JSON object, and a target given beside it.

    `{"env": …}` is not resolved: the model rejects it as a value of the wrong type.

    Raises:
        InvalidParams: it is not a JSON object of valid parameters, or names a local file.
        MissingRequiredParams: a required parameter is missing.
    """
    try:
        values = from_json(text, allow_inf_nan=False)
    except ValueError:
        values = None
    if not isinstance(values, dict) or _NUL in text:
        raise InvalidParams(
            "The request is not a JSON object in UTF-8 without NUL characters. Send one such as "
            '{"workers": 2}.'
        )
    for key, value in values.items():
        # JSON has one number type: 2.0 is the integer 2.
        if isinstance(value, float) and value.is_integer():
            values[key] = int(value)
    if target is not None and values.setdefault("target", target) != target:
        raise parameter_error([Problem(("target",), "differs in the query and in the body.")])
    local = [Problem((key,), _LOCAL_FILE) for key in model.LOCAL_FILES if key in values]
    if local:
        raise parameter_error(local)
    return model(**values)


def checked_run_config(parameters: Any, settings: Settings) -> dict[str, Any]:
    """The run config, with an encrypted connection string. Raises a `BackupError` if the job would
    refuse the parameters with these settings of the target, or if the string uses anything of the
    machine that connects."""
    check_parameters(parameters, settings)
    if parameters.db_connection is not None:
        check_remote_caller(SecretText(parameters.db_connection.get_secret_value()))
    config: dict[str, Any] = parameters.as_run_config(
        lambda secret: seal(SecretText(secret.get_secret_value()), settings)
    )
    return config
