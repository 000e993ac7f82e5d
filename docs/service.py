"""A service of rankings: python service.py model.safetensors items.safetensors 2."""

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
        model, ids = self.server.model, self.server.ids
        columns = self.known(seen)
        row = np.zeros_like(columns)
        ones = np.ones(columns.size, dtype=np.float32)  # as the weights: much faster
        X = csr_array((ones, (row, columns)), shape=(1, ids.size))
        (ranking,) = model.predict_ranking(X, k=k, exclude=self.known(exclude))
        return {"items": ids[ranking[ranking >= 0]].tolist()}

    def known(self, ids):
        """Return the columns of those ids that the model knows, each once."""
        found = {self.server.columns[id_] for id_ in ids if id_ in self.server.columns}
        return np.array(sorted(found), dtype=np.int64)

    def log_request(self, code="-", size="-"):
        """Print nothing."""


def serve(model, items, port=8000):
    """Return a server of a model, and of the encoder of its items."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Ranking)
    server.model, server.ids = model, items.item_ids_
    # The encoder looks up whole tables; a dict is faster for a few ids.
    server.columns = {id_: column for column, id_ in enumerate(items.item_ids_.tolist())}
    return server


if __name__ == "__main__":
    model, items, n_processes = sys.argv[1:]
    server = serve(load(model), load(items))
    for _ in range(int(n_processes) - 1):
        if os.fork() == 0:  # the processes share the memory of the model
            break
    server.serve_forever()
