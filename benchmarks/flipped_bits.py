"""Random bits of a run's checkpoints, flipped and put back."""

import dataclasses
import random
from pathlib import Path


def checkpoint_folders(run: Path) -> list[Path]:
    """Of all checkpoints, whole or not."""
    return [
        folder for kind in ("checkpoints", "step_checkpoints") for folder in (run / kind).glob("*")
    ]


def unfinished_saves(run: Path) -> list[Path]:
    """What saves left behind that never came to their end."""
    return [folder for folder in checkpoint_folders(run) if not (folder / "manifest.json").exists()]


@dataclasses.dataclass(frozen=True)
class FlippedBit:
    """The file in which a bit was flipped, as it was before and after."""

    file: Path
    before: bytes
    after: bytes

    @classmethod
    def somewhere(cls, run: Path, chance: random.Random) -> "FlippedBit | None":
        """Flips a bit of a checkpoint's file; None without any file."""
        files = [file for folder in checkpoint_folders(run) for file in folder.rglob("*")]
        files = sorted(file for file in files if file.is_file() and file.stat().st_size)
        if not files:
            return None
        file = chance.choice(files)
        before = file.read_bytes()
        after = bytearray(before)
        after[chance.randrange(len(after))] ^= 1 << chance.randrange(8)
        file.write_bytes(after)
        return cls(file, before, bytes(after))

    def undo(self) -> None:
        """Puts the file back, unless another one is in its place by now."""
        if self.file.exists() and self.file.read_bytes() == self.after:
            self.file.write_bytes(self.before)
