"""The digest of a member's own source: what a registry's file computes, without comments, docstrings and layout.

A loss, metric, strategy, normalisation, scorer or reader takes part in keys with this digest, so that a result never
stands under the name of code that has changed. It covers the member's file and, transitively, every module of this
project that the file imports. Left out are ``_SHARED`` (messages, registries, configuration: they compute nothing) and
whatever is shared by all members of a stage, which is covered by the stage's ``version``. Of the declaration of a
setting (``qsd.config.fields``) its name, type and default count: another description or limit changes no result.
The declaration of a remark about members (``qsd.registry.Remark``) does not count at all.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from qsd.own_members import own_file

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARED = ("qsd.errors", "qsd.registry", "qsd.source", "qsd.own_members", "qsd.config")
_FIELDS = "qsd.config.fields"
_SETTINGS = ("meaning", "execution", "location")
"""Its functions that declare a setting: the default, then what it means and its limits."""
_REMARK = "Remark"
"""The type of a field of members that changes no result."""


_ROOT = Path(__file__).resolve().parents[1]


def source_digest(module: str, root: Path = _ROOT, within: str = "") -> str:
    """12 hex digits of the code of ``module`` and of the modules below ``root`` that it imports.

    Comments, docstrings, annotations for type checkers (``if TYPE_CHECKING``) and layout do not count.

    Args:
        module: dotted name, for example ``qsd.losses.dpo``.
        root: the folder that has the top-level package; by default the one that has this project's.
        within: only modules of this package count; by default those of all packages.
    """
    code = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file(name, root)
        if (
            path is None
            or name in code
            or _is_shared(name)
            or not f"{name}.".startswith(f"{within}." if within else "")
        ):
            continue
        code[name], imported = _read(path, name)
        waiting += imported
    total = hashlib.sha256()
    for name in sorted(code):
        total.update(f"{name}\0{code[name]}\n".encode())
    return total.hexdigest()[:12]


def _is_shared(name: str) -> bool:
    return any(name == shared or name.startswith(f"{shared}.") for shared in _SHARED)


def _file(module: str, root: Path) -> Path | None:
    """The file of a module below ``root``, or of an own member; None for one of a library, or a name in a module."""
    place = root.joinpath(*module.split("."))
    for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
        if path.is_file():
            return path
    return own_file(module) if root == _ROOT else None


@cache
def _read(path: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """(digest of the code, dotted names that it may import) of one file."""
    tree = ast.parse(path.read_text(encoding="utf-8"), path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    text = "".join(_canonical(tree, _settings(tree)))
    return hashlib.sha256(text.encode()).hexdigest(), tuple(_imports(tree, package))


def _computes(node: ast.AST) -> bool:
    """False for docstrings, for remarks about members, and for what only a type checker reads."""
    if isinstance(node, ast.Expr):
        return not (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str))
    if isinstance(node, ast.If):
        return bool(node.orelse) or not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
    if isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Subscript):
        return not (isinstance(node.annotation.value, ast.Name) and node.annotation.value.id == _REMARK)
    return not (isinstance(node, ast.ImportFrom) and node.module == "__future__")


def _settings(tree: ast.AST) -> frozenset[str]:
    """The names in a file that declare a setting; a function of its own with such a name is any other."""
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == _FIELDS)
    return frozenset(alias.name for node in imports for alias in node.names if not alias.asname).intersection(_SETTINGS)


def _canonical(node: object, settings: frozenset[str]) -> Iterator[str]:
    """The tree as text that is the same in every Python version that parses it: empty fields are left out."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in settings:
        # A setting's default; what is said of it computes nothing.
        default = [keyword for keyword in node.keywords if keyword.arg in ("default", None)]
        node = ast.Call(node.func, node.args[:1], default)
    if isinstance(node, list):
        for item in node:
            if not isinstance(item, ast.AST) or _computes(item):
                yield from _canonical(item, settings)
    elif isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for field, value in ast.iter_fields(node):
            if value is not None and value != [] and field not in ("ctx", "kind", "type_comment"):
                yield f" {field}="
                yield from _canonical(value, settings)
        yield ")"
    else:
        yield repr(node) + ","


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Modules named by import statements, also inside functions; a name of a module may be among them."""
    for node in _walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if _computes(child):
            yield child
            yield from _walk(child)
