"""Image files that a list names by relative path: in folders, or in a zip archive that replaces a folder."""

from __future__ import annotations

import errno
import os
import re
import stat
import zipfile
from functools import lru_cache
from typing import TYPE_CHECKING

from qsd.data.lfs import pointer_hint
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CACHED_FILES = 16
"""Neighbouring rows of a list share images: every image of a ranking is in several pairs."""

MOST_BYTES = 256 * 1024 * 1024
"""Of one image file; photographs have a tenth of it."""
_LONGEST_NAME = 4096
"""No system opens longer ones; a text of thousands of slashes would be looked for in as many archives."""
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL}


class RefusedImageError(Exception):
    """Raised for a file that cannot be an image of the data set; ``reason`` is a reason of ``problems.json``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ImageFiles:
    """Bytes of images by relative path.

    A folder ``a/b`` may be replaced by an archive ``a/b.zip``, whose members may or may not begin with ``b/``. A path
    may be absolute, but may not leave ``root``, neither through ``..`` nor through a link. Backslashes, in lists and in
    archives made on Windows, are read as slashes where no file has such a name.

    Args:
        root: the folder of the data set.
        places: folders below ``root`` to search, in this order; ``""`` is ``root`` itself.
    """

    def __init__(self, root: Path, places: tuple[str, ...] = ("",)) -> None:
        self.root = root
        self.places = places
        self.read = lru_cache(_CACHED_FILES)(self._read)
        self._root = root.resolve()
        self._archives: dict[str, _Archive | None] = {}

    def _read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            RefusedImageError: ``path_outside_folder``, ``missing_image``, ``unreadable_image`` or ``corrupt_image``.
        """
        for relative in self._candidates(name):
            try:
                path = self.root / relative
                if not path.resolve().is_relative_to(self._root):
                    raise RefusedImageError("path_outside_folder")
                status = path.stat()
                if stat.S_ISDIR(status.st_mode):
                    continue
                _check(stat.S_ISREG(status.st_mode), status.st_size)  # reading a pipe would wait for ever
                return path.read_bytes()
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise RefusedImageError("unreadable_image") from None
            except RuntimeError:  # links in a circle
                raise RefusedImageError("unreadable_image") from None
            except ValueError:  # NUL or half a surrogate pair: no file has such a name
                raise RefusedImageError("missing_image") from None
        for archive, member in self._members(name):
            return _read_member(archive, member)
        raise RefusedImageError("missing_image")

    def fingerprint(self, name: str) -> str:
        """A text that changes with the file: size on disk, or size and checksum in an archive; empty without a file."""
        for relative in self._candidates(name):
            try:
                return str(os.stat(f"{self.root}/{relative}").st_size)  # noqa: PTH116 -- ten times as quick as a Path
            except (OSError, ValueError):
                continue
        return next((f"{member.file_size}:{member.CRC:08x}" for _, member in self._members(name)), "")

    def _candidates(self, name: str) -> list[str]:
        """Possible places of the file, relative to ``root``.

        Raises:
            RefusedImageError: the path leaves the folder.
        """
        if not name or len(name) > _LONGEST_NAME:
            raise RefusedImageError("missing_image")
        spellings = [name] if "\\" not in name else [name, name.replace("\\", "/")]
        return [
            f"{place}/{plain}" if place else plain for plain in map(self._inside, spellings) for place in self.places
        ]

    def _inside(self, name: str) -> str:
        """A path relative to ``root``.

        Raises:
            RefusedImageError: it leaves the folder.
        """
        plain = os.path.normpath(name)
        if os.path.isabs(plain):  # noqa: PTH117 (a string: this is called for every image of a list)
            for folder in (os.path.abspath(self.root), str(self._root)):  # noqa: PTH100
                if plain.startswith(f"{folder}{os.sep}"):
                    return plain[len(folder) + 1 :]
        if plain.split(os.sep, 1)[0] in ("", os.pardir) or _DRIVE.match(plain):  # absolute: begins with an empty part
            raise RefusedImageError("path_outside_folder")
        return plain

    def _members(self, name: str) -> Iterator[tuple[zipfile.ZipFile, zipfile.ZipInfo]]:
        """Entries of the file in archives that replace one of its folders, outermost folder first."""
        for relative in self._candidates(name):
            for slash in (place for place, character in enumerate(relative) if character == "/"):
                folder, inner = relative[:slash], relative[slash + 1 :]
                archive = self._archive(f"{folder}.zip")
                if archive is None:
                    continue
                for member in (f"{os.path.basename(folder)}/{inner}", inner):  # noqa: PTH119
                    if member in archive.members:
                        yield archive.file, archive.members[member]

    def _archive(self, name: str) -> _Archive | None:
        if name not in self._archives:
            path = self.root / name
            try:
                is_there = path.is_file()
                if is_there and not path.resolve().is_relative_to(self._root):
                    raise RefusedImageError("path_outside_folder")
                self._archives[name] = _Archive(path) if is_there else None
            except (zipfile.BadZipFile, OSError) as error:
                if isinstance(error, OSError) and error.errno in _ABSENT:  # such as a name that is too long
                    self._archives[name] = None
                    return None
                hint = pointer_hint(path) or f"not a readable zip archive: {error}; fetch or pack it again"
                raise UserError(f"{path}: {hint}") from None
            except ValueError:  # NUL in the name
                return None
        return self._archives[name]


class _Archive:
    """A zip archive and its members by name, with slashes between folders."""

    def __init__(self, path: Path) -> None:
        self.file = zipfile.ZipFile(path)
        names = self.file.NameToInfo
        self.members = {name.replace("\\", "/"): member for name, member in names.items()} | names


def _check(is_file: bool, size: int) -> None:
    """Refuse what is not read into memory."""
    if not is_file:
        raise RefusedImageError("not_a_file")
    if size > MOST_BYTES:
        raise RefusedImageError("too_large")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    import zlib

    _check(True, member.file_size)  # a few kilobytes can unpack to gigabytes; more than stated is never unpacked
    try:
        return archive.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise RefusedImageError("corrupt_image") from None
    except (OSError, RuntimeError, NotImplementedError):  # the last two: encrypted, or packed in an unknown way
        raise RefusedImageError("unreadable_image") from None
