"""One registry per kind, one file or folder per member, whose name is the member's, unless no module can have it."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar, cast

from qsd.errors import UserError
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


class Registry(Generic[T]):
    """The members of one kind.

    Args:
        kind: what a member is called in messages, for example ``loss``.
        package: the package whose modules are the members, for example ``qsd.losses``.
        attribute: the module attribute that holds the member, for example ``LOSS``.
        renamed: names that no module can have, by the name of their file, for example ``{"hps_v2_1": "hps_v2.1"}``.
        file: of members that are folders of the package, the module in each that has the attribute.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        attribute: str,
        renamed: Mapping[str, str] | None = None,
        file: str | None = None,
    ) -> None:
        self.kind = kind
        self.package = package
        self.attribute = attribute
        self.renamed = dict(renamed or {})
        self.file = file
        self._imported: dict[str, ModuleType] = {}

    def names(self) -> list[str]:
        """Names of all members, sorted; reads the folder and imports no member."""
        spec = importlib.util.find_spec(self.package)
        assert spec is not None, self.package
        assert spec.submodule_search_locations is not None, self.package
        folders = [Path(location) for location in spec.submodule_search_locations]
        if self.file is None:
            stems = [path.stem for folder in folders for path in folder.glob("*.py")]
        else:
            stems = [path.parent.name for folder in folders for path in folder.glob(f"*/{self.file}.py")]
        return sorted(self.renamed.get(stem, stem) for stem in stems if not stem.startswith("_"))

    def unknown(self, name: str) -> str:
        """The message for a name that is no member."""
        known = self.names()
        return f"unknown {self.kind} {name!r}{suggest(name, known)}; known: {', '.join(known)}"

    def get(self, name: str) -> T:
        """The member called ``name``.

        Raises:
            UserError: no such member, or its file does not define the expected attribute.
        """
        module = self._imported.get(name)
        if module is None:
            module = importlib.import_module(self._module(name))
            if not hasattr(module, self.attribute):
                raise UserError(f"{module.__file__}: a {self.kind} file must define {self.attribute}")
            self._imported[name] = module
        return cast("T", getattr(module, self.attribute))

    def source(self, name: str) -> str:
        """12 hex digits of the member's own code (``qsd.source``); its files are read once per process.

        Raises:
            UserError: no such member.
        """
        return source_digest(self._module(name))

    def _module(self, name: str) -> str:
        """The dotted name of a member's module.

        Raises:
            UserError: no such member.
        """
        if name not in self.names():
            raise UserError(self.unknown(name))
        stem = next((stem for stem, renamed in self.renamed.items() if renamed == name), name)
        return f"{self.package}.{stem}" if self.file is None else f"{self.package}.{stem}.{self.file}"
