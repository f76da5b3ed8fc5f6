"""What of the clients is generated from the API's description: `make clients` writes it, a test compares.

For Python by the few lines here, which need nothing that would have to be installed: TypedDicts, of which a client runs no
code, so that it takes what is new. For TypeScript by openapi-typescript.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Final

from tests.outside import tools

__all__ = ["PARTS", "bodies", "problems", "schema"]

ROOT: Final = Path(__file__).resolve().parents[2]
DESCRIPTION: Final = ROOT / "tests/api/openapi.json"
PYTHON: Final = ROOT / "clients/python/src/boxoffice_client"

_HEAD: Final = "{} Generated from tests/api/openapi.json: `make clients` writes it anew.\n"


def bodies() -> str:
    """`bodies.py`: every schema of the description as a TypedDict."""
    schemas = _schemas()
    lines = [
        '"""Bodies of requests and answers: the JSON itself, typed.\n',
        _HEAD.format("").strip(),
        '"""\n',
        "from __future__ import annotations\n",
        "from typing import Any, Literal, NotRequired, TypedDict\n",
        f"__all__ = {json.dumps(sorted(schemas))}\n",
    ]
    for name, schema in sorted(schemas.items()):
        if "properties" not in schema:
            lines += [f"{name} = {_type(schema)}", _doc(schema, name).strip()]
            continue
        lines += [f"\nclass {name}(TypedDict):", _doc(schema, name)]
        for member, its in schema["properties"].items():
            kind = _type(its)
            lines.append(f"    {member}: {kind if member in schema.get('required', ()) else f'NotRequired[{kind}]'}")
            if "description" in its:
                lines.append(_doc(its, member))
    return _formatted("\n".join(lines) + "\n")


def _doc(schema: dict[str, Any], name: str) -> str:
    """Its description, wrapped."""
    text = " ".join(schema.get("description", name).split())
    return textwrap.fill(f'"""{text}"""', 124, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def _type(schema: dict[str, Any]) -> str:
    """A schema as an annotation. Raises `ValueError` for what none of ours has had so far."""
    match schema:
        case {"$ref": reference}:
            return str(reference).rpartition("/")[2]
        case {"anyOf": kinds} | {"oneOf": kinds}:
            return " | ".join(dict.fromkeys(map(_type, kinds)))
        case {"const": word}:
            return f"Literal[{json.dumps(word)}]" if word is not True else "Literal[True]"
        case {"enum": words}:
            return f"Literal[{', '.join(map(json.dumps, words))}]"
        case {"type": "array", "items": items}:
            return f"list[{_type(items)}]"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"dict[str, {_type(values)}]"
        case {"type": "object"}:
            return "dict[str, Any]"
        case {"type": kind} if kind in _PLAIN:
            return _PLAIN[kind]
    raise ValueError(schema)


_PLAIN: Final = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def _schemas() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DESCRIPTION.read_text())["components"]["schemas"]
    return found


def problems() -> str:
    """`problems.py`: a class for each kind of problem."""
    kinds = _kinds()
    lines = [
        '"""An error for each kind of problem (docs/errors.md): catch the one that you can do something about.\n',
        _HEAD.format("").strip(),
        '"""\n',
        "from __future__ import annotations\n",
        "from collections.abc import Mapping",
        "from typing import Any, ClassVar\n",
        "from boxoffice_client import bodies",
        "from boxoffice_client.errors import ProblemError\n",
        f"__all__ = {json.dumps(sorted([*kinds, 'problem_error']))}\n",
    ]
    for name, (kind, title) in kinds.items():
        lines += [
            f"\nclass {name}(ProblemError):",
            f'    """{title}"""\n',
            f'    type: ClassVar[str] = "{kind}"',
            f"    problem: bodies.{name}Problem\n",
        ]
    lines += [
        "\n_BY_TYPE: dict[str, type[ProblemError]] = {",
        f"    each.type: each for each in ({', '.join(kinds)})",
        "}\n\n",
        "def problem_error(problem: Mapping[str, Any], status: int, retry_after_s: float | None) -> ProblemError:",
        '    """The error of this body; of a type that is newer than this version, `ProblemError` itself."""',
        '    return _BY_TYPE.get(str(problem.get("type")), ProblemError)(problem, status, retry_after_s)',
    ]
    return _formatted("\n".join(lines) + "\n")


_A_GATEWAYS: Final = ("WebhookMalformedProblem", "WebhookRefusedProblem")
"""What only a gateway is told."""


def _kinds() -> dict[str, tuple[str, str]]:
    """Names of errors to their types and titles."""
    return {
        name.removesuffix("Problem"): (schema["properties"]["type"]["const"], schema["description"])
        for name, schema in sorted(_schemas().items())
        if name.endswith("Problem") and name != "Problem" and name not in _A_GATEWAYS
    }


def schema() -> str:
    """`schema.ts`: the whole description as types. Raises `tools.Missing`."""
    program = tools.node() / ".bin/openapi-typescript"
    ran = subprocess.run([program, DESCRIPTION], check=True, capture_output=True, text=True)
    return _HEAD.format("//") + ran.stdout


def _formatted(code: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "-q", "--config", ROOT / "pyproject.toml", "-"]
    return subprocess.run(command, input=code, check=True, capture_output=True, text=True).stdout


PARTS: Final = {
    PYTHON / "bodies.py": bodies,
    PYTHON / "problems.py": problems,
    ROOT / "clients/typescript/src/schema.ts": schema,
}


def main() -> int:
    """Write them. A part whose generator cannot be had here stays as it is."""
    worst = 0
    for path, part in PARTS.items():
        try:
            path.write_text(part())
        except tools.Missing as reason:
            print(f"{path.relative_to(ROOT)}: {reason}", file=sys.stderr)
            worst = 1
    return worst


if __name__ == "__main__":
    sys.exit(main())
