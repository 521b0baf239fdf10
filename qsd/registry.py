"""One registry per kind, one file or folder per member, whose name is the member's, unless no module can have it."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast

from qsd.errors import UserError
from qsd.own_members import add_to, folder_of
from qsd.source import source_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

T = TypeVar("T")

Remark = Annotated[T, "a remark about a member"]
"""Of a field, with a default, that says something about members and changes no result: adding one changes no key
(``qsd.source``). A member that gives it another value says so in its own file, which counts."""


def suggest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'dpo'?)`` when a known word is near, else the empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


def suggest_field(dotted: str, known: Iterable[str], sections: Iterable[str] = ()) -> str:
    """Like ``suggest`` for dotted names: first those in other sections whose last part is the same, then sections."""
    names = list(known)
    same = [name for name in names if name.rpartition(".")[2] == dotted.rpartition(".")[2]]
    if same:
        return suggest(dotted, same) or f" (did you mean '{same[0]}'?)"
    return suggest(dotted, [*names, *sections])


class BrokenMemberError(UserError):
    """The file of a member cannot be used: it does not parse, its import fails, or it defines no such member."""


_ROOT = Path(__file__).resolve().parents[1]
"""The project: paths in messages are relative to it."""


class Registry(Generic[T]):
    """The members of one kind.

    Args:
        kind: what a member is called in messages, for example ``loss``.
        package: the package whose modules are the members, for example ``qsd.losses``.
        attribute: the module attribute that holds the member, for example ``LOSS``.
        renamed: names that no module can have, by the name of their file, for example ``{"hps_v2_1": "hps_v2.1"}``.
        file: of members that are folders of the package, the module in each that has the attribute.
        member_type: class of the members; by default the one in the annotation of ``REGISTRY`` in the package's
            ``__init__.py``. Without either, every value is a member.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        attribute: str,
        renamed: Mapping[str, str] | None = None,
        file: str | None = None,
        member_type: type | None = None,
    ) -> None:
        self.kind = kind
        self.package = package
        self.attribute = attribute
        self.renamed = dict(renamed or {})
        self.file = file
        self._type = member_type
        self._imported: dict[str, ModuleType] = {}
        add_to(package)

    def names(self) -> list[str]:
        """Names of all members, sorted; reads the folder and imports no member."""
        folders = self._folders()
        if self.file is None:
            stems = [path.stem for folder in folders for path in folder.glob("*.py")]
            self._check_own(folders)
        else:
            stems = [path.parent.name for folder in folders for path in folder.glob(f"*/{self.file}.py")]
        return sorted(self.renamed.get(stem, stem) for stem in stems if not stem.startswith("_"))

    def unknown(self, name: str) -> str:
        """The message for a name that is no member."""
        known = self.names()
        own = folder_of(self.package)
        hint = f" (and what is in {own}/)" if own is not None and own.is_dir() else ""
        return f"unknown {self.kind} {name!r}{suggest(name, known)}; known: {', '.join(known)}{hint}"

    def get(self, name: str) -> T:
        """The member called ``name``.

        Raises:
            BrokenMemberError: its file cannot be imported, or the attribute is missing or of another type.
            UserError: no such member.
        """
        module = self._imported.get(name)
        if module is None:
            dotted = self._module(name)
            try:
                module = importlib.import_module(dotted)
            except UserError:
                raise
            except Exception as error:  # whatever its code may raise: it is the user's own
                raise self.broken(name, error) from error
            self._check(name, module)
            self._imported[name] = module
        return cast("T", getattr(module, self.attribute))

    def source(self, name: str) -> str:
        """12 hex digits of the member's own code (``qsd.source``); its files are read once per process.

        Raises:
            BrokenMemberError: a file of its code does not parse.
            UserError: no such member.
        """
        try:
            return source_digest(self._module(name))
        except SyntaxError as error:
            raise self.broken(name, error) from error

    def broken(self, name: str, problem: Exception | str) -> BrokenMemberError:
        """The error that says where a member's file is wrong: at the deepest line of this project that raised."""
        path, line, text = self._path(name), None, str(problem)
        if isinstance(problem, SyntaxError):
            path, line, text = Path(problem.filename or path), problem.lineno, problem.msg
        elif isinstance(problem, Exception):
            text = f"{type(problem).__name__}: {problem}"
            for frame in traceback.extract_tb(problem.__traceback__):
                inside = Path(frame.filename) == path or _is_of_project(Path(frame.filename))
                if inside and frame.filename != __file__:
                    path, line = Path(frame.filename), frame.lineno
        place = path.relative_to(_ROOT) if _is_of_project(path) else path
        remedy = "repair the file or remove it"
        if path != self._path(name):
            remedy = f"repair it, or remove the {self.kind} {name!r} that imports it"
        return BrokenMemberError(f"{place}{f':{line}' if line else ''}: {text}; {remedy}")

    def _check_own(self, folders: list[Path]) -> None:
        """Refuse own members with the name of one that the package has: Python would import that one.

        Raises:
            UserError: with the file.
        """
        for folder in folders[1:]:
            for path in folder.glob("*.py"):
                if (folders[0] / path.name).is_file() and not path.name.startswith("__"):
                    raise UserError(
                        f"{path}: the {self.kind} {path.stem!r} is already there; give the file another name"
                    )

    def _check(self, name: str, module: ModuleType) -> None:
        """Whether a module has a member.

        Raises:
            BrokenMemberError: the attribute is missing or of another type.
        """
        if not hasattr(module, self.attribute):
            raise self.broken(name, f"the file of a {self.kind} must define {self.attribute}")
        value, wanted = getattr(module, self.attribute), self._type or _annotated_type(self.package)
        if wanted is not None and not isinstance(value, wanted):
            raise self.broken(name, f"{self.attribute} must be a {wanted.__name__}, not {value!r:.60}")

    def _path(self, name: str) -> Path:
        """The file of a member."""
        inner = Path(*self._module(name).removeprefix(f"{self.package}.").split(".")).with_suffix(".py")
        return next(folder / inner for folder in self._folders() if (folder / inner).is_file())

    def _folders(self) -> list[Path]:
        """The folders of the package; one, unless its path was extended."""
        spec = importlib.util.find_spec(self.package)
        assert spec is not None, self.package
        assert spec.submodule_search_locations is not None, self.package
        return [Path(location) for location in spec.submodule_search_locations]

    def _module(self, name: str) -> str:
        """The dotted name of a member's module.

        Raises:
            UserError: no such member.
        """
        if name not in self.names():
            raise UserError(self.unknown(name))
        stem = next((stem for stem, renamed in self.renamed.items() if renamed == name), name)
        return f"{self.package}.{stem}" if self.file is None else f"{self.package}.{stem}.{self.file}"


def _annotated_type(package: str) -> type | None:
    """``Loss`` where a package says ``REGISTRY: Registry[Loss[Any]] = ...``; None if it says nothing.

    The classes of members belong to their source (``qsd.source``), so the packages stay as they are.
    """
    module = sys.modules[package]
    annotation = getattr(module, "__annotations__", {}).get("REGISTRY")
    if annotation is None:
        return None
    hint: Any = eval(annotation, vars(module)) if isinstance(annotation, str) else annotation
    (member,) = typing.get_args(hint)
    return typing.get_origin(member) or cast("type", member)


def _is_of_project(path: Path) -> bool:
    return path.is_relative_to(_ROOT) and "site-packages" not in path.parts
