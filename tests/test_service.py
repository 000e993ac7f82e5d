"""The service of the documentation answers."""

import csv
import http.client
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import service

from sklrec.linear import EASE
from sklrec.preprocessing import InteractionEncoder


@pytest.fixture
def ask():
    """Return what sends a text to a service of 4 items and returns status and answer."""
    table = (["ann", "ann", "bob", "bob", "cat", "cat"], list("abacbd"))
    encoder = InteractionEncoder(unknown_items="ignore").fit(table)
    server = service.serve(EASE(lambda_=1.0).fit(encoder.transform(table)), encoder, port=0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)

    def post(text):
        connection.request("POST", "/", text)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    yield post
    connection.close()
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_service_ranks_excludes_and_refuses(ask):
    status, answer = ask('{"seen": ["a"], "k": 2}')
    assert status == 200
    assert set(answer["items"]) == {"b", "c"}
    assert ask('{"seen": ["a", "new", "a"], "k": 2}') == (status, answer)
    assert ask('{"seen": ["a"], "exclude": ["c", "old"]}') == (200, {"items": ["b", "d"]})
    assert ask('{"seen": ["a", "b", "c", "d"]}') == (200, {"items": []})
    assert ask('{"seen": []}')[1]["items"][:2] == ["a", "b"]
    for wrong in ('{"seen": ["a"], "k": 0}', '{"k": 1}', "[]", "no json", '{"other": 1}', ""):
        status, answer = ask(wrong)
        assert status == 400
        assert answer["error"]


def test_milliseconds_of_the_page_are_those_measured():
    root = Path(__file__).parents[1]
    page = (root / "docs" / "user_guide" / "production.rst").read_text()
    shown = []
    for line in page.splitlines():
        if line.startswith(("EASE  ", "ELSA(256) ", "Mult-VAE  ")):
            shown.append([float(number) for number in line.split()[-3:]])
    with (root / "benchmarks" / "results" / "service_speed.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["processes"] == "1"]
    measured = [[float(row[name]) for name in ("p50_ms", "p99_ms", "cpu_ms")] for row in rows]
    np.testing.assert_allclose(shown, measured, atol=0.0501)
