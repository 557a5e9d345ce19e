"""What the `with` statement does with whatever is closed, or started and stopped."""

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Something that is open from the start; `with` closes it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files, connections and processes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Running(ABC):
    """Something that runs beside its caller; `with` starts and stops it."""

    @abstractmethod
    def start(self) -> None:
        """Begin, and return."""

    @abstractmethod
    def stop(self) -> None:
        """End, and return when nothing of it runs any more."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
