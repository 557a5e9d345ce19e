"""Reading mammograms in processes of their own, so that no file can hurt the caller.

Below the line, what runs in such a process: it answers each request with a message of plain fields and arrays, and the
caller checks every one of them before it believes it.
"""

import atexit
import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydicom import Dataset
from pydicom.uid import UID

from mammoscope.errors import where_raised
from mammoscope.imaging.dicom import (
    MOST_HEADER_BYTES,
    DicomFile,
    EncodedHeader,
    decoded_header,
    encoded_header,
    facts,
    read_dicom,
    read_header,
)
from mammoscope.imaging.eligibility import OTHER_KINDS, Ineligibility, why_not_read
from mammoscope.imaging.files import SNIFFED_BYTES, FileKind, sniff
from mammoscope.imaging.mammogram import (
    WHITE,
    Acquisition,
    Laterality,
    Mammogram,
    MammogramError,
    MammogramUnavailableError,
    Placement,
    PresentationIntent,
    View,
)
from mammoscope.imaging.pixel_data import MAX_PIXELS
from mammoscope.imaging.preprocessing import (
    LARGEST_SIDE,
    Crop,
    PreparedImage,
    Preprocessing,
    ReducedMammogram,
    prepare,
    reduced_size,
)
from mammoscope.imaging.pyramid import Display, TilePyramid, tile_count, tile_pyramid, turned
from mammoscope.imaging.raster import read_picture
from mammoscope.lifecycle import Closing
from mammoscope.subprocesses import (
    Child,
    ChildDiedError,
    ChildHungError,
    ChildPool,
    ChildStartError,
    Message,
    forbid_system_calls,
    limit_memory,
    machine_memory,
    serve,
)

DECODER_SECONDS = 60.0
"""How long the decoding of one mammogram may take; the slowest real ones take two seconds."""

MOST_ANSWER_BYTES = 3 * MAX_PIXELS + MOST_HEADER_BYTES + (64 << 20)
"""Of the arrays that a decoder answers with: pixels or tiles, header, and the input of a network."""

MOST_DISPLAY_CHARACTERS = 256 * 1024

LONGEST_SENTENCE = 600

_Pixels = TypeVar("_Pixels", bound=np.generic)


class MammogramRefusedError(MammogramError):
    """A mammogram that is not to be read, or whose pixels cannot be had though its header was read.

    Parameters
    ----------
    header
        Its attributes; ``None`` where they cannot be had either.
    ineligibility
        Why it is not to be read; ``None`` where it cannot.
    """

    def __init__(
        self, sentence: str, header: Dataset | None = None, ineligibility: Ineligibility | None = None
    ) -> None:
        super().__init__(sentence)
        self.header = header
        self.ineligibility = ineligibility


class DecoderLostError(MammogramError):
    """The process that read the file died or hung on it.

    Parameters
    ----------
    killed
        Whether it was killed from outside, as a system does that has no memory left: the file may not be to blame.
    """

    def __init__(self, sentence: str, *, killed: bool = False) -> None:
        super().__init__(sentence)
        self.killed = killed


class MammogramReader(Closing):
    """Reads mammograms in child processes, which it keeps for the next one and replaces when they die.

    Whole files are read in the child: parsing, decoding and display, compressed or not, DICOM and pictures alike. That
    way there is one path for every file, nothing that a file does reaches the caller, and only what was asked for
    crosses the pipe. A child has no network, changes no file, and no more memory than `decoder_memory`.

    Safe to use from several threads; after a fork each process gets children of its own.

    Parameters
    ----------
    workers
        How many mammograms are read at once when several threads ask. Each child starts when it is first needed.
    timeout
        Seconds after which a decoder counts as hanging and is ended.

    Examples
    --------
    >>> with MammogramReader() as reader:  # doctest: +SKIP
    ...     mammogram = reader.read(Path("L_CC.dcm"))
    """

    def __init__(self, workers: int = 1, *, timeout: float = DECODER_SECONDS) -> None:
        if workers < 1:
            raise ValueError(f"a reader needs at least one worker, not {workers}")
        if timeout <= 0:
            raise ValueError(f"the time-out must be positive, not {timeout}")
        self._timeout = timeout
        self._pool = ChildPool(_decoder, workers)

    def read(self, path: Path | str, name: str | None = None) -> Mammogram:
        """Read one mammogram with all its pixels.

        Parameters
        ----------
        path
            A DICOM file or a PNG, JPEG, TIFF or PGM picture, told apart by content.
        name
            What messages call it; the file's name by default.

        Raises
        ------
        MammogramUnavailableError
            If the file cannot be opened, or no process to read it in can be started.
        MammogramError
            If it cannot be read as a mammogram; also when the decoder died or hung on it.
        ValueError
            If the reader is closed.
        """
        path = Path(path)
        name = name or path.name
        answer = self._ask("read", path, name)
        pixels = answer.array("pixels", np.uint16, 2)
        if min(pixels.shape, default=0) < 1 or pixels.size > MAX_PIXELS:
            raise _unbelievable(name)
        return Mammogram(pixels, name, path=path.absolute(), **answer.facts())

    def read_reduced(
        self,
        path: Path | str,
        name: str | None = None,
        *,
        preprocessing: Preprocessing | None = None,
        intents: Collection[PresentationIntent] = tuple(PresentationIntent),
    ) -> ReducedMammogram:
        """Read what a model and the results need of one mammogram that is to be read; its pixels stay in the child.

        Whether it is to be read is told from its header, before anything is decoded
        (`mammoscope.imaging.eligibility`).

        Parameters
        ----------
        path, name
            As of `read`.
        preprocessing
            What the model asks for; ``None`` for no model.
        intents
            What the model reads.

        Raises
        ------
        MammogramRefusedError
            If it is not to be read, or cannot be; it holds the header where there is one.
        DecoderLostError
            If the decoder died or hung on it.
        MammogramUnavailableError
            If the file cannot be opened, or no process to read it in can be started.
        ValueError
            If the reader is closed.
        """
        path = Path(path)
        name = name or path.name
        wanted = {
            "preprocessing": None if preprocessing is None else asdict(preprocessing),
            "intents": [str(intent) for intent in intents],
        }
        answer = self._ask("reduce", path, name, **wanted)
        picture = answer.array("picture", np.uint16, 2)
        rows, columns = answer.fields.rows, answer.fields.columns
        if rows * columns > MAX_PIXELS or picture.shape != reduced_size(rows, columns):
            raise _unbelievable(name)
        network_input = None if preprocessing is None else answer.network_input(preprocessing)
        return ReducedMammogram(
            picture, name, rows, columns, path=path.absolute(), network_input=network_input, **answer.facts()
        )

    def read_pyramid(
        self, path: Path | str, name: str | None = None, *, laterality: Laterality | None = None
    ) -> tuple[TilePyramid, Dataset | None]:
        """Read one mammogram as tiles for a viewer, and its header if it is a DICOM file.

        Parameters
        ----------
        path, name
            As of `read`.
        laterality
            Which breast, where the file does not say it.

        Raises
        ------
        MammogramUnavailableError
            If the file cannot be opened, or no process to read it in can be started.
        MammogramError
            If it cannot be read as a mammogram; also when the decoder died or hung on it.
        ValueError
            If the reader is closed.
        """
        path = Path(path)
        name = name or path.name
        answer = self._ask("pyramid", path, name, laterality=laterality and str(laterality))
        tiles, ends = answer.array("tiles", np.uint8, 1), answer.array("ends", np.int64, 1)
        try:
            display = Display.model_validate_json(answer.fields.display or "")
        except ValidationError as error:
            raise _unbelievable(name) from error
        whole = ends.size == tile_count(display.levels) and ends[-1] == tiles.size and bool(np.all(np.diff(ends) > 0))
        if not whole or display.rows * display.columns > MAX_PIXELS:
            raise _unbelievable(name)
        return TilePyramid(display, tiles, ends), answer.header

    def read_header(self, path: Path | str, name: str | None = None, *, keywords: Sequence[str] = ()) -> Dataset:
        """Read the attributes of a DICOM file without its pixel data, whether or not `read` takes it.

        Parameters
        ----------
        path
            A DICOM file.
        name
            What messages call it; the file's name by default.
        keywords
            Only these attributes; all but the largest (`mammoscope.imaging.dicom.encoded_header`) if there is none.

        Raises
        ------
        MammogramUnavailableError
            If the file cannot be opened, or no process to read it in can be started.
        MammogramError
            If it is no DICOM file or cannot be parsed; also when the parser died or hung on it.
        ValueError
            If the reader is closed.
        """
        header = self._ask("header", Path(path), name or Path(path).name, keywords=list(keywords)).header
        assert header is not None, "an answer without one is refused before"
        return header

    def _ask(self, task: str, path: Path, name: str, **wanted: Any) -> "_Answer":
        if self._pool.closed:
            raise ValueError("the reader is closed")
        seconds = self._timeout
        fields = {"task": task, "path": str(path.absolute()), "name": name, "seconds": seconds, **wanted}
        try:
            message = self._pool.ask(Message(fields), seconds)
        except ChildHungError as error:
            raise DecoderLostError(
                f"the decoder did not finish {name} within {seconds:g} s and was ended: the file is probably "
                "damaged, copy or send it again from its source."
            ) from error
        except ChildDiedError as error:
            raise DecoderLostError(
                f"the decoder crashed on {name} ({error.ending}): the file is probably damaged, "
                "copy or send it again from its source.",
                killed=error.killed,
            ) from error
        return _Answer.believed(message, name, needs_header=task == "header")

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The child processes that are there now, for monitoring."""
        return self._pool.process_ids

    def close(self) -> None:
        """End the child processes."""
        self._pool.close()


def read_mammogram(path: Path | str, *, name: str | None = None) -> Mammogram:
    """Read one mammogram with a reader that the whole program shares.

    Parameters
    ----------
    path
        A DICOM file or a PNG, JPEG, TIFF or PGM picture, told apart by content.
    name
        What messages call it; the file's name by default.

    Raises
    ------
    MammogramError
        If it cannot be read as a mammogram.
    """
    return _shared_reader.read(path, name)


def read_mammogram_header(path: Path | str, *, name: str | None = None) -> Dataset:
    """Read the attributes of a DICOM file with a reader that the whole program shares.

    Parameters
    ----------
    path, name
        As of `MammogramReader.read_header`.

    Raises
    ------
    MammogramError
        As of `MammogramReader.read_header`.
    """
    return _shared_reader.read_header(path, name)


def decoder_memory() -> int:
    """Bytes of memory that a decoder may have: three times what the largest accepted image takes, if there is."""
    return min(4 << 30, machine_memory() * 3 // 4)


class _Fields(BaseModel):
    """What a decoder answers, beside arrays. A file may have taken it over: nothing of it is believed unread."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    problem: str | None = None
    unavailable: bool = False
    where: str = ""
    ineligibility: str | None = None
    implicit: bool = False
    little_endian: bool = True
    sop_class: str = Field(default="", max_length=64)
    laterality: str | None = None
    view: str | None = None
    bits_stored: int | None = None
    rows: int = Field(default=1, gt=0, lt=1 << 20)
    columns: int = Field(default=1, gt=0, lt=1 << 20)
    display: str | None = Field(default=None, max_length=MOST_DISPLAY_CHARACTERS)
    placement: list[float] | None = Field(default=None, min_length=4, max_length=4)


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """An answer whose fields are of the right types, and its header."""

    name: str
    fields: _Fields
    arrays: dict[str, NDArray[Any]]
    header: Dataset | None

    @classmethod
    def believed(cls, message: Message, name: str, *, needs_header: bool) -> Self:
        """The answer that a message is.

        Raises
        ------
        MammogramUnavailableError, MammogramRefusedError
            If it says so.
        MammogramError
            If it is none.
        """
        try:
            fields = _Fields.model_validate(dict(message.fields))
            ineligibility = None if fields.ineligibility is None else Ineligibility(fields.ineligibility)
        except (ValidationError, ValueError) as error:
            raise _unbelievable(name) from error
        if fields.where:
            _note_not_decoded(name, _printable(fields.where))
        if fields.unavailable:
            raise MammogramUnavailableError(_printable(fields.problem or "the file cannot be opened."))
        try:
            header = _header_of(message, fields)
        except MammogramError as error:
            header, fields.problem = None, fields.problem or str(error)
        answer = cls(name, fields, dict(message.arrays), header)
        if ineligibility is not None:
            raise MammogramRefusedError(ineligibility.sentence, answer.header, ineligibility)
        if fields.problem is not None:
            raise MammogramRefusedError(_printable(fields.problem), answer.header)
        if needs_header and answer.header is None:
            raise _unbelievable(name)
        return answer

    def array(self, name: str, kind: type[_Pixels], dimensions: int) -> NDArray[_Pixels]:
        """An array of a type and number of dimensions."""
        array = self.arrays.get(name)
        if array is None or array.dtype != kind or array.ndim != dimensions:
            raise _unbelievable(self.name)
        return array

    def facts(self) -> dict[str, Any]:
        """What is known of the mammogram, by the fields of `Mammogram`."""
        if self.header is not None:
            return {"header": self.header, **facts(self.header, UID(self.fields.sop_class))}
        try:
            return {
                "laterality": self.fields.laterality and Laterality(self.fields.laterality),
                "view": self.fields.view and View(self.fields.view),
                "acquisition": Acquisition(bits_stored=self.fields.bits_stored),
            }
        except ValueError as error:
            raise _unbelievable(self.name) from error

    def network_input(self, preprocessing: Preprocessing) -> PreparedImage:
        """The mammogram as a model sees it that asks for that preprocessing."""
        pixels = self.array("input", np.float32, 2)
        place = self.fields.placement
        if pixels.shape != (preprocessing.rows, preprocessing.columns) or place is None or min(place[2:]) <= 0:
            raise _unbelievable(self.name)
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise _unbelievable(self.name)
        return PreparedImage(pixels, Placement(*place))


def _header_of(message: Message, fields: _Fields) -> Dataset | None:
    data = message.arrays.get("header")
    if data is None:
        return None
    return decoded_header(EncodedHeader(data.tobytes(), fields.implicit, fields.little_endian))


def _unbelievable(name: str) -> MammogramError:
    return MammogramRefusedError(
        f"the decoder gave an answer for {name} that cannot be: the file is probably damaged, "
        "copy or send it again from its source."
    )


def _printable(sentence: str) -> str:
    return "".join(c if c.isprintable() else " " for c in sentence[:LONGEST_SENTENCE])


def _decoder() -> Child:
    try:
        return Child(__name__, most_bytes=MOST_ANSWER_BYTES)
    except ChildStartError as error:
        raise MammogramUnavailableError(
            "the decoder process does not start: check that this Python can import mammoscope, and the free memory."
        ) from error


_shared_reader = MammogramReader()
atexit.register(_shared_reader.close)


def _note_not_decoded(name: str, error: str) -> None:
    import structlog  # which the decoding process has no use for and would start the slower

    structlog.get_logger(__name__).warning("image not decoded", image=name, error=error)


# In the child process ---------------------------------------------------------------------------------------------


MAX_FILE_BYTES = 1 << 30
"""No file of one mammogram comes near it: an uncompressed one has 30 to 60 MB."""


def read_file(path: Path, name: str) -> Mammogram:
    """Read one mammogram in this very process.

    Raises
    ------
    MammogramError
        If it cannot be read, or is blank: "no finding" would be said of a breast that nobody saw.
    """
    with _openable(name):
        kind = _kind(path, name)
        if kind is FileKind.DICOM:
            return _not_blank(read_dicom(path, name))
        if kind is FileKind.PICTURE:
            return _not_blank(read_picture(path, name))
    if kind is FileKind.EMPTY:
        raise MammogramError(f"{name} is empty: copy or send it again from its source.")
    if kind is FileKind.ENCRYPTED:
        raise MammogramError(f"{name} is encrypted as a whole (CMS): decrypt it first.")
    if kind is FileKind.OTHER_PICTURE:
        raise MammogramError(f"{name} is a picture in a format that is not read: save it as PNG, JPEG, TIFF or PGM.")
    raise MammogramError(f"{name} is no image: give a DICOM file or a PNG, JPEG, TIFF or PGM picture.")


def _not_blank(mammogram: Mammogram) -> Mammogram:
    if mammogram.pixels.min() == mammogram.pixels.max():
        raise MammogramError(
            f"{mammogram.name} is blank, all its pixels show one grey value: send or export it again from its source."
        )
    return mammogram


@contextlib.contextmanager
def _openable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MammogramUnavailableError(
            f"{name} cannot be opened ({error.strerror}): check the path and its permissions."
        ) from error


def _kind(path: Path, name: str) -> FileKind:
    if path.is_dir():
        raise MammogramError(f"{name} is a folder: name the image files in it.")
    if not path.exists():
        raise MammogramUnavailableError(f"{name} does not exist: check the path.")
    if not path.is_file():
        raise MammogramError(f"{name} is no regular file: give a DICOM file or a picture.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise MammogramError(f"{name} is larger than 1 GiB, which no single mammogram is: check the file.")
    with path.open("rb") as file:
        return sniff(file.read(SNIFFED_BYTES))


def main() -> None:
    """Answer requests until the standard input ends."""
    serve(_prepare, 1 << 20)


def _prepare() -> tuple[Message, Callable[[Message], Message]]:
    cv2.setNumThreads(1)
    limit_memory(decoder_memory())
    forbid_system_calls()
    return Message({}), _answer


def _answer(request: Message) -> Message:
    fields = request.fields
    path, name = Path(fields["path"]), fields["name"]
    try:
        match fields["task"]:
            case "header":
                message = _answer_header(path, name, fields["keywords"])
            case "pyramid":
                message = _answer_pyramid(path, name, fields["laterality"])
            case "reduce":
                message = _answer_reduced(path, name, fields)
            case _:
                message = _answer_whole(path, name)
    except BaseException as error:  # a decoder's panic is no Exception
        message = Message(_problem(error, name))
    return message


def _problem(error: BaseException, name: str) -> dict[str, Any]:
    if isinstance(error, MammogramError):
        return {"problem": str(error), "unavailable": isinstance(error, MammogramUnavailableError)}
    if isinstance(error, MemoryError):
        return {"problem": _TOO_LARGE.format(name=name)}
    return {"problem": _DAMAGED.format(name=name), "where": where_raised(error)}


_TOO_LARGE = "{name} needs more memory than there is to read it: check the file at its source."
_DAMAGED = "{name} cannot be read, it is probably damaged: copy or send it again from its source."


def _answer_header(path: Path, name: str, keywords: Sequence[str]) -> Message:
    with _openable(name):
        if _kind(path, name) is FileKind.DICOM:
            header = read_header(path, name, keywords)
            return _header_message(encoded_header(header), UID(""))
    raise MammogramError(f"{name} is no DICOM file.")


def _answer_reduced(path: Path, name: str, fields: Any) -> Message:
    given = fields["preprocessing"]
    preprocessing = None if given is None else Preprocessing(**given | {"crop": Crop(given["crop"])})
    intents = [PresentationIntent(intent) for intent in fields["intents"]]
    header = Message({})
    try:
        with _openable(name):
            if _kind(path, name) is not FileKind.DICOM:
                return _reduced(_Decoded.whole(read_file(path, name)), preprocessing, header)
            file = DicomFile.open(path, name)
            header = _header_message(file.encoded, file.sop_class)
            hindrance = why_not_read(file.header, intents)
            if hindrance not in OTHER_KINDS:
                file.check_kind()
            if hindrance is not None:
                return Message({"ineligibility": str(hindrance), **header.fields}, header.arrays)
            return _reduced(_Decoded.of(file, preprocessing), preprocessing, header)
    except BaseException as error:  # the header, where there is one, goes with whatever went wrong after it
        return Message({**_problem(error, name), **header.fields}, header.arrays)


def _answer_pyramid(path: Path, name: str, side: str | None) -> Message:
    header, laterality = Message({}), Laterality(side) if side else None
    with _openable(name):
        if _kind(path, name) is FileKind.DICOM:
            file = DicomFile.open(path, name)
            pyramid, header = file.pyramid(laterality), _header_message(file.encoded, file.sop_class)
        else:
            mammogram = read_file(path, name)
            white = (1 << (mammogram.acquisition.bits_stored or 16)) - 1
            turn = turned(mammogram.pixels, laterality or mammogram.laterality, None)
            pyramid = tile_pyramid(mammogram.pixels, scale=white / WHITE, turn=turn)
    fields = {"display": pyramid.display.model_dump_json(), **header.fields}
    return Message(fields, {"tiles": pyramid.tiles, "ends": pyramid.ends, **header.arrays})


def _answer_whole(path: Path, name: str) -> Message:
    header = Message({})
    with _openable(name):
        if _kind(path, name) is FileKind.DICOM:
            file = DicomFile.open(path, name)
            mammogram, header = _not_blank(file.mammogram()), _header_message(file.encoded, file.sop_class)
        else:
            mammogram = read_file(path, name)
    return Message({**_facts(mammogram), **header.fields}, {"pixels": mammogram.pixels, **header.arrays})


_SAMPLES_FOR_EACH = 2
"""Of a decoded image to each side of a pixel of the network's input, at least: what it averages decides, not what the
decoder did."""


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    """A mammogram with as many pixels as are needed; its file has `rows` x `columns`, `factor` times as many a side."""

    mammogram: Mammogram
    rows: int
    columns: int
    factor: int

    @classmethod
    def whole(cls, mammogram: Mammogram) -> Self:
        return cls(mammogram, mammogram.rows, mammogram.columns, 1)

    @classmethod
    def of(cls, file: DicomFile, preprocessing: Preprocessing | None) -> Self:
        wanted = 0 if preprocessing is None else _SAMPLES_FOR_EACH * max(preprocessing.rows, preprocessing.columns)
        found = file.reduced(max(LARGEST_SIDE, wanted))
        if found is None:
            return cls.whole(_not_blank(file.mammogram()))
        (rows, columns), (pixels, factor) = file.size, found
        mammogram = Mammogram(pixels, file.name, **facts(file.header, file.sop_class))
        return cls(_not_blank(mammogram), rows, columns, factor)

    def placement(self, prepared: PreparedImage) -> Placement:
        """Of the network's input, in the file's pixels.

        The samples of a lower resolution lie on every so many pixels of the file, not between them.
        """
        place, factor = prepared.placement, self.factor
        left, top = (edge * factor - (factor - 1) / 2 for edge in (place.left, place.top))
        return Placement(left, top, place.x_scale * factor, place.y_scale * factor)


def _reduced(decoded: _Decoded, preprocessing: Preprocessing | None, header: Message) -> Message:
    mammogram = decoded.mammogram
    fields = {**_facts(mammogram), "rows": decoded.rows, "columns": decoded.columns, **header.fields}
    arrays = dict(header.arrays)
    rows, columns = reduced_size(decoded.rows, decoded.columns)
    # INTER_AREA averages: fine detail does not turn into false texture.
    arrays["picture"] = np.asarray(
        cv2.resize(mammogram.pixels, (columns, rows), interpolation=cv2.INTER_AREA)
        if max(mammogram.pixels.shape) > LARGEST_SIDE
        else mammogram.pixels
    )
    if preprocessing is not None:
        prepared = prepare(mammogram, preprocessing)
        arrays["input"] = prepared.pixels
        place = decoded.placement(prepared)
        fields["placement"] = [float(edge) for edge in (place.left, place.top, place.x_scale, place.y_scale)]
    return Message(fields, arrays)


def _facts(mammogram: Mammogram) -> dict[str, Any]:
    return {
        "rows": mammogram.rows,
        "columns": mammogram.columns,
        "laterality": mammogram.laterality and str(mammogram.laterality),
        "view": mammogram.view and str(mammogram.view),
        "bits_stored": mammogram.acquisition.bits_stored,
    }


def _header_message(header: EncodedHeader, sop_class: UID) -> Message:
    fields = {"implicit": header.implicit, "little_endian": header.little_endian, "sop_class": str(sop_class)[:64]}
    return Message(fields, {"header": np.frombuffer(header.data, np.uint8)})
