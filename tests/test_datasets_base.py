"""Downloading, checking and caching, which all fetchers share."""

import hashlib
import io
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.error import URLError

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklrec.datasets import _base
from sklrec.datasets._base import RemoteFile, fetch_arrays

CONTENT = b"1 2 3\n"
URL = "https://example.org/numbers.txt"


def sha256(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


REMOTE = RemoteFile("numbers.txt", URL, sha256(CONTENT))


class Response(io.BytesIO):
    """What urlopen returns."""

    def __init__(self, content, headers=None):
        super().__init__(content)
        self.headers = headers or {}


class Server:
    """Stands in for urlopen: each call takes the next answer, the last one for good."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.urls = []

    def __call__(self, url, timeout):
        self.urls.append(url)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return Response(answer) if isinstance(answer, bytes) else answer


class Parser:
    """Reads numbers and counts how often it had to."""

    def __init__(self):
        self.calls = 0

    def __call__(self, path):
        self.calls += 1
        return {"numbers": np.array(path.read_text().split(), dtype=int)}


@pytest.fixture
def serve(monkeypatch):
    def serve(*answers):
        server = Server(*answers)
        monkeypatch.setattr(_base, "urlopen", server)
        return server

    return serve


def fetch(home, remote=REMOTE, parse=None, download_if_missing=True, n_retries=0):
    return fetch_arrays(
        "numbers",
        [remote],
        parse or Parser(),
        data_home=home,
        download_if_missing=download_if_missing,
        n_retries=n_retries,
        delay=0,
    )["numbers"].tolist()


def files_below(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_missing_file_is_downloaded_from_its_url(tmp_path, serve):
    server = serve(CONTENT)
    assert fetch(tmp_path) == [1, 2, 3]
    assert server.urls == [URL]
    assert (tmp_path / "sklrec" / "numbers.txt").read_bytes() == CONTENT


def test_a_download_is_used_by_the_next_call(tmp_path, serve):
    server = serve(CONTENT)
    fetch(tmp_path)
    fetch(tmp_path)
    assert len(server.urls) == 1


def test_a_download_leaves_nothing_but_the_file_and_the_cache(tmp_path, serve):
    serve(CONTENT)
    fetch(tmp_path)
    assert files_below(tmp_path) == ["numbers.npz", "numbers.txt"]


def test_a_download_can_be_read_by_those_the_umask_allows(tmp_path, serve):
    serve(CONTENT)
    fetch(tmp_path)
    (tmp_path / "plain").touch()
    mode = (tmp_path / "sklrec" / "numbers.txt").stat().st_mode
    assert mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("folder", [".", "sklrec"])
def test_a_file_that_lies_in_data_home_is_used_without_network(tmp_path, serve, folder):
    serve(AssertionError("no download wanted"))
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "numbers.txt").write_bytes(CONTENT)
    assert fetch(tmp_path, download_if_missing=False) == [1, 2, 3]


def test_data_home_defaults_to_the_folder_of_scikit_learn(tmp_path, serve, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    serve(CONTENT)
    fetch(None)
    assert (tmp_path / "sklrec" / "numbers.txt").exists()


def test_a_missing_file_is_an_error_if_no_download_is_wanted(tmp_path, serve):
    server = serve(CONTENT)
    with pytest.raises(OSError, match=r"numbers\.txt is neither in .*download_if_missing=False"):
        fetch(tmp_path, download_if_missing=False)
    assert server.urls == []


@pytest.fixture
def http_server(tmp_path):
    """Serve the folder ``tmp_path / "www"`` and return its address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Stay silent."""

    (tmp_path / "www").mkdir()
    handler = partial(Handler, directory=tmp_path / "www")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_comes_over_http(tmp_path, http_server, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    content = b"7 " * 2_000_000  # more than one block
    (tmp_path / "www" / "numbers.txt").write_bytes(content)
    remote = RemoteFile("numbers.txt", f"{http_server}/numbers.txt", sha256(content))
    assert fetch(tmp_path / "home", remote) == [7] * 2_000_000


def test_a_file_that_http_does_not_find_is_an_error(tmp_path, http_server, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    remote = RemoteFile("numbers.txt", f"{http_server}/numbers.txt", sha256(CONTENT))
    with pytest.raises(OSError, match=r"could not be downloaded .*404"):
        fetch(tmp_path / "home", remote)
    assert files_below(tmp_path / "home") == []


def test_a_failed_download_is_tried_again(tmp_path, serve):
    server = serve(URLError("busy"), TimeoutError(), CONTENT)
    with pytest.warns(UserWarning, match="Retry downloading from url") as warned:
        assert fetch(tmp_path, n_retries=2) == [1, 2, 3]
    assert len(warned) == 2
    assert len(server.urls) == 3


def test_without_network_the_error_says_what_to_get_and_where_to_put_it(tmp_path, serve):
    serve(URLError("no route to host"))
    with pytest.raises(OSError, match="no route to host") as raised:
        fetch(tmp_path)
    assert URL in str(raised.value)
    assert str(tmp_path / "numbers.txt") in str(raised.value)


@pytest.mark.parametrize("content", [b"1 2", b"<html>log in first</html>", b""])
def test_a_download_with_a_wrong_checksum_is_an_error_and_leaves_no_file(tmp_path, serve, content):
    serve(content)
    with pytest.raises(OSError, match=f"download from {URL} has checksum sha256:"):
        fetch(tmp_path)
    assert files_below(tmp_path) == []


def test_a_download_that_ends_early_is_tried_again(tmp_path, serve):
    early = Response(b"1 2", {"Content-Length": "6"})
    serve(early, Response(CONTENT, {"Content-Length": "6"}))
    with pytest.warns(UserWarning, match="Retry"):
        assert fetch(tmp_path, n_retries=1) == [1, 2, 3]


def test_a_download_that_always_ends_early_leaves_no_file(tmp_path, serve):
    serve(Response(b"1 2", {"Content-Length": "6"}))
    with pytest.raises(OSError, match="ended after 3 of 6 bytes"):
        fetch(tmp_path)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ConnectionResetError, MemoryError])
def test_an_interrupted_download_leaves_no_file(tmp_path, serve, interruption):
    class Interrupted(Response):
        def read(self, size=-1):
            part = super().read(2)
            if not part.startswith(b"1"):
                assert files_below(tmp_path) != []  # the partial file is there until now
                raise interruption
            return part

    serve(Interrupted(CONTENT))
    expected = OSError if issubclass(interruption, OSError) else interruption
    with pytest.raises(expected):
        fetch(tmp_path)
    assert files_below(tmp_path) == []


def test_an_interrupted_download_keeps_nothing_from_the_next_one(tmp_path, serve):
    serve(KeyboardInterrupt(), CONTENT)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path)
    assert fetch(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("content", [CONTENT[:3], b"3 2 1\n"], ids=["truncated", "other"])
def test_a_damaged_file_in_data_home_is_an_error_that_names_it_and_keeps_it(
    tmp_path, serve, content
):
    serve(CONTENT)
    path = tmp_path / "numbers.txt"
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"has checksum .* was expected.*Delete it") as raised:
        fetch(tmp_path)
    assert str(path) in str(raised.value)
    assert path.read_bytes() == content


def test_a_read_only_data_home_gives_the_data_without_a_cache(tmp_path):
    (tmp_path / "numbers.txt").write_bytes(CONTENT)
    tmp_path.chmod(0o555)
    parse = Parser()
    try:
        assert fetch(tmp_path, parse=parse) == fetch(tmp_path, parse=parse) == [1, 2, 3]
        assert files_below(tmp_path) == ["numbers.txt"]
    finally:
        tmp_path.chmod(0o755)
    assert parse.calls == 2


def test_a_download_into_a_read_only_data_home_is_an_error_that_names_the_folder(tmp_path, serve):
    server = serve(CONTENT)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OSError, match=r"Cannot write into .*read-only") as raised:
            fetch(tmp_path)
    finally:
        tmp_path.chmod(0o755)
    assert str(tmp_path) in str(raised.value)
    assert server.urls == []


def test_a_full_disk_gives_the_data_without_a_partial_cache(tmp_path, monkeypatch):
    def savez(file, **arrays):
        file.write(b"the first bytes")
        raise OSError(28, "No space left on device")

    (tmp_path / "numbers.txt").write_bytes(CONTENT)
    monkeypatch.setattr(_base.np, "savez", savez)
    assert fetch(tmp_path) == [1, 2, 3]
    assert files_below(tmp_path) == ["numbers.txt"]


def test_a_data_home_that_is_a_file_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(OSError, match="is not a folder") as raised:
        fetch(path)
    assert str(path) in str(raised.value)


def test_the_parsed_result_is_cached(tmp_path, serve):
    serve(CONTENT)
    parse = Parser()
    assert fetch(tmp_path, parse=parse) == fetch(tmp_path, parse=parse) == [1, 2, 3]
    assert parse.calls == 1


def test_the_cache_serves_when_the_file_it_was_made_of_is_gone(tmp_path, serve):
    server = serve(CONTENT)
    fetch(tmp_path)
    (tmp_path / "sklrec" / "numbers.txt").unlink()
    assert fetch(tmp_path, download_if_missing=False) == [1, 2, 3]
    assert len(server.urls) == 1


def test_the_cache_of_another_file_is_parsed_anew(tmp_path):
    (tmp_path / "numbers.txt").write_bytes(CONTENT)
    fetch(tmp_path)
    (tmp_path / "numbers.txt").write_bytes(b"4 5")
    assert fetch(tmp_path, RemoteFile("numbers.txt", URL, sha256(b"4 5"))) == [4, 5]


def test_the_cache_of_another_format_is_parsed_anew(tmp_path, monkeypatch):
    (tmp_path / "numbers.txt").write_bytes(CONTENT)
    fetch(tmp_path)
    monkeypatch.setattr(_base, "_CACHE_FORMAT", _base._CACHE_FORMAT + 1)
    parse = Parser()
    fetch(tmp_path, parse=parse)
    assert parse.calls == 1


def array_file():
    file = io.BytesIO()
    np.save(file, np.arange(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache: b"",
        lambda cache: cache[: len(cache) // 2],
        lambda cache: cache.replace(np.int64(2).tobytes(), np.int64(9).tobytes()),
        lambda cache: b"no archive at all",
        lambda cache: array_file(),
    ],
    ids=["empty", "truncated", "changed", "text", "one array"],
)
def test_a_damaged_cache_is_parsed_anew(tmp_path, damage):
    (tmp_path / "numbers.txt").write_bytes(CONTENT)
    fetch(tmp_path)
    cache = tmp_path / "sklrec" / "numbers.npz"
    damaged = damage(cache.read_bytes())
    assert damaged != cache.read_bytes()
    cache.write_bytes(damaged)
    parse = Parser()
    assert fetch(tmp_path, parse=parse) == [1, 2, 3]
    assert parse.calls == 1


def test_a_file_with_the_right_checksum_that_cannot_be_parsed_is_an_error(tmp_path):
    (tmp_path / "numbers.txt").write_bytes(b"one")
    with pytest.raises(OSError, match=r"numbers\.txt cannot be read .*one"):
        fetch(tmp_path, RemoteFile("numbers.txt", URL, sha256(b"one")))


def test_git_ids_are_those_git_gives(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    # From `git hash-object`.
    assert _base._checksum(path, "git-blob") == "git-blob:b85905ec0b994f1e5797d58ffefed89ff54d6b51"


def zip_of(text):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("numbers.txt", text)
    return file.getvalue()


def parse_zip(path):
    with zipfile.ZipFile(path) as archive:
        return {"numbers": np.array(archive.read("numbers.txt").split(), dtype=int)}


CHANGING = RemoteFile("numbers.zip", URL, sha256(b"the archive of long ago"), may_change=True)


def test_an_archive_that_may_change_and_did_gives_a_warning_and_the_data(tmp_path):
    (tmp_path / "numbers.zip").write_bytes(zip_of("4 5"))
    with pytest.warns(UserWarning, match="publisher may have changed"):
        assert fetch(tmp_path, CHANGING, parse_zip) == [4, 5]


def test_a_changed_archive_is_cached_as_itself(tmp_path):
    for numbers in ([4, 5], [6], [6]):
        (tmp_path / "numbers.zip").write_bytes(zip_of(" ".join(map(str, numbers))))
        with pytest.warns(UserWarning, match="publisher may have changed"):
            assert fetch(tmp_path, CHANGING, parse_zip) == numbers


def test_a_downloaded_archive_that_may_change_gives_a_warning_and_the_data(tmp_path, serve):
    serve(zip_of("4 5"))
    with pytest.warns(UserWarning, match="publisher may have changed"):
        assert fetch(tmp_path, CHANGING, parse_zip) == [4, 5]


def test_an_archive_that_may_change_but_is_truncated_is_an_error(tmp_path):
    (tmp_path / "numbers.zip").write_bytes(zip_of("4 5")[:-30])
    with pytest.raises(OSError, match="damaged or not a zip archive: delete it"):
        fetch(tmp_path, CHANGING, parse_zip)


def test_a_download_that_is_no_archive_leaves_no_file(tmp_path, serve):
    serve(b"<html>log in first</html>")
    with pytest.raises(OSError, match="damaged or not a zip archive"):
        fetch(tmp_path, CHANGING, parse_zip)
    assert files_below(tmp_path) == []


def test_arrays_come_back_from_the_cache_as_they_were(tmp_path):
    arrays = {
        "text": np.array(["Amélie (2001)", "x"]),
        "numbers": np.array([1.5, -2.0], dtype=np.float32),
        "large": np.array([2**53 + 1]),
    }
    _base._write_cache(tmp_path / "cache.npz", ["a", "b"], arrays)
    cached = _base._read_cache(tmp_path / "cache.npz", ["a", "b"])
    assert cached.keys() == arrays.keys()
    for name in arrays:
        assert cached[name].dtype == arrays[name].dtype
        assert_array_equal(cached[name], arrays[name])
