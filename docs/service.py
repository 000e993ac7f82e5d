"""A service of rankings: python service.py model.safetensors items.safetensors [n_processes]."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from scipy.sparse import csr_array

from sklrec.persistence import load


class Ranking(BaseHTTPRequestHandler):
    """Answers {"seen": [ids], "k": 10, "exclude": [ids]} with {"items": [ids]}."""

    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True  # the body does not wait for the headers to arrive

    def do_POST(self):
        """Answer a request."""
        try:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = 200, self.rank(**asked)
        except (TypeError, ValueError) as error:
            status, answer = 400, {"error": str(error)}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def rank(self, seen, k=10, exclude=()):
        """Rank the items for a user who has seen some, without others."""
        model, items = self.server.model, self.server.items
        columns = known(items, seen)
        row = np.zeros_like(columns)
        X = csr_array((np.ones(columns.size), (row, columns)), shape=(1, items.item_ids_.size))
        (ranking,) = model.predict_ranking(X, k=k, exclude=known(items, exclude))
        return {"items": items.decode_ranking(ranking[ranking >= 0]).tolist()}

    def log_request(self, code="-", size="-"):
        """Print nothing."""


def known(items, ids):
    """Return the columns of those ids that the encoder knows, each once."""
    columns = np.unique(items.item_indices(ids)) if ids else np.zeros(0, dtype=np.int64)
    return columns[columns >= 0]


def serve(model, items, port=8000):
    """Return a server of a model whose items have ids."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Ranking)
    server.model, server.items = model, items
    return server


if __name__ == "__main__":
    server = serve(*map(load, sys.argv[1:3]))
    for _ in range(int(sys.argv[3]) - 1 if len(sys.argv) > 3 else 0):
        if os.fork() == 0:  # the processes share the memory of the model
            break
    server.serve_forever()
