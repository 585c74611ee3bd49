"""Names of this package's modules, for the imports of other packages."""

from ridges_proxy.web.schemas.agents import EmbeddingSchema, InferenceSchema, UsageSchema
from ridges_proxy.web.schemas.problems import MAX_FAULTY_MESSAGES, MAX_FIELDS, MAX_MESSAGES, problem
from ridges_proxy.web.schemas.request_schema import load, query_fields
from ridges_proxy.web.schemas.values import RunId

run_id_text = RunId().read

__all__ = [
    "MAX_FAULTY_MESSAGES",
    "MAX_FIELDS",
    "MAX_MESSAGES",
    "EmbeddingSchema",
    "InferenceSchema",
    "UsageSchema",
    "load",
    "problem",
    "query_fields",
    "run_id_text",
]
