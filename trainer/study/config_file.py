"""Reads a study from YAML and `--set` overrides; says what is wrong, where, and how to mend it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from jackpot.stores import one_line
from trainer.study.config import NAME_RULE, Study
from trainer.study.optimizers import OPTIMIZERS, Optimizer

_MOST_LINES = 20
_MOST_CHARACTERS, _DEEPEST, _MOST_VALUES = 100_000, 20, 10_000


class ConfigError(Exception):
    """A study's config is not usable; the message names file, line, key, and what was expected."""


def load_study(path: Path, overrides: Iterable[str] = ()) -> Study:
    """Reads and checks the study in the YAML file `path`.

    Args:
        path: a YAML 1.2 file (so `1e-3` is a number and `no` is a word).
        overrides: `key.path=value` strings; values are read as YAML, lists by index.

    Raises:
        ConfigError: with every problem found, one line each.

    Example:
        >>> load_study(Path("configs/digits.yaml"), ["training.epochs=30"]).training.epochs
        30
    """
    files = _with_bases(path)
    tree: dict[str, Any] = {}
    for own in reversed(files.values()):
        tree = _merged(tree, _plain(own))
    overridden: dict[tuple[str, ...], str] = {}
    for override in overrides:
        overridden[_override(tree, override)] = override
    try:
        return Study.model_validate(tree)
    except ValidationError as error:
        details = _one_for_each_union(error.errors())
        lines = [_explain(files, tree, overridden, detail) for detail in details]
        lines = list(dict.fromkeys(lines))
        if len(lines) > _MOST_LINES:
            lines[_MOST_LINES:] = [f"and {len(lines) - _MOST_LINES} more"]
        raise ConfigError("\n".join(lines)) from None


def _with_bases(path: Path) -> dict[Path, CommentedMap]:
    """The file, the file that its `base:` names, that one's base, and so on, without that key.

    Raises:
        ConfigError: a base is not a file name, does not exist, or forms a cycle.
    """
    files: dict[Path, CommentedMap] = {}
    while True:
        tree = files[path] = _read(path)
        if "base" not in tree:
            return files
        line, base = _line(tree, ("base",)), tree.pop("base")
        if not isinstance(base, str) or not base:
            raise ConfigError(f"{path}:{line}: base: expected a file name, found {_describe(base)}")
        named = path.parent / base
        if any(named.resolve() == seen.resolve() for seen in files):
            raise ConfigError(f"{path}:{line}: base: {named} leads back to itself")
        if not named.is_file():
            raise ConfigError(f"{path}:{line}: base: {named}: no such file")
        path = named


# Of mappings that need not say which kind they are.
_DEFAULT_NAMES = {"optimizer": "sgd"}


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`base` overridden by `own`: mappings are merged key by key, everything else is replaced.

    A mapping with another `name` (a schedule of another kind) replaces the base's mapping.
    """
    merged = dict(base)
    for key, value in own.items():
        before = base.get(key)
        if key == "dataset":
            before, value = _dataset(before), _dataset(value)
        if isinstance(before, dict) and isinstance(value, dict):
            default = _DEFAULT_NAMES.get(key)
            named = before.get("name", default)
            same = value.get("name", named) == named
            value = _merged(before, value) if same else value
        merged[key] = value
    return merged


def _dataset(value: Any) -> Any:
    """`dataset: cifar10` is short for `dataset: {name: cifar10}`."""
    return {"name": value} if isinstance(value, str) else value


class _Unreasonable(Exception):
    """YAML that no study needs, and that would take memory or time without end."""


def _loaded(text: str, yaml: YAML) -> Any:
    """What YAML text says.

    Raises:
        _Unreasonable: it is long, deeply nested, refers to itself, or multiplies by its aliases.
        YAMLError: it is not valid.
    """
    if len(text) > _MOST_CHARACTERS:
        raise _Unreasonable(
            f"has {len(text):,} characters; expected a study of at most {_MOST_CHARACTERS:,}"
        )
    inside: list[str | None] = []
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, CollectionStartEvent):
            inside.append(event.anchor)
        elif isinstance(event, CollectionEndEvent):
            inside.pop()
        elif isinstance(event, AliasEvent) and event.anchor in inside:
            raise _Unreasonable(f"has an alias, *{event.anchor}, that refers to itself")
        if len(inside) > _DEEPEST:
            raise _Unreasonable(f"is nested more than {_DEEPEST} levels deep")
    try:
        tree = yaml.load(text)
    except (ValueError, RecursionError) as error:  # Such as a number of 5,000 digits.
        raise _Unreasonable(f"cannot be read: {error}") from None
    _size(tree, {})
    return tree


def _size(node: Any, known: dict[int, int]) -> int:
    """How many values a tree has once its aliases are written out."""
    if not isinstance(node, Mapping | list):
        return 1
    if id(node) not in known:
        inside = node.values() if isinstance(node, Mapping) else node
        known[id(node)] = 1 + sum(_size(child, known) for child in inside)
    if known[id(node)] > _MOST_VALUES:
        raise _Unreasonable(f"has more than {_MOST_VALUES:,} values once aliases are written out")
    return known[id(node)]


def _read(path: Path) -> CommentedMap:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.5)
        raise ConfigError(
            f"{path}: no such file"
            + (f"; did you mean {path.parent / close[0]}?" if close else "")
            + (f" (there: {', '.join(beside)})" if beside and not close else "")
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    try:
        tree = _loaded(text, YAML(typ="rt"))
    except _Unreasonable as error:
        raise ConfigError(f"{path}: {error}") from None
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        key = str(error.problem).split('"')[1] if '"' in str(error.problem) else "a key"
        raise ConfigError(f"{path}:{line}: key '{key}' is given twice; keep one") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = error.problem or error.context
        source = text.splitlines()[line - 1] if 0 < line <= len(text.splitlines()) else ""
        if "\t" in source or "'\\t'" in str(reason):
            reason = "a tab is used for indentation; YAML allows only spaces there"
        raise ConfigError(f"{path}:{line}: not valid YAML: {reason}") from None
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, CommentedMap):
        raise ConfigError(
            f"{path}:1: expected a mapping of keys such as 'study:' and 'network:', "
            f"found {_describe(tree)}"
        )
    return tree


def _override(tree: dict[str, Any], override: str) -> tuple[str, ...]:
    """Writes one `key.path=value` into the tree and returns the key's path."""
    key, equals, text = override.partition("=")
    keys = tuple(part.strip() for part in key.split("."))
    if not equals or not all(keys):
        raise ConfigError(
            f"--set {override}: expected key=value with a dotted key, such as training.epochs=10"
        )
    try:
        value = _loaded(text, YAML(typ="safe", pure=True))
    except _Unreasonable as error:
        raise ConfigError(f"--set {key}: {error}") from None
    except YAMLError as error:
        reason = getattr(error, "problem", None) or one_line(error)
        raise ConfigError(f"--set {override}: the value is not valid YAML: {reason}") from None
    node: Any = tree
    for depth, part in enumerate(keys[:-1]):
        if isinstance(node, list):
            child = node[_index(node, part, override)]
        else:
            child = node.get(part)
            if child is None:
                child = node[part] = {}
            elif part == "dataset":
                child = node[part] = _dataset(child)
        if not isinstance(child, dict | list):
            raise ConfigError(
                f"--set {override}: '{'.'.join(keys[: depth + 1])}' is {_describe(child)}, "
                "it has no keys of its own"
            )
        node = child
    last = keys[-1]
    node[_index(node, last, override) if isinstance(node, list) else last] = value
    return keys


def _index(seq: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(seq):
        raise ConfigError(
            f"--set {override}: '{part}' is not an index of a list of {len(seq)}; count from 0"
        )
    return int(part)


def _plain(node: Any) -> Any:
    """The tree without ruamel's own types, which pydantic's strict mode would refuse."""
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _explain(
    files: dict[Path, CommentedMap],
    tree: dict[str, Any],
    overridden: dict[tuple[str, ...], str],
    detail: Any,
) -> str:
    context = detail.get("ctx", {})
    loc = _without_union_tags((*detail["loc"], *context.get("at", ())), tree)
    keys = tuple(str(part) for part in loc)
    place = next(
        (f"--set {text}" for at, text in overridden.items() if at == keys[: len(at)]),
        _place(files, loc),
    )
    return f"{place}: {_key(loc)}{_reason(detail, loc)}"


def _one_for_each_union(details: Sequence[Any]) -> list[Any]:
    """Without the word that was expected where something else than a word was found, and so on.

    `fuse` takes a word or a number: pydantic tells what is wrong with both.
    """
    words = {d["loc"][:-1]: d for d in details if d["type"] == "literal_error"}
    wrong_word = {at for at, d in words.items() if isinstance(d["input"], str)}

    def belongs(detail: Any, union: tuple[Any, ...]) -> bool:
        return bool(union) and detail["loc"][: len(union)] == union

    kept = []
    for detail in details:
        of_words = detail["type"] == "literal_error"
        union = next((at for at in words if belongs(detail, at)), None)
        if (
            union is None
            or len(union) == 0
            or of_words == (union in wrong_word)
            or not any(belongs(other, union) for other in details if other is not detail)
        ):
            kept.append(detail)
    return kept


def _without_union_tags(loc: tuple[str | int, ...], tree: Any) -> tuple[str | int, ...]:
    """Drops from pydantic's location the parts that name a union's branch, not a YAML key."""
    kept: list[str | int] = []
    node = tree
    for i, part in enumerate(loc):
        last = i == len(loc) - 1
        inside = (isinstance(node, Mapping) and part in node) or (
            isinstance(node, list) and isinstance(part, int) and part < len(node)
        )
        if inside:
            node = node[part]
        elif not (last and isinstance(node, Mapping)):
            continue
        kept.append(part)
    return tuple(kept)


def _place(files: dict[Path, CommentedMap], loc: tuple[str | int, ...]) -> str:
    """File and line of the deepest part of `loc`; of several files the one that overrides."""
    path = max(files, key=lambda path: _depth(files[path], loc))
    return f"{path}:{_line(files[path], loc)}"


def _depth(node: Any, loc: tuple[str | int, ...]) -> int:
    for depth, part in enumerate(loc):
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return depth
    return len(loc)


def _line(tree: Any, loc: tuple[str | int, ...]) -> int:
    """Line (1-based) of the deepest part of `loc` that the file has."""
    line, node = 1, tree
    for part in loc:
        try:
            line = (
                node.lc.item(part)[0] if isinstance(node, CommentedSeq) else node.lc.key(part)[0]
            ) + 1
            node = node[part]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    return line


def _key(loc: tuple[str | int, ...]) -> str:
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".")
    return f"{text}: " if text else ""


def _reason(detail: Any, loc: tuple[str | int, ...]) -> str:
    kind, context, found = detail["type"], detail.get("ctx", {}), detail.get("input")
    if kind == "extra_forbidden":
        known = _fields_at(loc[:-1])
        return f"unknown key{_did_you_mean(str(loc[-1]), known)}"
    if kind == "missing":
        return "this key is required"
    if kind == "unknown_name":
        name = found.get("name") if isinstance(found, Mapping) else found
        return f"{detail['msg']} {name!r}{_did_you_mean(name, context['choices'])}"
    if kind == "literal_error":
        choices = [
            word.strip("' ") for word in context["expected"].replace(" or ", ", ").split(",")
        ]
        return f"expected {context['expected']}, found {found!r}{_did_you_mean(found, choices)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"'name' must be one of {context.get('expected_tags', 'step, cosine, constant')}"
    if kind == "string_pattern_mismatch":
        return f"expected a name of {NAME_RULE}, found {found!r}"
    if kind == "study":
        return str(detail["msg"])
    message = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return f"{message}, found {_describe(found)}"


def _fields_at(loc: tuple[str | int, ...]) -> list[str]:
    """The keys that the schema knows at `loc`."""
    models: list[type[BaseModel]] = [Study]
    for part in loc:
        if isinstance(part, int):
            continue
        models = [
            found
            for model in models
            if part in _fields(model)
            for found in _models_in(_fields(model)[part].annotation)
        ]
    return [name for model in models for name in _fields(model)]


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model as YAML names them: `from`, which is no name in Python."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if annotation is Optimizer:
        return list(OPTIMIZERS.values())
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models_in(part)]


def _did_you_mean(word: Any, known: Iterable[str]) -> str:
    # A key of another kind of optimizer may be the very word.
    known = [name for name in dict.fromkeys(known) if name != word]
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known here: {', '.join(known)}" if known and len(known) < 20 else ""


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else f"{value!r} ({type(value).__name__})"
