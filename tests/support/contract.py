"""The API's description of itself, held against answers: each test of the API is a test of its documentation too."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2
import jsonschema_rs

__all__ = ["Contract"]

SAYS_ONLY_THAT_IT_IS_HTTP = {
    "connection", "content-length", "content-type", "date", "transfer-encoding", "vary",
    "access-control-allow-origin", "access-control-expose-headers",
    "content-security-policy", "referrer-policy", "x-content-type-options",
}  # fmt: skip

UNDESCRIBED = re.compile(r"/(docs(/.*)?|openapi\.json|actions/.*|ops(/.*)?|v1/ops/rushes)?")
"""Pages, and the description itself."""


class Contract:
    """An OpenAPI document as a measure of answers."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._paths = [
            (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), operations)
            for path, operations in document["paths"].items()
        ]
        self._validators: dict[str, Any] = {}

    def check(self, method: str, path: str, status: int, headers: httpx2.Headers, content: bytes) -> None:
        """Fail unless the document says that this may come, of this shape, with these headers."""
        what = f"{method} {path}: {status} {content[:200]!r}"
        if status == 499 or method == "OPTIONS":
            return
        assert "cache-control" in headers, f"nothing says how to cache {what}"
        operations = next((each for pattern, each in self._paths if pattern.fullmatch(path)), {})
        bare = method == "HEAD"
        operation = operations.get("get" if bare else method.lower())
        if operation is None:
            assert UNDESCRIBED.fullmatch(path) or status in (404, 405, 401), what
            if status >= 400 and not bare and headers["content-type"].startswith("application/"):
                self._validate({"$ref": "#/components/schemas/Problem"}, content, what)
            return
        response = operation["responses"].get(str(status))
        assert response is not None, f"not documented: {what}"
        if status == 304:
            assert "content-type" not in headers and "content-length" not in headers and not content, what
        else:
            ((kind, described),) = response["content"].items()
            assert headers["content-type"] == kind, what
            if not bare:
                self._validate(described["schema"], content, what)
        more = {name.lower() for name in headers} - SAYS_ONLY_THAT_IT_IS_HTTP
        assert more <= {name.lower() for name in response["headers"]}, f"undocumented headers {more} of {what}"
        if status >= 400 and not bare:
            slug = json.loads(content)["type"].rpartition("/")[2]
            assert slug in described["examples"], f"{slug} is not documented: {what}"

    def _validate(self, described: dict[str, Any], content: bytes, what: str) -> None:
        name = json.dumps(described)
        validator = self._validators.get(name)
        if validator is None:
            schema = described | {"components": self.document["components"]}
            validator = self._validators[name] = jsonschema_rs.validator_for(schema, validate_formats=True)
        error = next(validator.iter_errors(json.loads(content)), None)
        assert error is None, f"{error} in {what}"
