"""The project's rules as functions: a source file goes in, its problems come out as file:line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

LAYERS: tuple[tuple[str, ...], ...] = (
    ("recsys.errors", "recsys.disk", "recsys.turns"),
    ("recsys.mapped_arrays",),
    ("recsys.config", "recsys.pseudonyms", "recsys.tables"),
    ("recsys.interactions",),
    (
        "recsys.text",
        "recsys.retrieval",
        "recsys.features",
        "recsys.ranker",
        "recsys.evaluation",
        "recsys.experiments",
        "recsys.off_policy",
        "recsys.page",
        "recsys.simulation",
        "recsys.state",
    ),
    ("recsys.bundle",),
    ("recsys.recommender",),
    ("training",),
    ("serving",),
)
"""Lowest first; a room imports lower layers only, never its neighbours in the same layer."""

STUBS = "recsys.v1"
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}

NOT_IN_LIBRARY = (
    "argparse click grpc http logging random requests rich socket socketserver time typer urllib "
    "sys.argv sys.stdout sys.stderr os.environ os.getenv numpy.random.seed print input "
    "datetime.datetime.now datetime.datetime.utcnow datetime.datetime.today datetime.date.today"
)
"""Command line, environment, sockets, printing, clocks and global randomness."""

UNSAFE = "pickle joblib dill shelve marshal cloudpickle torch.load torch.save"
"""What runs code from a file it reads, and what writes such files."""

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
MAX_PARAMETERS = 6

_MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work)/\w")
_BUILTINS = {"print", "input"}
_FunctionNode = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """A text file of the project: its path from the project root, with slashes, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def is_door(self) -> bool:
        return self.path.endswith("/__init__.py")

    @property
    def module(self) -> str:
        return self.path.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")

    @property
    def package(self) -> str:
        return self.module if self.is_door else self.module.rpartition(".")[0]

    def at(self, line: int, problem: str) -> str:
        return f"{self.path}:{line}: {problem}"


@dataclass(frozen=True)
class Function:
    """A function; `lines` leaves its docstring and decorators out, `parameters` its self."""

    name: str
    at: int
    lines: int
    parameters: int
    is_command: bool


@dataclass(frozen=True)
class Imported:
    """One imported thing, in full; the file calls `means` by the name `bound`."""

    line: int
    dotted: str
    bound: str
    means: str


def imported(source: Source) -> Iterator[Imported]:
    """Everything a file imports, at any depth."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                root = one.name.partition(".")[0]
                means = one.name if one.asname else root
                yield Imported(node.lineno, one.name, one.asname or root, means)
        elif isinstance(node, ast.ImportFrom):
            parts = source.package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for one in node.names:
                dotted = f"{origin}.{one.name}"
                yield Imported(node.lineno, dotted, one.asname or one.name, dotted)


def room(dotted: str) -> str:
    """The unit of layering a module belongs to: a part of `recsys`, or a whole other package."""
    parts = dotted.split(".")
    return ".".join(parts[:2]) if parts[0] == "recsys" else parts[0]


def layers(source: Source) -> list[str]:
    """A file imports only from layers below its own; stubs are for `serving` alone."""
    own = room(source.module)
    if own != "recsys" and own not in RANK:
        return [source.at(1, f"{own} has no place in the layer table")]
    problems = []
    for one in imported(source):
        other = room(one.dotted)
        if other == own or other.partition(".")[0] not in {"recsys", "training", "serving"}:
            continue
        if other == STUBS:
            allowed = own == "serving"
        else:
            allowed = RANK.get(own, -1) > RANK.get(other, len(LAYERS))
        if not allowed:
            problems.append(source.at(one.line, f"{own} may not import {one.dotted}"))
    return problems


def names_used(source: Source) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of imports, of what is reached through them, and of builtins."""
    aliases = {one.bound: one.means for one in imported(source)}
    yield from ((one.line, one.dotted) for one in imported(source))
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        root, _, rest = _chain(node).partition(".")
        if root in aliases and rest:
            yield node.lineno, f"{aliases[root]}.{rest}"
        elif root in _BUILTINS and not rest:
            yield node.lineno, root


def _chain(node: ast.AST) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def purity(source: Source) -> list[str]:
    """The library has no command line, environment, sockets, printing, clock, global randomness."""
    return _uses(source, NOT_IN_LIBRARY)


def silence(source: Source) -> list[str]:
    """Nothing prints but the command line's own console."""
    return _uses(source, "print")


def safe_files(source: Source) -> list[str]:
    """No file format that can run code."""
    problems = _uses(source, UNSAFE)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            problems.append(source.at(node.lineno, "allow_pickle is not used here"))
    return problems


def _uses(source: Source, forbidden: str) -> list[str]:
    found = [
        source.at(line, f"{name} is not used here")
        for line, dotted in names_used(source)
        for name in forbidden.split()
        if f"{dotted}.".startswith(f"{name}.")
    ]
    return list(dict.fromkeys(found))


def functions(source: Source) -> list[Function]:
    """Every function and method of a file, nested ones too."""
    return [_measure(node) for node in ast.walk(source.tree) if isinstance(node, _FunctionNode)]


def _measure(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    given = node.args
    named = [one.arg for one in (*given.posonlyargs, *given.args)]
    others = [*given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    own = named[:1] in (["self"], ["cls"])
    first = node.body[0]
    described = ast.get_docstring(node, clean=False) is not None
    doc_lines = (first.end_lineno or first.lineno) - first.lineno + 1 if described else 0
    decorators = {_chain(getattr(one, "func", one)) for one in node.decorator_list}
    return Function(
        name=node.name,
        at=node.lineno,
        lines=(node.end_lineno or node.lineno) - node.lineno + 1 - doc_lines,
        parameters=len(named) + len(others) - own,
        is_command=any(name.endswith((".command", ".callback")) for name in decorators),
    )


def sizes(source: Source) -> list[str]:
    """Functions, files and parameter lists stay small; a command's parameters are its options."""
    problems = []
    length = len(source.text.splitlines())
    if length > MAX_FILE_LINES:
        problems.append(source.at(length, f"{length} lines, at most {MAX_FILE_LINES}"))
    for one in functions(source):
        if one.lines > MAX_FUNCTION_LINES:
            found = f"{one.name} has {one.lines} lines, at most {MAX_FUNCTION_LINES}"
            problems.append(source.at(one.at, found))
        if one.parameters > MAX_PARAMETERS and not one.is_command:
            found = f"{one.name} takes {one.parameters} parameters, at most {MAX_PARAMETERS}"
            problems.append(source.at(one.at, found))
    return problems


def doors(source: Source) -> list[str]:
    """A door (`__init__.py`) is one sentence, imports and a sorted `__all__` of them."""
    body = source.tree.body
    problems = []
    sentence = ast.get_docstring(source.tree) or ""
    if not re.fullmatch(r"[^\n]+\.", sentence) or ". " in sentence:
        problems.append(source.at(1, "the docstring is not one sentence"))
    rest = [node for node in body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]
    exported = [node for node in rest if _assigns_all(node)]
    problems += [
        source.at(node.lineno, "more than a door") for node in rest if node not in exported
    ]
    bound = {one.bound for one in imported(source) if not one.dotted.startswith("__future__.")}
    listed = ast.literal_eval(exported[0].value) if exported else []  # type: ignore[attr-defined]
    if set(listed) != bound:
        problems.append(source.at(1, f"__all__ differs in {sorted(bound ^ set(listed))}"))
    if list(listed) != sorted(listed, key=_door_order):
        problems.append(source.at(exported[0].lineno, "__all__ is not sorted"))
    return problems


def _assigns_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [_chain(one) for one in node.targets] == ["__all__"]


def _door_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: ruff's order."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def documented_fields(source: Source) -> list[str]:
    """Every public field of every class of a configuration file has a docstring under it."""
    problems = []
    for owner in ast.walk(source.tree):
        if not isinstance(owner, ast.ClassDef):
            continue
        for node, below in zip(owner.body, [*owner.body[1:], None], strict=True):
            if not isinstance(node, ast.AnnAssign):
                continue
            text = below.value if isinstance(below, ast.Expr) else None
            if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
                found = f"{owner.name}.{_chain(node.target)} has no docstring under it"
                problems.append(source.at(node.lineno, found))
    return problems


def portable(source: Source) -> list[str]:
    """No path of somebody's machine."""
    return [
        source.at(row, f"a machine's path: {line.strip()}")
        for row, line in enumerate(source.text.splitlines(), start=1)
        if _MACHINE_PATH.search(line)
    ]
