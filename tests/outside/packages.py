"""What `make check` says of our packages: known weaknesses (pip-audit), and a list of what a build has (CycloneDX).

`python -m tests.outside.packages`. The feed of weaknesses is PyPI's, over the network: where it is out of reach, that is said,
and is no error. It is asked once a day, and whenever a lock changes.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from api.pages.npm import NpmPackage, npm_packages

ROOT = Path(__file__).resolve().parents[2]

LOCKS: Final = ("requirements.lock", "requirements-dev.lock")

FEED: Final = "https://pypi.org/pypi/pip/26.3/json"
"""Has `vulnerabilities`. A mirror of the packages alone does not have it, and pip-audit would call each package unknown."""

PROBE_S: Final = 5.0
"""Longest look whether the feed is there, with the time that a name server takes."""

DAY_S: Final = 86_400

AUDIT: Final = (
    sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--timeout", "5", "--progress-spinner", "off",
    "--format", "json",
)  # fmt: skip

SBOM: Final = (
    sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "requirements.lock", "--pyproject",
    "pyproject.toml", "--output-reproducible", "--of", "JSON",
)  # fmt: skip

SKIPPED: Final = "pip-audit: skipped, the feed of known weaknesses is out of reach"


def feed_is_there(url: str = FEED, timeout_s: float = PROBE_S) -> bool:
    """Asked in a process of its own: a name server that does not answer cannot be hurried."""
    look = f"import json, urllib.request as r; json.load(r.urlopen({url!r}, timeout=3))['vulnerabilities']"
    try:
        return not subprocess.run([sys.executable, "-c", look], capture_output=True, timeout=timeout_s).returncode
    except subprocess.TimeoutExpired:
        return False


def audit(command: Sequence[str] = AUDIT, root: Path = ROOT) -> tuple[int, str]:
    """Exit code and a line for people; a line for each weakness."""
    locks = [word for lock in LOCKS for word in ("-r", lock)]
    ran = subprocess.run([*command, *locks], cwd=root, capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 1, f"pip-audit: failed\n{ran.stderr.strip()}"
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):
        return 0, SKIPPED
    weak = [
        f"{package['name']} {package['version']}: {weakness['id']}"
        + (f", mended in {', '.join(weakness['fix_versions'])}" if weakness["fix_versions"] else "")
        for package in packages
        for weakness in package.get("vulns", ())
    ]
    told = f"pip-audit: {len(packages) - len(unknown)} packages, {len(weak) or 'no'} known weaknesses"
    if unknown:
        told += f"; unknown to the feed: {', '.join(sorted(unknown))}"
    return bool(weak), "\n".join([told, *weak])


def audit_daily(
    build: Path,
    there: Callable[[], bool] = feed_is_there,
    look: Callable[[], tuple[int, str]] = audit,
    root: Path = ROOT,
) -> tuple[int, str]:
    """The same, unless it found nothing within a day. Without a feed it is skipped, and asked for again the next time."""
    mark = build / "audited"
    newest = max((root / lock).stat().st_mtime for lock in LOCKS)
    if mark.exists() and mark.stat().st_mtime > max(newest, time.time() - DAY_S):
        return 0, mark.read_text()
    code, told = look() if there() else (0, SKIPPED)
    if code == 0 and told != SKIPPED:
        mark.write_text(told)
    return code, told


def list_packages(build: Path, command: Sequence[str] = SBOM, root: Path = ROOT) -> tuple[int, str]:
    """Write what a build has, with hashes, in CycloneDX's form; again only when the lock has changed."""
    path = build / "boxoffice.cdx.json"
    sources = [(root / name).stat().st_mtime for name in ("requirements.lock", "pyproject.toml", "api/pages/npm.json")]
    if not path.exists() or path.stat().st_mtime <= max(sources):
        draft = path.with_suffix(".new")
        ran = subprocess.run([*command, "-o", draft], cwd=root, capture_output=True, text=True, check=False)
        if ran.returncode:
            return 1, f"cyclonedx: failed\n{ran.stderr.strip()}"
        listed = json.loads(draft.read_text())
        listed["components"] += [_component(package) for package in npm_packages() if package.use == "pages"]
        draft.write_text(json.dumps(listed, indent=2))
        draft.replace(path)
    return 0, ""


def _component(package: NpmPackage) -> dict[str, Any]:
    """A package of npm as the list has those of Python."""
    digest = base64.b64decode(package.integrity.removeprefix("sha512-")).hex()
    name = f"pkg:npm/{package.name}@{package.version}"
    return {
        "bom-ref": name, "type": "library", "name": package.name, "version": package.version, "purl": name,
        "hashes": [{"alg": "SHA-512", "content": digest}], "licenses": [{"license": {"id": package.licence}}],
    }  # fmt: skip


def main() -> int:
    """Both. What is as it should be is not worth a line."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    worst = 0
    for code, told in (list_packages(build), audit_daily(build)):
        if code or told == SKIPPED:
            print(told, file=sys.stderr if code else sys.stdout)
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
