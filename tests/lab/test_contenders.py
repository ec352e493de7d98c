import dataclasses

import pytest
from tests.lab import fake

from fallline import optim
from fallline.lab.contenders import contender, contenders


def test_an_optimizer_of_ones_own_takes_part():
    assert contenders([fake.TEN[0]]) == [fake.TEN[0]]


def test_what_lacks_a_space_is_refused():
    for bad in (object(), dataclasses.replace(fake.TEN[0], space={}), fake.FakeOptimizer):
        with pytest.raises(TypeError, match="cannot be compared"):
            contender(bad)


def test_what_lacks_a_default_is_refused():
    with pytest.raises(ValueError, match="sgd: lr has no default"):
        contender(dataclasses.replace(fake.TEN[0], defaults={}))


def test_the_nearest_name_is_offered():
    with pytest.raises(ValueError, match=r"no optimizer is called 'Adma'\. Did you mean adam\?"):
        contender("Adma")


def test_one_name_alone_is_a_comparison_of_one():
    assert [entry.name for entry in contenders("adam")] == ["adam"]
    assert contenders(fake.TEN[0]) == [fake.TEN[0]]


def test_two_settings_of_one_rule_get_names():
    wide = optim.adam(eps=1e-2)
    with pytest.raises(ValueError, match=r"adam is listed 2 times.*chain\(adam\(\.\.\.\), name="):
        contenders(["adam", wide])
    named = optim.chain(wide, name="adam, eps 0.01")
    assert [entry.name for entry in contenders(["adam", named])] == ["adam", "adam, eps 0.01"]
