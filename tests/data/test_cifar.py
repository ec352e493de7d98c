"""Where CIFAR-10 is looked for, and what is believed of what is found there."""

import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from fallline.data import cifar, cifar10

N = 12  # images in a file of these tests


def batches(seed):
    rng = np.random.default_rng(seed)
    return {
        name: (rng.integers(0, 256, (N, 3072), dtype=np.uint8), rng.integers(0, 10, N))
        for name in cifar.BATCHES
    }


def binary(data, labels):
    return b"".join(bytes([y]) + row.tobytes() for y, row in zip(labels, data))


def python(data, labels):
    found = {"batch_label": "a", "labels": labels.tolist(), "data": data, "filenames": ["x"] * N}
    return pickle.dumps(found, protocol=2)


FORMS = {"binary": (binary, ".bin", cifar.FOLDERS[0]), "python": (python, "", cifar.FOLDERS[1])}
REAL = batches(1)
ORIGINAL = cifar.CIFAR10
HERE = os.environ.get("FALLLINE_DATA")


def files(form, arrays=REAL):
    write, suffix, _ = FORMS[form]
    return {f"{name}{suffix}": write(*pair) for name, pair in arrays.items()}


def write_files(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def archive(form, contents=None, inner=None):
    """A tar.gz with the files in the folder that it has, and a few others."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        top = FORMS[form][2] if inner is None else inner
        for name, content in {"readme.html": b"<html>", **(contents or files(form))}.items():
            about = tarfile.TarInfo(f"{top}/{name}")
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVES = {form: archive(form) for form in FORMS}


@pytest.fixture(autouse=True)
def published(monkeypatch, tmp_path):
    """The small archives are the published ones; the cache is empty, and no mirror is known."""
    sums = [hashlib.sha256(content).hexdigest() for content in ARCHIVES.values()]
    known = dataclasses.replace(cifar.CIFAR10, sha256=dict(zip(cifar.ARCHIVES, sums)), mirrors=())
    monkeypatch.setattr(cifar, "CIFAR10", known)
    monkeypatch.setenv("FALLLINE_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("FALLLINE_DATA", "FALLLINE_MIRROR"):
        monkeypatch.delenv(name, raising=False)


def check(data):
    """It is REAL, in order."""
    held = data.validation
    X = data.train.X if held is None else np.concatenate([data.train.X, held.X])
    y = data.train.y if held is None else np.concatenate([data.train.y, held.y])
    expected = [REAL[name] for name in cifar.BATCHES]
    assert X.dtype == np.uint8 and y.dtype == data.test.y.dtype == np.int64
    for part, (pixels, labels) in enumerate(expected[:5]):
        rows = slice(part * N, part * N + N)
        assert np.array_equal(X[rows].reshape(N, -1), pixels)
        assert np.array_equal(y[rows], labels)
    assert np.array_equal(data.test.X.reshape(N, -1), expected[5][0])
    assert np.array_equal(data.test.y, expected[5][1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inner", ["", "cifar10", "own", "cifar10/own"])
def test_a_folder_of_files(tmp_path, form, inner):
    folder = inner.replace("own", FORMS[form][2])
    write_files(tmp_path / folder, files(form))
    data = cifar10(folder=tmp_path, validation=7)
    check(data)
    assert len(data.validation.y) == 7 and data.feature_shape == (3, 32, 32)
    assert data.classes[:2] == ("airplane", "automobile") and data.n_classes == 10


def test_pixels_are_in_the_order_channel_row_column(tmp_path):
    row = np.arange(3072, dtype=np.uint16).astype(np.uint8)
    arrays = {name: (np.tile(row, (N, 1)), np.zeros(N, int)) for name in cifar.BATCHES}
    for form in FORMS:
        write_files(tmp_path / form, files(form, arrays))
        image = cifar10(folder=tmp_path / form, validation=0).train.X[3]
        for c, i, j in ((0, 0, 1), (1, 0, 0), (2, 31, 30), (0, 1, 0)):
            assert image[c, i, j] == (1024 * c + 32 * i + j) % 256


@pytest.mark.parametrize("form", FORMS)
def test_archives(tmp_path, form):
    path = tmp_path / cifar.ARCHIVES[list(FORMS).index(form)]
    path.write_bytes(ARCHIVES[form])
    check(cifar10(folder=tmp_path, validation=0))
    check(cifar10(folder=path, validation=0))
    plain = tmp_path / "other" / "mine.tar"
    plain.parent.mkdir()
    plain.write_bytes(gzip.decompress(ARCHIVES[form]))
    with pytest.warns(UserWarning, match="not one of the published archives"):
        check(cifar10(folder=plain, validation=0))


def test_forms(tmp_path):
    write_files(tmp_path, files("binary"))
    data = cifar10(folder=tmp_path, validation=10, dtype="float32", flat=True)
    pixels = np.concatenate([REAL[name][0] for name in cifar.BATCHES[:5]])[:50]
    assert np.array_equal(data.train.X, (pixels / 255).astype(np.float32))
    assert data.as_images().feature_shape == (3, 32, 32)
    with pytest.raises(ValueError, match=r"cifar10: validation must be in \[0, 60\); got 60"):
        cifar10(folder=tmp_path, validation=60)
    with pytest.raises(ValueError, match="cifar10: dtype must be"):
        cifar10(folder=tmp_path, validation=6, dtype="int8")


def test_the_environment_names_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FALLLINE_DATA", str(tmp_path))
    with pytest.raises(ConnectionError, match="cifar10: no folder was named"):
        cifar10(download=False)
    write_files(tmp_path / "cifar10", files("python"))
    check(cifar10(validation=0, download=False))


def test_a_folder_without_them(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"must hold cifar-10-binary.tar.gz or .* no folder"
    ):
        cifar10(folder=tmp_path / "nowhere")
    write_files(tmp_path, {"data_batch_1.bin": b""})
    with pytest.raises(FileNotFoundError, match=r"the six files of one of them"):
        cifar10(folder=tmp_path)
    (tmp_path / "images.tar.xz").touch()
    with pytest.raises(FileNotFoundError, match=r"image_folder\('.*images.tar.xz'\)"):
        cifar10(folder=tmp_path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cut", [0, 1, 1000, 3073])
def test_damaged_files(tmp_path, form, cut):
    contents = files(form)
    name = list(contents)[2]
    contents[name] = contents[name][:cut] if cut != 3073 else contents[name][:-1]
    write_files(tmp_path, contents)
    with pytest.raises(ValueError, match=f"cifar10: .*{name}: it must"):
        cifar10(folder=tmp_path)


def test_labels_of_another_data_set(tmp_path):
    data, labels = REAL["test_batch"]
    labels = labels + 5
    write_files(tmp_path / "a", files("binary") | {"test_batch.bin": binary(data, labels)})
    with pytest.raises(ValueError, match=r"labels must be in \[0, 10\); image \d+ has 1"):
        cifar10(folder=tmp_path / "a")
    write_files(tmp_path / "b", files("python") | {"test_batch": python(data, labels)})
    with pytest.raises(ValueError, match=r"'labels', 12 numbers in \[0, 10\)"):
        cifar10(folder=tmp_path / "b")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    "value",
    [
        *(Evil(), {"data": Evil(), "labels": [1]}, [1], {"labels": [1] * N}),
        {"data": np.zeros((N, 3072), np.float32), "labels": [1] * N},
        {"data": np.zeros((N, 3071), np.uint8), "labels": [1] * N},
        {"data": np.zeros((N, 3072), np.uint8), "labels": [1] * (N - 1)},
        {"data": np.zeros((N, 3072), np.uint8), "labels": ["1"] * N},
        {"data": np.zeros((N, 3072), np.uint8), "labels": [-1] * N},
        {"data": np.zeros((0, 3072), np.uint8), "labels": []},
    ],
)
def test_pickles_of_something_else(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    contents = files("python") | {"data_batch_3": pickle.dumps(value, protocol=2)}
    write_files(tmp_path / "here", contents)
    with pytest.raises(ValueError, match="cifar10: .*data_batch_3: it must"):
        cifar10(folder=tmp_path / "here")
    assert not (tmp_path / "evil").exists()


def test_archives_that_are_none(tmp_path):
    path = tmp_path / "a.tar.gz"
    for content, what in (
        (b"", "whole tar file"),
        (ARCHIVES["binary"][:-3000], "whole tar file"),
        (b"<html>", "whole tar file"),
        (archive("binary", {"data_batch_1.bin": binary(*REAL["data_batch_1"])}), "missing in it"),
    ):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="published"), pytest.raises(ValueError, match=what):
            cifar10(folder=path)


def test_names_in_an_archive_lead_nowhere(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive("binary", inner="../../outside"))
    with pytest.warns(UserWarning, match="published"):
        check(cifar10(folder=path, validation=0))
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


def test_download_then_cache(tmp_path, mirror, monkeypatch, capfd):
    mirror.files[f"cifar10/{cifar.ARCHIVES[0]}"] = ARCHIVES["binary"]
    monkeypatch.setenv("FALLLINE_MIRROR", mirror.url)
    check(cifar10(validation=0, progress=False))
    check(cifar10(validation=0, download=False))
    assert mirror.asked == [f"/cifar10/{cifar.ARCHIVES[0]}"] and capfd.readouterr().err == ""
    kept = [path.name for path in (tmp_path / "cache" / "data" / "cifar10").iterdir()]
    assert kept == [cifar.ARCHIVES[0]]


def test_a_mirror_with_another_file_is_passed_over(tmp_path, mirror, second):
    mirror.files[cifar.ARCHIVES[0]] = archive("binary", files("binary", batches(2)))
    with pytest.raises(ConnectionError, match="its sha256 must be .* got") as error:
        cifar10(validation=0, mirror=mirror.url, progress=False)
    assert "set FALLLINE_DATA" in str(error.value)
    assert not list((tmp_path / "cache").rglob("*.gz"))
    second.files[cifar.ARCHIVES[0]] = ARCHIVES["binary"]
    check(cifar10(validation=0, mirror=[mirror.url, second.url], progress=False))


def test_a_damaged_cache_is_mended(tmp_path, mirror):
    mirror.files[cifar.ARCHIVES[0]] = ARCHIVES["binary"]
    cifar10(validation=0, mirror=mirror.url, progress=False)
    path = tmp_path / "cache" / "data" / "cifar10" / cifar.ARCHIVES[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="cached file is not used: .*sha256"):
        check(cifar10(validation=0, mirror=mirror.url, progress=False))


def test_the_published_sums_are_sums():
    from fallline.data.standard import FASHION_MNIST, MNIST

    for known in (cifar.CIFAR10, MNIST, FASHION_MNIST):
        assert all(len(bytes.fromhex(digest)) == 32 for digest in known.sha256.values())


@pytest.mark.data
def test_the_real_files(monkeypatch):
    monkeypatch.setattr(cifar, "CIFAR10", ORIGINAL)
    folder = HERE
    if not folder or not cifar._source(cifar.Path(folder) / "cifar10"):
        pytest.skip("the files of CIFAR-10 are not here: FALLLINE_DATA names no folder with them")
    data = cifar10(folder=folder)
    assert [len(part.y) for part in (data.train, data.validation, data.test)] == [
        *(40_000, 10_000, 10_000)
    ]
    assert (np.bincount(data.test.y) == 1000).all()
