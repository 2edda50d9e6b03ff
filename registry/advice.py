"""What is worth saying of an entry that may stand: named warnings, each with a place and a remedy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from registry.entry_file import Document, Path_, dotted


@dataclass(frozen=True)
class Advice:
    """``code``: stable and dotted, as an error's."""

    code: str
    file: Path
    line: int
    key: str
    message: str
    remedy: str

    @classmethod
    def at(cls, document: Document, key: Path_, code: str, message: str, remedy: str) -> Advice:
        return cls(code, document.path, document.line(key), dotted(key), message, remedy)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"file": str(self.file)}

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.key}: {self.message} ({self.code})"
