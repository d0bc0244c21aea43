"""The Hugging Face Hub on 127.0.0.1, as far as data sets are looked up and their files fetched."""

import contextlib
import hashlib
import http.server
import json
import re
import threading

MAIN, CONVERTED = "a" * 40, "b" * 40  # revisions


class _Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        path = self.path.partition("?")[0].replace("%2F", "/")
        headers, content = self._found(path)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.server.fetched.append(path)
            cut = self.server.cut_off in path if self.server.cut_off else False
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def _found(self, path):
        """(headers, content) of what a path names."""
        name, revisions = self.server.name, self.server.revisions
        if match := re.fullmatch(rf"/api/datasets/{name}(?:/revision/(.+))?", path):
            sha = {None: MAIN, "refs/convert/parquet": CONVERTED}.get(match[1], match[1])
            if sha in revisions:
                siblings = [{"rfilename": file} for file in revisions[sha]]
                return {}, json.dumps({"id": name, "sha": sha, "siblings": siblings}).encode()
        if match := re.fullmatch(rf"/datasets/{name}/resolve/(\w+)/(.+)", path):
            content = revisions.get(match[1], {}).get(match[2])
            digest = hashlib.sha256(content or b"").hexdigest()
            return {"ETag": f'"{digest}"', "X-Repo-Commit": match[1]}, content
        return {}, None

    def log_message(self, *_):
        """Keeps the test's output clean."""


@contextlib.contextmanager
def serving(name, revisions, cut_off=""):
    """A context in which a server answers; yields it, with its `address` and the paths that were `fetched`.

    Args:
        name: OWNER/NAME of the data set.
        revisions: MAIN or CONVERTED -> {file: content}.
        cut_off: of files with this in their path, half is sent.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        server.name, server.revisions, server.cut_off, server.fetched = name, revisions, cut_off, []
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server
        finally:
            server.shutdown()
