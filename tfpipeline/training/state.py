"""The state of a training as named arrays and plain values, and back: variables and callbacks."""

import contextlib
import inspect
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from tfpipeline.system import UserError

_PLAIN = (bool, int, float, str, type(None))


def named_variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, keras.Variable]:
    """Every variable that training changes, by a name that does not depend on what else the process built.

    Args:
        model: a built keras.Model; its seeds are among its variables.
        optimizer: a built keras optimizer; moving averages of the weights are among its variables.

    Returns:
        keras.Variable by name, such as "model/0003/kernel".
    """
    of_model = {f"model/{i:04d}/{v.name}": v for i, v in enumerate(model.variables)}
    # The optimizer's names begin with those of the weights' layers, which Keras numbers through the process.
    return of_model | {f"optimizer/{i:04d}/{v.name.split('_')[-1]}": v for i, v in enumerate(optimizer.variables)}


def arrays_of(variables: dict[str, keras.Variable]) -> dict[str, np.ndarray]:
    """The values of variables, by the same names."""
    return {name: variable.numpy() for name, variable in variables.items()}


def assign(variables: dict[str, keras.Variable], arrays: dict[str, np.ndarray]) -> None:
    """Gives the variables the values of a checkpoint.

    Raises:
        UserError: the checkpoint holds other variables, or others in shape or type; nothing was assigned.
    """
    theirs = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    ours = {name: (tuple(variable.shape), str(variable.dtype)) for name, variable in variables.items()}
    for name in {**theirs, **ours}:
        if theirs.get(name) != ours.get(name):
            raise UserError(
                f"the checkpoint has {name} as {theirs.get(name)}, this network and optimizer as {ours.get(name)}; "
                "go on with the version of the program that began the run, or give another --run"
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])


@contextlib.contextmanager
def averaged_weights(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """A context in which the model has the moving averages of its weights, if the optimizer keeps any.

    Args:
        model: a built keras.Model; its batch statistics stay those of the weights themselves.
        optimizer: a built keras optimizer.
    """
    if not optimizer.use_ema:
        yield
        return
    weights = [variable.numpy() for variable in model.trainable_variables]
    optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, weights, strict=True):
            variable.assign(value)


def state_of_callbacks(
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
    """What callbacks remember, such as the best value so far and the epochs without a better one.

    Args:
        callbacks: keras callbacks; their public attributes that are plain values or arrays count, but for what their
            constructors were given: that is their configuration, which Keras changes when it is used first.

    Returns:
        (plain values by callback and attribute; arrays by "callback/CALLBACK/ATTRIBUTE/NUMBER").
    """
    plain: dict[str, dict] = {}
    arrays: dict[str, np.ndarray] = {}
    for key, callback in _callbacks_by_name(callbacks).items():
        given = _constructor_arguments(type(callback))
        values = {name: v for name, v in vars(callback).items() if not name.startswith("_") and name not in given}
        values = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
        plain[key] = {name: value for name, value in values.items() if _is_plain(value)}
        for name, value in values.items():
            if _is_list_of_arrays(value):
                arrays |= {f"callback/{key}/{name}/{place:04d}": array for place, array in enumerate(value)}
    return plain, arrays


def restore_callbacks(
    callbacks: Sequence[keras.callbacks.Callback], plain: dict[str, dict], arrays: dict[str, np.ndarray]
) -> None:
    """Gives callbacks what `state_of_callbacks` took; one that was not there before begins anew."""
    for key, callback in _callbacks_by_name(callbacks).items():
        for name, value in plain.get(key, {}).items():
            setattr(callback, name, value)
        lists: dict[str, list[np.ndarray]] = {}
        for path, array in arrays.items():
            _, owner, name, _ = path.split("/")
            if owner == key:
                lists.setdefault(name, []).append(array)
        for name, value in lists.items():
            setattr(callback, name, value)


def _callbacks_by_name(callbacks):
    """Callbacks by class and number among those of the class, so that others may come and go."""
    named = {}
    for callback in callbacks:
        kind = type(callback).__name__
        named[f"{kind}-{sum(key.startswith(f'{kind}-') for key in named)}"] = callback
    return named


def _constructor_arguments(kind):
    return {name for base in kind.__mro__ for name in inspect.signature(base.__init__).parameters}


def _is_plain(value):
    return isinstance(value, _PLAIN) or (isinstance(value, list) and all(isinstance(part, _PLAIN) for part in value))


def _is_list_of_arrays(value):
    return isinstance(value, list) and len(value) > 0 and all(isinstance(part, np.ndarray) for part in value)
