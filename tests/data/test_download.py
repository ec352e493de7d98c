"""Downloads, from a real HTTP server on this machine: whole files appear, and nothing else does."""

import socket

import pytest

from fallline.data.download import cache_dir, fetch

CONTENT = b"content" * 50_000


@pytest.fixture(autouse=True)
def a_file(mirror):
    mirror.files["a.gz"] = CONTENT


def is_content(path):
    if path.read_bytes() != CONTENT:
        raise ValueError("it is not the content")


@pytest.mark.parametrize("hide_length", [False, True])
def test_a_file_arrives(tmp_path, mirror, hide_length, capfd):
    mirror.hide_length = hide_length
    fetch("a.gz", [mirror.url + "/"], tmp_path / "new" / "a.gz", is_content)
    is_content(tmp_path / "new" / "a.gz")
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "a.gz"]
    assert mirror.asked == ["/a.gz"]
    assert capfd.readouterr().err == f"downloading {mirror.url}/a.gz\n"


def test_silence(tmp_path, mirror, capfd):
    fetch("a.gz", [mirror.url], tmp_path / "a.gz", is_content, progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_bar_on_a_terminal(tmp_path, mirror, capfd, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    fetch("a.gz", [mirror.url], tmp_path / "a.gz", is_content)
    assert "downloading" not in capfd.readouterr().err
    is_content(tmp_path / "a.gz")


def break_content(mirror):
    mirror.files["a.gz"] = b"other"


def break_name(mirror):
    mirror.files.clear()


def break_body(mirror):
    mirror.cut_at = 1000


def break_size(mirror):
    mirror.files["a.gz"] = bytes(3 << 20)


def break_size_without_length(mirror):
    break_size(mirror)
    mirror.hide_length = True


BREAKS = {
    break_content: "it is not the content",
    break_name: "HTTP status 404",
    break_body: "1000 bytes read",
    break_size: "more than the 1,048,576 bytes",
    break_size_without_length: "more than the 1,048,576 bytes",
}


@pytest.mark.parametrize("breaks", BREAKS)
def test_a_failure_leaves_nothing_behind(tmp_path, mirror, breaks):
    breaks(mirror)
    with pytest.raises(ConnectionError, match=BREAKS[breaks]) as error:
        fetch("a.gz", [mirror.url], tmp_path / "a.gz", is_content, max_bytes=1 << 20)
    assert f"{mirror.url}/a.gz: " in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("breaks", BREAKS)
def test_the_next_mirror_helps(tmp_path, mirror, second, breaks):
    breaks(mirror)
    second.files["a.gz"] = CONTENT
    urls = [mirror.url, second.url]
    fetch("a.gz", urls, tmp_path / "a.gz", is_content, max_bytes=1 << 20)
    assert second.asked == ["/a.gz"]
    is_content(tmp_path / "a.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.gz"]


def test_a_server_that_is_down(tmp_path, mirror):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{free.getsockname()[1]}"
    fetch("a.gz", [down, mirror.url], tmp_path / "a.gz", is_content)
    is_content(tmp_path / "a.gz")
    with pytest.raises(ConnectionError, match=f"{down}/a.gz: .*refused"):
        fetch("a.gz", [down], tmp_path / "b.gz", is_content)
    assert [path.name for path in tmp_path.iterdir()] == ["a.gz"]


def test_an_interrupt_leaves_nothing_behind(tmp_path, mirror):
    def interrupt(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("a.gz", [mirror.url], tmp_path / "a.gz", interrupt)
    assert not list(tmp_path.iterdir())


def test_an_older_file_survives_a_failure(tmp_path, mirror):
    (tmp_path / "a.gz").write_bytes(b"older")
    break_content(mirror)
    with pytest.raises(ConnectionError):
        fetch("a.gz", [mirror.url], tmp_path / "a.gz", is_content)
    assert (tmp_path / "a.gz").read_bytes() == b"older"


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("FALLLINE_CACHE_DIR", str(tmp_path))
    assert cache_dir() == tmp_path / "data"
    monkeypatch.delenv("FALLLINE_CACHE_DIR")
    usual = cache_dir()
    assert usual.parts[-2:] == ("fallline", "data")
    monkeypatch.setenv("FALLLINE_CACHE_DIR", "off")  # keeps no kernels
    assert cache_dir() == usual
