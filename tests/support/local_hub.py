"""tfhub.dev on 127.0.0.1: GET /handle?tf-hub-format=compressed answers a tar.gz of the SavedModel."""

import contextlib
import http.server
import io
import os
import tarfile
import threading


class _Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path not in self.server.modules or query != "tf-hub-format=compressed":
            self.send_error(403)
            return
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            archive.add(self.server.modules[path], arcname=".")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content.getvalue())

    def log_message(self, *_):
        """Keeps the test's output clean."""


@contextlib.contextmanager
def serving(modules):
    """A context in which a server answers; yields its address.

    Args:
        modules: path of the handle, from "/" on -> directory of its SavedModel.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        server.modules = {path: str(directory) for path, directory in modules.items()}
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def fetch(cache, handle):
    """Fetches a SavedModel into a cache: for a process of its own."""
    from labeling.teachers import hub

    os.environ["TFHUB_CACHE_DIR"] = str(cache)
    hub.fetch(handle)
