"""Numbers with their nouns, in pages and sentences."""


def counted(number: int, one: str, several: str | None = None) -> str:
    """``1 image``, ``2 images``.

    Parameters
    ----------
    several
        The plural, where it is not the singular with an s.
    """
    return f"{number} {one if number == 1 else several or f'{one}s'}"
