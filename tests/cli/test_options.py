import click
import pytest

from fallline.cli import options

NAMES = options.Name("thing", lambda: ["schedule_free", "adam"])
SEVERAL = options.Names("thing", lambda: ["schedule_free", "adam"])


def read(kind, text):
    return kind.convert(text, click.Option(["-x", "--it"]), None)


@pytest.mark.parametrize(
    "kind, text, value",
    [
        (NAMES, "adam", "adam"),
        (NAMES, "Schedule-Free", "schedule_free"),
        (SEVERAL, "adam, schedule-free,", ["adam", "schedule_free"]),
        (options.count(), "12", 12),
        (options.count(0), "0", 0),
        (options.number(), "1e-3", 1e-3),
        (options.number(), "-2", -2.0),
        (options.part(), "0", 0),
        (options.part(), "500", 500),
        (options.part(), "0.1", 0.1),
        (options.widths(), "64-10", (64, 10)),
        (options.widths(), "784-100-50-10", (784, 100, 50, 10)),
        (options.setting(), "b1=0.95", ("b1", 0.95)),
        (options.setting(), "schedule = 1", ("schedule", 1)),
        (options.setting(), "eps=1e-8", ("eps", 1e-8)),
        (options.setting(), "centered=True", ("centered", True)),
        (options.setting(), "lr_inside=false", ("lr_inside", False)),
        (options.setting(), "schedule=none", ("schedule", None)),
        (options.setting(), "form=ema", ("form", "ema")),
    ],
)
def test_what_is_right_is_read(kind, text, value):
    found = read(kind, text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "kind, text, sentence",
    [
        (NAMES, "adem", "no thing is called 'adem'. Did you mean adam?"),
        (SEVERAL, "adam,x", "no thing is called 'x'. There are schedule_free, adam."),
        (SEVERAL, " ,", "--it must be names with commas between; got ' ,'."),
        (options.count(), "0", "--it must be a whole number >= 1; got '0'."),
        (options.count(), "1.5", "--it must be a whole number >= 1; got '1.5'."),
        (options.number(), "fast", "--it must be a number; got 'fast'."),
        (options.number(), "inf", "--it must be a number; got 'inf'."),
        (options.part(), "1.0", "--it must be a number of examples or a share below 1; got '1.0'."),
        (options.part(), "-1", "--it must be a number of examples or a share below 1; got '-1'."),
        (options.widths(), "64", "--it must be widths such as 64-100-10; got '64'."),
        (options.widths(), "64-0-10", "--it must be widths such as 64-100-10; got '64-0-10'."),
        (options.setting(), "b1", "--it must be of the form name=value; got 'b1'."),
        (options.setting(), "=1", "--it must be of the form name=value; got '=1'."),
        (
            options.Folder(exists=True),
            "no/where",
            "--it must be a folder; 'no/where' is not there.",
        ),
        (
            options.NewFile(),
            "no/where/x",
            "--it must be in a folder that is there; 'no/where/x' is not.",
        ),
    ],
)
def test_what_is_wrong_is_said(kind, text, sentence):
    with pytest.raises(click.BadParameter) as caught:
        read(kind, text)
    assert caught.value.message == sentence


def test_folders_and_files(tmp_path):
    (tmp_path / "file").touch()
    assert read(options.Folder(exists=False), tmp_path / "new") == tmp_path / "new"
    assert read(options.NewFile(), tmp_path / "file") == tmp_path / "file"  # is replaced
    for kind, path in (
        (options.Folder(exists=False), tmp_path / "file"),
        (options.Folder(exists=True), tmp_path / "file"),
        (options.NewFile(), tmp_path),
    ):
        with pytest.raises(click.BadParameter, match=r"is a (file|folder)\."):
            read(kind, path)


def test_names_are_completed_in_the_shell():
    assert [item.value for item in NAMES.shell_complete(None, None, "a")] == ["adam"]
