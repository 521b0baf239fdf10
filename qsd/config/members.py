"""Sections of the schema that members complete: a loss or a strategy declares its settings in its own file.

The section itself has only the field that chooses the member. Its other fields are the settings of *all* members of the
registry, so that every name has a default and a limit in every experiment, whichever member is chosen. They are
collected on first use: the members' files are imported then, and no earlier.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import typing
from dataclasses import MISSING, dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, cast

from qsd.errors import UserError
from qsd.registry import BrokenMemberError

if typing.TYPE_CHECKING:
    from qsd.registry import Registry

    class HasSettings(Protocol):
        """A member of a registry that has settings."""

        @property
        def settings(self) -> type:
            """A dataclass whose fields are made by the functions of ``qsd.config.fields``."""


S = TypeVar("S", bound="MemberSection")


@dataclass
class NoSettings:
    """For a member without any settings."""


class MemberSection:
    """A section of the schema that is completed by the settings of a registry's members.

    An object of such a section always has all settings: ``LossConfig(beta=3.0)`` works, and is a ``LossConfig``. A
    type checker knows only the section's own fields here; inside a member, its settings have their own types.

    Attributes:
        members: the package of the registry, such as ``qsd.losses``.
    """

    members: ClassVar[str]
    is_complete: ClassVar[bool] = False

    def __new__(cls, *_args: Any, **_values: Any) -> MemberSection:
        """An object of the completed section, which Python then initialises with the values."""
        return object.__new__(complete(cls))

    if typing.TYPE_CHECKING:

        def __init__(self, **values: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...


@dataclass(frozen=True)
class _Declared:
    """One setting as a class declares it; ``hint`` is its resolved type."""

    by: type
    hint: Any
    field: dataclasses.Field[Any]

    def agrees_with(self, other: _Declared) -> bool:
        """Whether both mean the same setting: one declaration that is shared, or two that say the same."""
        return self.by is other.by or self._content() == other._content()

    def _content(self) -> tuple[Any, ...]:
        return self.hint, default_of(self.field), dict(self.field.metadata)

    @property
    def file(self) -> str:
        """The file that has the declaration."""
        return str(sys.modules[self.by.__module__].__file__)


def default_of(item: dataclasses.Field[Any]) -> Any:
    """The default of a dataclass field, made by its factory if it has one."""
    return item.default if item.default_factory is MISSING else item.default_factory()


_COMPLETED: dict[type, type] = {}
"""Section -> the section with all settings; a process has one of each."""

BROKEN: list[str] = []
"""What is wrong with the members whose settings are unknown for that reason."""


def complete(section: type[S]) -> type[S]:
    """``section`` with the settings of all members, those of the first member (by name) first.

    A member whose file is broken is left out: it stops only who chooses it or gives one of its settings.

    Raises:
        UserError: two files declare a setting of one name differently, or a member's settings are no such declarations.
    """
    if "is_complete" in vars(section):
        return section
    if section not in _COMPLETED:
        _COMPLETED[section] = _collect(section)
    return cast("type[S]", _COMPLETED[section])


def _collect(section: type[MemberSection]) -> type:
    """A new dataclass: the section's own fields, then every member's."""
    registry: Registry[HasSettings] = importlib.import_module(section.members).REGISTRY
    settings = _declarations(section)
    own = set(settings)
    for name in registry.names():
        try:
            member = registry.get(name)
        except BrokenMemberError as error:
            BROKEN.append(str(error))
            continue
        for setting, declared in _settings_of(registry, name, member).items():
            known = settings.setdefault(setting, declared)
            if not known.agrees_with(declared):
                raise UserError(
                    f"{declared.file}: the setting '{setting}' is declared differently in {known.file}; "
                    "give it another name, or share one declaration"
                )
    fields = [(name, each.hint, _copy(each.field)) for name, each in settings.items() if name not in own]
    namespace = {"__module__": section.__module__, "__doc__": section.__doc__, "is_complete": True}
    return dataclasses.make_dataclass(section.__name__, fields, bases=(section,), namespace=namespace)


def _settings_of(registry: Registry[HasSettings], name: str, member: HasSettings) -> dict[str, _Declared]:
    """The settings that a member declares.

    Raises:
        UserError: they are no dataclass whose fields are made by the functions of ``qsd.config.fields``.
    """
    try:
        declared = _declarations(member.settings)
    except (TypeError, NameError) as error:  # no dataclass, or a type that is nowhere defined
        raise registry.broken(name, f"its settings are no dataclass with known types ({error})") from error
    for setting, each in declared.items():
        if "kind" not in each.field.metadata:
            text = f"the setting '{setting}' must be made by meaning, execution or location of qsd.config.fields"
            raise registry.broken(name, text)
    return declared


def _declarations(settings: type) -> dict[str, _Declared]:
    """Every field of a dataclass with the class that declares it, which may be a base of it."""
    hints = typing.get_type_hints(settings)
    return {
        item.name: _Declared(
            next(base for base in settings.__mro__ if item.name in vars(base).get("__annotations__", {})),
            hints[item.name],
            item,
        )
        for item in dataclasses.fields(settings)
    }


def _copy(item: dataclasses.Field[Any]) -> Any:
    """A field that another dataclass may have; a field object belongs to one class."""
    if item.default_factory is not MISSING:
        return field(default_factory=item.default_factory, metadata=item.metadata)
    return field(default=item.default, metadata=item.metadata)
