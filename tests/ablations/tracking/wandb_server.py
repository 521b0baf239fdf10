"""As much of W&B's server as ``wandb sync`` needs: it takes everything, and notes which runs it was sent."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_STREAM = re.compile(r"/files/[^/]+/[^/]+/([^/]+)/file_stream")


@dataclass
class Received:
    """``runs``: what creates or changes a run; ``history``: run id -> rows; ``files``, ``artefacts``: their names."""

    url: str = ""
    runs: list[dict[str, Any]] = field(default_factory=list)
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    summary: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    artefacts: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Ids of the runs, each once."""
        return list(dict.fromkeys(run["name"] for run in self.runs if run["name"]))


def _answer(received: Received, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    if "upsertBucket" in query:
        received.runs.append(variables)
        project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": variables["name"], "displayName": "", "config": "{}", "project": project}
        answer["upsertBucket"] = {"bucket": bucket, "inserted": True}
    if "createRunFiles" in query:
        received.files += variables["files"]
        urls = [{"name": name, "uploadUrl": f"{received.url}/storage/{name}"} for name in variables["files"]]
        answer["createRunFiles"] = {"runID": "b", "uploadHeaders": [], "files": urls}
    if "createArtifact(input" in query:
        received.artefacts.append(variables["input"]["artifactCollectionName"])
        # An artefact that the server has already needs no upload.
        sequence = {"id": "s", "latestArtifact": None}
        answer["createArtifact"] = {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}}
    return answer


@contextmanager
def server() -> Iterator[Received]:
    """A server on this machine, as long as the context lasts."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer: dict[str, Any] = {}
            if self.path == "/graphql":
                request = json.loads(body)
                answer = {"data": _answer(received, request["query"], request.get("variables") or {})}
            elif stream := _STREAM.fullmatch(self.path):
                files = json.loads(body).get("files") or {}
                if "wandb-history.jsonl" in files:
                    rows = [json.loads(line) for line in files["wandb-history.jsonl"]["content"]]
                    received.history.setdefault(stream[1], []).extend(rows)
                if "wandb-summary.json" in files:
                    received.summary[stream[1]] = json.loads(files["wandb-summary.json"]["content"][-1])
            self._reply(json.dumps(answer).encode())

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._reply(b"")

        def _reply(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
