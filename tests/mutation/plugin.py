"""pytest's plugin of a mutation run: keeps to the chosen tests in the chosen order, says what failed, or draws the map.

`MUTATION_JOB` names a file of JSON: `{"chosen": [ids], "never": [ids], "out": path, "map": false}`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

_FOLDERS = ("boxoffice", "api", "worker")


class Plugin:
    def __init__(self, job: dict[str, Any]) -> None:
        self.chosen: list[str] = job.get("chosen") or []
        self.never: list[str] = job.get("never") or []
        self.out = Path(job["out"])
        self.failed: list[str] = []
        self.seconds: dict[str, float] = {}
        self.cover: Any = None
        if job.get("map"):
            import coverage

            self.cover = coverage.Coverage(
                data_file=None, include=[f"{Path.cwd()}/{folder}/*" for folder in _FOLDERS], messages=False
            )
            self.cover.start()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self.chosen:
            order = {name: at for at, name in enumerate(self.chosen)}
            places = [
                (order.get(item.nodeid, order.get(item.nodeid.partition("::")[0])), item)
                for item in items if item.nodeid not in self.never
            ]  # fmt: skip
            kept = [(place, item) for place, item in places if place is not None]
            chosen = [item for _, item in sorted(kept, key=lambda found: found[0])]
            config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
            items[:] = chosen

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        start = time.monotonic()
        if self.cover:
            self.cover.switch_context(item.nodeid)
        yield
        if self.cover:
            self.cover.switch_context("")
        self.seconds[item.nodeid] = round(time.monotonic() - start, 3)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)
            self._write({})

    def _write(self, more: dict[str, Any]) -> None:
        self.out.write_text(json.dumps({"failed": self.failed, "seconds": self.seconds, **more}))

    def _lines(self) -> dict[str, dict[str, list[int]]]:
        numbers = {name: at for at, name in enumerate(self.seconds)}
        data, found = self.cover.get_data(), {}
        for file in data.measured_files():
            lines = {
                str(line): [numbers[name] for name in contexts if name in numbers]
                for line, contexts in data.contexts_by_lineno(file).items()
            }
            found[os.path.relpath(file)] = {line: tests for line, tests in lines.items() if tests}
        return found

    def pytest_sessionfinish(self) -> None:
        more = {}
        if self.cover:
            self.cover.stop()
            more["lines"] = self._lines()
        self._write(more)


def pytest_configure(config: pytest.Config) -> None:
    if "MUTATION_JOB" in os.environ:
        config.pluginmanager.register(Plugin(json.loads(Path(os.environ["MUTATION_JOB"]).read_text())))
