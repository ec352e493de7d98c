import dataclasses

import pytest
from tests.lab import fake

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
