"""Recognise what must never be copied: files and variables that hold keys, and texts in which a key can be seen."""

from __future__ import annotations

import re
from fnmatch import fnmatch

_NAMES = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    ".netrc",
    "_netrc",
    "netrc",
    ".pypirc",
    ".git-credentials",
    "credentials",
    "credentials.json",
    "id_rsa*",
    "id_ed25519*",
    "id_ecdsa*",
)
_TEXTS = {
    "a W&B key": r"(?i:wandb|api[_ -]?key)[^\n]{0,60}?\b[0-9a-f]{40}\b|\bwandb_v1_\w{20,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "an AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_\w{40,}",
    "an API key": r"\bsk-[A-Za-z0-9_-]{32,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a URL with a password": r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"<>{}$]+:[^\s/:@'\"<>{}$]+@[\w.-]",
}
_VARIABLE = re.compile(
    r"SECRET|PASSW|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY"
    r"|TOKEN(?![A-Z])"  # not TOKENIZERS_PARALLELISM
    r"|(?:^|_)(?:KEYS?|JWT|COOKIES?)(?![A-Z])",  # not MONKEY_PATCH
    re.IGNORECASE,
)
_PATTERNS = {kind: re.compile(pattern.encode()) for kind, pattern in _TEXTS.items()}


def named_secret(name: str) -> bool:
    """True for a file name under which people keep keys."""
    return any(fnmatch(name.lower(), pattern) for pattern in _NAMES)


def secret_variable(name: str) -> bool:
    """True for names of environment variables whose values must not be written or passed on."""
    return _VARIABLE.search(name) is not None


def url_with_password(text: str) -> bool:
    """True for text with an address that has a name and a password before the host."""
    return _PATTERNS["a URL with a password"].search(text.encode()) is not None


def secret_in(content: bytes) -> str | None:
    """What kind of secret ``content`` seems to hold, and on which line: ``a W&B key on line 3``; None without one."""
    for kind, pattern in _PATTERNS.items():
        match = pattern.search(content)
        if match:
            line = content.count(b"\n", 0, match.start()) + 1
            return f"{kind} on line {line}"
    return None
