"""`Module`: a network or a part of one, as a tree of arrays that can be called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import numpy as np
import optree

from fallline.core import tree
from fallline.core.errors import TracingError, did_you_mean
from fallline.core.spec import Spec, spec_of
from fallline.core.trace import Tracer
from fallline.nn import flat
from fallline.nn.context import join, with_context
from fallline.ops import philox
from fallline.ops.link import LINKS

if TYPE_CHECKING:
    from fallline.nn.inference import Inference

Array = np.ndarray[Any, Any]


@dataclass_transform(eq_default=False, kw_only_default=False)
class Module:
    """A network or a layer: arrays to train, other settings, and how to compute.

    Write a class with `__call__`. It becomes a dataclass; or it has an `__init__` of its own that
    assigns fields. Fields that hold arrays or modules, or tuples, lists or dicts of them, are its
    parameters; all other fields are settings, fixed while it trains. So it is a tree of arrays:
    `fl.grad`, `fl.compile`, the optimizers and `fl.fit` take it as it is.

    `module(x)` infers and has no side effect. `module(x, ctx=ctx)` is told more (see `Context`);
    pass ctx on to the layers inside.

    >>> from fallline import nn, ops
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         self.hidden = nn.Linear(4, 3, seed=0)
    ...         self.out = nn.Linear(3, 2, seed=1)
    ...
    ...     def __call__(self, x, *, ctx=None):
    ...         return self.out(ops.relu(self.hidden(x, ctx=ctx)), ctx=ctx)
    >>> Net()
    Net, 23 parameters
      hidden  Linear  4 -> 3  W (4, 3)  b (3)  15
      out     Linear  3 -> 2  W (3, 2)  b (2)   8

    Assigning an array to a field that holds one writes into it, so that views of it, such as
    `gather()`, stay true; another shape is a ValueError.

    Arrays in the fields that the class names in `buffers` are kept but not trained: running
    statistics, fixed scales. They are copied, saved and compiled with the network, but they are no
    parameters: gradients, optimizers and penalties pass them by. In training a layer hands out
    their new values with `ctx.update`.
    """

    __slots__ = (
        *("__dict__", "__weakref__"),
        *("_children", "_classes", "_flat", "_flat_buffers", "_inference", "_link"),
    )

    # whether it must be told that it trains: dropout, batch normalisation
    needs_context: ClassVar[bool] = False
    # fields that hold arrays which are not trained
    buffers: ClassVar[tuple[str, ...]] = ()
    # what PyTorch calls the fields ("" for one whose name it leaves out), and those that it
    # holds transposed; see `nn.load_weights`
    torch_names: ClassVar[Mapping[str, str]] = {}
    torch_transposed: ClassVar[tuple[str, ...]] = ()

    _own_init: ClassVar[bool] = False
    _children: tuple[str, ...] | None
    _classes: tuple[Any, ...] | None
    _flat: Array | None
    _flat_buffers: Array | None
    _inference: Inference | None
    _link: str | None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = object.__new__(cls)
        for name in Module.__slots__[2:]:
            object.__setattr__(self, name, None)
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):
            cls.__call__ = with_context(vars(cls)["__call__"])  # type: ignore[method-assign]
        cls._own_init = cls._own_init or "__init__" in vars(cls)
        dataclass(init=not cls._own_init, eq=False, repr=False)(cls)
        register: Any = optree.register_pytree_node
        register(cls, _flatten, _unflattener(cls), namespace=tree.NAMESPACE)
        register(cls, _flatten_whole, _unflattener(cls), namespace=tree.WHOLE)

    def __call__(self, x: Any, *, ctx: Any = None) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__}: it cannot be called. Write def __call__(self, x, *, ctx=None)."
        )

    # Parameters.

    def named_parameters(self) -> list[tuple[str, Any]]:
        """Pairs of a path ("0.W") and its array, in the order of the flat buffer."""
        return tree.named_leaves(self)

    @property
    def n_parameters(self) -> int:
        """How many numbers it holds."""
        return sum(spec_of(leaf).size for leaf in tree.leaves(self))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its parameters, float32 if it has none."""
        leaves = tree.leaves(self)
        return spec_of(leaves[0]).dtype if leaves else np.dtype(np.float32)

    def init(self, seed: int) -> Self:
        """Draw all parameters anew, in place, each by its layer's initialiser.

        A layer's numbers depend on the seed and on its path alone, not on what was drawn before, so
        networks of one architecture and one seed start equal.
        """
        root = philox.key(seed)
        for path, module in self.modules():
            if module._own_arrays():
                module.reset(philox.fold_in(root, path))
        return self

    def reset(self, key: philox.Key) -> None:
        """Draw this layer's own arrays from a key; layers with arrays define it."""
        names = ", ".join(self._own_arrays())
        raise TypeError(
            f"init: {type(self).__name__} holds arrays ({names}) and does not say how to draw "
            "them. Define reset(self, key) in it."
        )

    def gather(self) -> Array:
        """All parameters as one vector, of which the fields are views from then on.

        Without gaps, in the order of `named_parameters`. A second call returns the same vector. If
        this is a part of a gathered network, it is a slice of the whole network's.
        """
        if self._flat is None or not flat.is_gathered(tree.leaves(self), self._flat):
            self._flat = flat.gathered(self)
        return self._flat

    def copy(self) -> Self:
        """An equal network with arrays of its own."""
        return tree.tree_map(np.array, self, whole=True)

    # What is kept, but not trained.

    def named_buffers(self) -> list[tuple[str, Any]]:
        """Pairs of a path ("1.running_mean") and its array, in the order of the whole tree."""
        trained = {path for path, _ in tree.named_leaves(self)}
        return [(p, a) for p, a in tree.named_leaves(self, whole=True) if p not in trained]

    def gather_buffers(self) -> Array:
        """All buffers as one vector, of which the fields are views from then on; see `gather`."""
        arrays = [array for _, array in self.named_buffers()]
        if self._flat_buffers is None or not flat.is_gathered(arrays, self._flat_buffers):
            self._flat_buffers = flat.gathered_buffers(self)
        return self._flat_buffers

    def set_buffers(self, values: Mapping[str, Any]) -> None:
        """Write new values of buffers by name: what layers hand out while they train.

        >>> from fallline import nn
        >>> net = nn.Sequential(nn.BatchNorm(2))
        >>> ctx = nn.Context("train")
        >>> y = net(np.array([[0.0, 10.0], [2.0, 30.0]]), ctx=ctx)
        >>> net.set_buffers(ctx.updates)
        >>> net[0].running_mean
        array([0.1, 2. ], dtype=float32)
        """
        known = dict(self.named_buffers())
        for name, value in values.items():
            if name not in known:
                raise KeyError(
                    f"set_buffers: the network has no buffer {name}. {did_you_mean(name, known)}"
                )
            _written(name, known[name], value)

    # Parts.

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules in its fields, with their names."""
        for name in self._child_names():
            yield from _modules_in(self.__dict__[name], name)

    def modules(self, path: str = "") -> Iterator[tuple[str, Module]]:
        """It, and all modules in it, with their paths, in the order of the fields."""
        yield path, self
        for name, child in self.children():
            yield from child.modules(join(path, name))

    def settings(self) -> dict[str, Any]:
        """The fields that hold no arrays."""
        children = self._child_names()
        return {name: value for name, value in self.__dict__.items() if name not in children}

    def _child_names(self) -> tuple[str, ...]:
        if self._children is not None:
            return self._children
        return tuple(name for name, value in self.__dict__.items() if _holds_arrays(value))

    def _own_arrays(self) -> dict[str, Any]:
        """Its parameters that no module inside holds, by name."""
        found: dict[str, Any] = {}
        for name in self._child_names():
            if name not in self.buffers and not isinstance(self.__dict__[name], Module):
                found.update(_arrays_in(self.__dict__[name], name))
        return found

    def _own_buffers(self) -> dict[str, Any]:
        """Its arrays that are not trained, by name."""
        return {n: self.__dict__[n] for n in self._child_names() if n in self.buffers}

    # What its outputs mean.

    @property
    def link(self) -> str | None:
        """From outputs to predictions, as `ops.link` says and each loss declares; `fit` sets it.

        "softmax", "sigmoid", "margin" (the largest or positive output wins), "identity", "exp".
        """
        return self._link

    @link.setter
    def link(self, link: str | None) -> None:
        if link is not None and link not in LINKS:
            raise ValueError(f"link must be one of {', '.join(LINKS)}, or None; got {link!r}.")
        self._link = link

    @property
    def classes(self) -> Array | None:
        """The class that each output stands for, if not 0, 1, 2, ...; `fit` learns it from y."""
        return None if self._classes is None else np.array(self._classes)

    @classes.setter
    def classes(self, classes: Sequence[Any] | Array | None) -> None:
        plain = None if classes is None else tuple(np.asarray(classes).tolist())
        self._classes = plain

    def predict(self, X: Any, *, batch_size: int | None = None) -> Array:
        """Predictions for the rows of X: classes, or values where it was trained on values.

        X  (n, ...). Returns (n,) classes for the links "softmax" and "margin" and for one output
        with the link "sigmoid", (n, k) of 0 and 1 for several such outputs, and numbers, (n,) or
        (n, k), for "identity" and "exp". It runs compiled, `batch_size` rows at a time or a few
        less, so a network that mixes rows has no place here. Raises RuntimeError where the link is
        not known.
        """
        from fallline.nn.predict import predict

        return predict(self, X, batch_size)

    def predict_proba(self, X: Any, *, batch_size: int | None = None) -> Array:
        """Probabilities of the classes for the rows of X.

        X  (n, ...). Returns (n, k): rows that sum to 1 for the link "softmax" and, k = 2, for one
        output with the link "sigmoid"; for several such outputs each one's own probability.
        """
        from fallline.nn.predict import predict_proba

        return predict_proba(self, X, batch_size)

    # What Python asks of it.

    def __setattr__(self, name: str, value: Any) -> None:
        current = self.__dict__.get(name)
        kept = value is None or value is current or isinstance(value, Module)
        if isinstance(current, np.ndarray) and not kept:
            value = _written(f"{type(self).__name__}: {name}", current, value)
        elif isinstance(value, np.generic):
            value = np.array(value)  # a parameter can be written to
        elif isinstance(value, (list, tuple, dict)) and _holds_arrays(value):
            value = _settled(f"{type(self).__name__}: {name}", value)
        object.__setattr__(self, name, value)
        if name not in Module.__slots__:
            object.__setattr__(self, "_children", None)

    def __repr__(self) -> str:
        from fallline.nn.show import table

        return table(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"fields": self.__dict__, "link": self._link, "classes": self._classes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["fields"])
        self._link, self._classes = state["link"], state["classes"]


def _written(what: str, current: Array, value: Any) -> Array:
    """Write a value into the array that stands for it."""
    if value.__class__ is Tracer:
        raise TracingError(
            f"{what} of a network cannot be set to a traced array: it would outlive the trace. "
            "Return the value, or hand it out with ctx.update."
        )
    shape = np.shape(value)
    if shape != current.shape:
        cure = " Did you mean its transpose, .T?" if shape == current.shape[::-1] != () else ""
        if shape == ():
            cure = f" Did you mean {what.split()[-1]}[...] = {value}?"
        raise ValueError(f"{what} must have shape {current.shape}; got {shape}.{cure}")
    dtype = np.asarray(value).dtype
    if not np.can_cast(dtype, current.dtype, "same_kind"):
        raise TypeError(f"{what} holds {current.dtype}; got {dtype}, which does not fit into it.")
    np.copyto(current, value, casting="same_kind")
    return current


def _settled(what: str, value: Any) -> Any:
    """A container of parameters, in which plain functions are layers too."""
    from fallline.nn.activation import Activation

    if isinstance(value, dict):
        return {key: _settled(what, part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_settled(what, part) for part in value])
    if isinstance(value, (list, tuple)):
        return type(value)([_settled(what, part) for part in value])
    if value is None or isinstance(value, (*_ARRAYS, Module)):
        return value
    if callable(value):
        return Activation(value)
    raise TypeError(
        f"{what} holds parameters and also {value!r}. Keep settings in a field of their own."
    )


# As a tree.


class Form:
    """What a module is beside its leaves: part of the structure of the tree, compared by value.

    The link, the classes and the arrays that are not trained travel with it but make no difference.
    order  the fields with arrays, those that are leaves and those that are `kept`.
    """

    __slots__ = ("classes", "kept", "key", "link", "names", "order", "static")

    def __init__(self, module: Module, order: tuple[str, ...], names: tuple[str, ...]) -> None:
        self.order, self.names = order, names
        kept = module.buffers if len(names) < len(order) else ()
        self.kept = {n: module.__dict__[n] for n in order if n in kept}
        self.static = {n: v for n, v in module.__dict__.items() if n not in order}
        self.link, self.classes = module._link, module._classes
        self.key = order, tuple((n, _frozen(module, n, v)) for n, v in self.static.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return ", ".join(f"{n}={v!r}" for n, v in self.static.items())


def _flatten(module: Module) -> tuple[list[Any], Form, tuple[str, ...]]:
    """Only what is trained."""
    order = module._child_names()
    names = tuple([n for n in order if n not in module.buffers]) if module.buffers else order
    return [module.__dict__[name] for name in names], Form(module, order, names), names


def _flatten_whole(module: Module) -> tuple[list[Any], Form, tuple[str, ...]]:
    names = module._child_names()
    return [module.__dict__[name] for name in names], Form(module, names, names), names


def _unflattener(cls: type[Module]) -> Callable[[Form, Sequence[Any]], Module]:
    def unflatten(form: Form, children: Sequence[Any]) -> Module:
        module = Module.__new__(cls)
        # whatever the leaves are now, they stand where the arrays stood
        arrays = dict(zip(form.names, children))
        if form.kept:
            arrays = {n: arrays[n] if n in arrays else form.kept[n] for n in form.order}
        module.__dict__.update(arrays, **form.static)
        object.__setattr__(module, "_children", form.order)
        object.__setattr__(module, "_link", form.link)
        object.__setattr__(module, "_classes", form.classes)
        return module

    return unflatten


def _frozen(module: Module, name: str, value: Any) -> Any:
    """A setting as something that can be hashed and compared by value."""
    if isinstance(value, (list, tuple)):
        return type(value).__name__, tuple(_frozen(module, name, v) for v in value)
    if isinstance(value, dict):
        return "dict", tuple((k, _frozen(module, name, v)) for k, v in value.items())
    if isinstance(value, set):
        return "set", frozenset(value)
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{type(module).__name__}: {name} holds a {type(value).__name__}, which cannot be a "
            "setting of a module, because it cannot be compared. Use an array or a tuple."
        ) from None
    return type(value).__name__, value  # True == 1 == 1.0, but they trace differently


_ARRAYS = (np.ndarray, Tracer, Spec)


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, (*_ARRAYS, Module)):
        return True
    if isinstance(value, dict):
        return any(map(_holds_arrays, value.values()))
    return isinstance(value, (tuple, list)) and any(map(_holds_arrays, value))


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What containers hold, with paths as the tree names them."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _parts(value[key], join(path, str(key)))
    elif isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            yield from _parts(part, join(path, str(i)))
    else:
        yield path, value


def _modules_in(value: Any, path: str) -> Iterator[tuple[str, Module]]:
    return ((p, part) for p, part in _parts(value, path) if isinstance(part, Module))


def _arrays_in(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    return ((p, part) for p, part in _parts(value, path) if isinstance(part, _ARRAYS))
