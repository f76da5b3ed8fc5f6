"""Puts answers (JSON lines on standard input) before httplint; prints its objections. Run in its own environment."""

from __future__ import annotations

import base64
import json
import sys
import time

from httplint import HttpResponseLinter
from httplint.note import levels

for line in sys.stdin:
    told = json.loads(line)
    answer = HttpResponseLinter(start_time=time.time(), no_content=told["method"] == "HEAD")
    answer.process_response_topline(b"1.1", str(told["status"]).encode(), told["reason"].encode())
    answer.process_headers([(name.encode(), value.encode()) for name, value in told["headers"]])
    answer.feed_content(base64.b64decode(told["body"]))
    answer.finish_content(True)
    for note in answer.notes:
        if note.level in (levels.WARN, levels.BAD):
            what = f"{told['method']} {told['path']} {told['status']}"
            print(json.dumps({"what": what, "note": type(note).__name__, "says": str(note.summary)}))
