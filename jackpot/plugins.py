"""A user's own networks, pruners, settings, conditions and optimizers: `package.module:name`."""

import hashlib
import importlib
import importlib.util
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
PLUGIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""What names an object of a user's own module."""


class PluginError(ValueError):
    """A plug-in cannot be imported or is not what it is named for; the message says which."""


def is_plugin(name: str) -> bool:
    """Whether `name` names an object of a user's own module.

    >>> is_plugin("mypackage.mymodule:lamp"), is_plugin("imp")
    (True, False)
    """
    return PLUGIN.fullmatch(name) is not None


def load(noun: str, name: str, kind: type[T]) -> T:
    """Imports the object that `name` names.

    Args:
        noun: what it is to be, for errors: `pruner`, `setting`.
        name: `package.module:name`.
        kind: the type that it must have.

    Raises:
        PluginError: no such module or name, or an object of another type.
    """
    found = _imported(noun, name)
    if not isinstance(found, kind):
        raise PluginError(
            f"{noun} '{name}': expected a {kind.__name__}, found a {type(found).__name__}"
        )
    return found


def load_function(noun: str, name: str) -> Callable[..., Any]:
    """As `load`, for a function.

    Raises:
        PluginError: no such module or name, or nothing that can be called.
    """
    found = _imported(noun, name)
    if not callable(found):
        raise PluginError(f"{noun} '{name}': expected a function, found a {type(found).__name__}")
    return found


def _imported(noun: str, name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise PluginError(
            f"{noun} '{name}' cannot be imported: {error}. Start the program in the folder that "
            "holds the module, or install its package"
        ) from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{noun} '{name}' cannot be imported: {told(error)}") from error
    if not hasattr(found, attribute):
        raise PluginError(f"{noun} '{name}': module '{module}' has no '{attribute}'")
    return getattr(found, attribute)


def told(error: BaseException) -> str:
    """An error of a user's own code on one line, with the place that raised it.

    >>> told(ValueError("no"))
    'ValueError: no'
    """
    text = " ".join(str(error).split())[:300]
    ours = str(Path(__file__).parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", f"{ours}/jackpot", f"{ours}/trainer"))
        and not isinstance(error, SyntaxError)  # It says its place itself.
    ]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def fingerprint(noun: str, name: str) -> str:
    """SHA-256 of the source file that holds a plug-in, 20 hexadecimal digits.

    It belongs to the run keys: after a change of the file, runs are trained anew. What the file
    imports is not looked at. Finding the file may import the packages around it, not the module.

    Raises:
        PluginError: there is no such module.
    """
    module = name.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise PluginError(
            f"{noun} '{name}' cannot be imported: there is no module '{module}'. Start the "
            "trainer in the folder that holds it, or install its package"
        )
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:20]


def short(name: str) -> str:
    """The name without its module, for labels.

    >>> short("mypackage.mymodule:lamp"), short("imp")
    ('lamp', 'imp')
    """
    return name.rpartition(":")[2]
