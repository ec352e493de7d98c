"""Where MNIST and Fashion-MNIST are looked for, and what is believed of what is found there."""

import dataclasses
import gzip
import os

import numpy as np
import pytest

from fallline.data import fashion_mnist, mnist, read_idx, standard, write_idx
from fallline.data.idx import idx_sha256
from fallline.data.standard import FILES


def small(seed):
    """Four small arrays in the form of MNIST: 20 training and 6 test examples of 3 x 2 pixels."""
    rng = np.random.default_rng(seed)
    shapes = ((20, 3, 2), (20,), (6, 3, 2), (6,))
    tops = (256, 10, 256, 10)
    return {
        file: rng.integers(0, top, shape, dtype=np.uint8)
        for file, shape, top in zip(FILES, shapes, tops, strict=True)
    }


DIGITS, CLOTHES = small(1), small(2)
REAL = os.environ.get("FALLLINE_DATA")
ORIGINALS = {"MNIST": standard.MNIST, "FASHION_MNIST": standard.FASHION_MNIST}


@pytest.fixture(autouse=True)
def published(monkeypatch, tmp_path):
    """The small arrays are the published ones; the cache is empty, and no mirror is known."""
    for name, arrays in (("MNIST", DIGITS), ("FASHION_MNIST", CLOTHES)):
        known = getattr(standard, name)
        sums = {file: idx_sha256(array) for file, array in arrays.items()}
        monkeypatch.setattr(standard, name, dataclasses.replace(known, sha256=sums, mirrors=()))
    monkeypatch.setenv("FALLLINE_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("FALLLINE_DATA", "FALLLINE_MIRROR"):
        monkeypatch.delenv(name, raising=False)


def write(folder, arrays, suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in arrays.items():
        write_idx(folder / (file + suffix), array)
    return folder


def serve(mirror, arrays, folder, tmp_path):
    for path in write(tmp_path / "served" / folder, arrays).iterdir():
        mirror.files[f"{folder}/{path.name}"] = path.read_bytes()


def is_digits(data):
    assert np.array_equal(data.test.y, DIGITS[FILES[3]])
    return True


@pytest.mark.parametrize("inner", ["", "mnist"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder(tmp_path, inner, suffix):
    write(tmp_path / inner, DIGITS, suffix)
    data = mnist(folder=tmp_path, validation=5)
    images = DIGITS[FILES[0]]
    assert data.train.X.dtype == np.float32 and data.train.y.dtype == np.int64
    assert np.array_equal(data.train.X, (images[:15] / 255).astype(np.float32).reshape(15, 6))
    assert np.array_equal(data.validation.X, (images[15:] / 255).astype(np.float32).reshape(5, 6))
    assert np.array_equal(data.test.y, DIGITS[FILES[3]])
    assert data.n_classes == 10 and data.feature_shape == (6,)


def test_forms(tmp_path):
    write(tmp_path, DIGITS)
    raw = mnist(folder=tmp_path, validation=0, dtype="uint8", flat=False)
    assert raw.validation is None and raw.feature_shape == raw.image_shape == (1, 3, 2)
    assert mnist(folder=tmp_path, validation=0).as_images().feature_shape == (1, 3, 2)
    assert np.array_equal(raw.train.X[:, 0], DIGITS[FILES[0]])
    double = mnist(folder=str(tmp_path), validation=0, dtype="float64")
    assert np.array_equal(double.train.X, DIGITS[FILES[0]].reshape(20, 6) / 255.0)
    with pytest.raises(ValueError, match=r"mnist: validation must be in \[0, 20\); got 20"):
        mnist(folder=tmp_path, validation=20)
    with pytest.raises(TypeError, match="mnist: validation must be a number of examples; got 0.1"):
        mnist(folder=tmp_path, validation=0.1)
    with pytest.raises(ValueError, match="dtype must be 'float32', 'float64' or 'uint8'; got 'int"):
        mnist(folder=tmp_path, dtype="int8")


def test_other_names_of_the_files(tmp_path):
    write(tmp_path, {file.replace("-idx", ".idx"): array for file, array in DIGITS.items()}, "")
    assert is_digits(mnist(folder=tmp_path, validation=0))


def test_an_incomplete_folder_is_named(tmp_path):
    write(tmp_path, DIGITS)
    (tmp_path / f"{FILES[1]}.gz").unlink()
    with pytest.raises(FileNotFoundError, match=f"mnist: folder: .*missing: {FILES[1]}\\."):
        mnist(folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="must hold the four files of MNIST"):
        mnist(folder=tmp_path / "nowhere")


@pytest.mark.parametrize("inner", ["", "mnist"])
def test_the_environment_names_a_folder(tmp_path, monkeypatch, inner):
    write(tmp_path / inner, DIGITS)
    monkeypatch.setenv("FALLLINE_DATA", str(tmp_path))
    assert is_digits(mnist(validation=0, download=False))
    # The other data set is not there: its files are looked for elsewhere, not taken from here.
    with pytest.raises(ConnectionError, match="fashion-mnist: no folder was named"):
        fashion_mnist(download=False)


def test_the_environment_names_a_folder_of_unpublished_files(tmp_path, monkeypatch):
    write(tmp_path, {file: 9 - array % 10 for file, array in DIGITS.items()})
    monkeypatch.setenv("FALLLINE_DATA", str(tmp_path))
    with pytest.warns(UserWarning, match="not the published MNIST"):
        assert np.array_equal(mnist(validation=0).test.y, 9 - DIGITS[FILES[3]])


def test_the_argument_comes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLLINE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="FALLLINE_DATA must name a folder"):
        mnist()
    assert is_digits(mnist(folder=write(tmp_path / "here", DIGITS), validation=0))


def test_unknown_content_in_a_folder_warns(tmp_path):
    write(tmp_path, DIGITS | {FILES[2]: np.zeros((6, 3, 2), np.uint8)})
    with pytest.warns(UserWarning, match=f"mnist: {FILES[2]}.gz in .* not the published MNIST"):
        data = mnist(folder=tmp_path, validation=0)
    assert not data.test.X.any()


def test_the_files_of_another_data_set_are_refused(tmp_path):
    write(tmp_path, CLOTHES)
    with pytest.raises(ValueError, match=f"must be {FILES[0]} of MNIST; it is .* of Fashion-MNIST"):
        mnist(folder=tmp_path, validation=0)


def test_files_under_each_others_names_are_refused(tmp_path):
    train, test = DIGITS[FILES[0]], DIGITS[FILES[2]]
    write(tmp_path, DIGITS | {FILES[0]: test, FILES[2]: train})
    with pytest.raises(ValueError, match="6 images and 20 labels"):
        mnist(folder=tmp_path)
    write(tmp_path, DIGITS | {FILES[0]: DIGITS[FILES[1]], FILES[1]: train})
    with pytest.raises(ValueError, match="are two files swapped"):
        mnist(folder=tmp_path)
    write(tmp_path, {FILES[i]: DIGITS[FILES[(i + 2) % 4]] for i in range(4)})
    with pytest.raises(ValueError, match=f"must be {FILES[0]} of MNIST; it is {FILES[2]} of MNIST"):
        mnist(folder=tmp_path)


def test_download_then_cache(tmp_path, mirror, monkeypatch, capfd):
    serve(mirror, DIGITS, "mnist", tmp_path)
    monkeypatch.setenv("FALLLINE_MIRROR", mirror.url)
    assert is_digits(mnist(validation=0, progress=False))
    assert mirror.asked == [f"/mnist/{file}.gz" for file in FILES]
    assert is_digits(mnist(validation=0, download=False))
    assert len(mirror.asked) == 4 and capfd.readouterr().err == ""
    names = sorted(path.name for path in (tmp_path / "cache" / "data" / "mnist").iterdir())
    assert names == sorted(f"{file}.gz" for file in FILES)


def test_a_mirror_by_argument(tmp_path, mirror, second):
    serve(second, DIGITS, "mnist", tmp_path)
    data = mnist(validation=0, mirror=[mirror.url, f"{second.url}/mnist"], progress=False)
    assert is_digits(data) and len(mirror.asked) == len(second.asked) == 4
    with pytest.raises(ConnectionError, match="HTTP status 404"):
        fashion_mnist(mirror=mirror.url, progress=False)


def test_a_mirror_with_other_content_is_refused(tmp_path, mirror):
    serve(mirror, CLOTHES, "mnist", tmp_path)
    with pytest.raises(ConnectionError, match="sha256 of the decompressed content") as error:
        mnist(mirror=f"{mirror.url}/mnist", progress=False)
    assert "set FALLLINE_DATA" in str(error.value)
    assert not list((tmp_path / "cache").rglob("*ubyte*"))


def test_recompressed_files_are_the_same_files(tmp_path, mirror):
    serve(mirror, DIGITS, "mnist", tmp_path)
    for name, content in mirror.files.items():
        mirror.files[name] = gzip.compress(gzip.decompress(content), compresslevel=1)
    assert is_digits(mnist(validation=0, mirror=f"{mirror.url}/mnist", progress=False))


def test_a_bomb_from_a_mirror_is_refused(tmp_path, mirror):
    serve(mirror, DIGITS, "mnist", tmp_path)
    header = bytes([0, 0, 8, 3, 0, 0, 16, 0, 0, 0, 0, 128, 0, 0, 2, 0])  # 4096 x 128 x 512
    name = f"mnist/{FILES[0]}.gz"
    mirror.files[name] = gzip.compress(header + bytes(4096 * 128 * 512))
    with pytest.raises(ConnectionError, match="the limit is"):
        mnist(mirror=f"{mirror.url}/mnist", progress=False)


def test_a_damaged_cache_is_mended(tmp_path, mirror):
    serve(mirror, DIGITS, "mnist", tmp_path)
    url = f"{mirror.url}/mnist"
    mnist(validation=0, mirror=url, progress=False)
    path = tmp_path / "cache" / "data" / "mnist" / f"{FILES[0]}.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="cached file is not used: .*ends too early"):
        assert is_digits(mnist(validation=0, mirror=url, progress=False))
    assert len(mirror.asked) == 5
    write_idx(path, CLOTHES[FILES[0]])
    with (
        pytest.warns(UserWarning, match="cached file is not used: .*sha256"),
        pytest.raises(ConnectionError, match="no mirror may be asked"),
    ):
        mnist(validation=0, download=False)


def test_without_a_download_nothing_is_made(tmp_path):
    with pytest.raises(ConnectionError, match="is missing, and no mirror may be asked"):
        mnist(download=False)
    assert not (tmp_path / "cache").exists()


@pytest.mark.data
@pytest.mark.parametrize(
    ("load", "name", "title"),
    [(mnist, "mnist", "MNIST"), (fashion_mnist, "fashion-mnist", "FASHION_MNIST")],
)
def test_the_real_files(request, monkeypatch, load, name, title):
    folder = REAL and os.path.join(REAL, name)
    if not folder or not os.path.isdir(folder):
        pytest.skip(f"the files of {name} are not here: FALLLINE_DATA names no folder with them")
    monkeypatch.setattr(standard, title, ORIGINALS[title])
    data = load(folder=folder)
    assert [len(part.y) for part in (data.train, data.validation, data.test)] == [
        50_000,
        10_000,
        10_000,
    ]
    assert data.train.X.max() == 1.0 and data.train.X.min() == 0.0
    assert np.bincount(data.test.y).sum() == 10_000 and data.test.y.max() == 9
    images = read_idx(standard._named(standard.Path(folder), FILES[0]))
    assert np.array_equal(data.validation.X[-1] * 255, images[-1].ravel().astype(np.float32))
