"""Every error that halfpixel raises on purpose.

    HalfpixelError
    ├── InputError (also a ValueError)      what the user gave is not usable
    │   ├── ArgumentError                   a value passed in code or on the command line
    │   ├── ImageError                      an image file or array
    │   │   └── UnreadableTileError         a part of one; the rest of it can be read
    │   ├── AnnotationError                 an annotation file or a data-set folder
    │   └── ModelFileError                  a model file or foreign weights
    ├── DownloadError (also an OSError)     the network or a checksum let us down
    └── MissingDependencyError (also an ImportError)   an optional library is not installed

Messages name the file (and the annotation or field), what was expected and what came.
"""

import re

LONGEST_REASON = 300
"""Characters that a message of ours quotes of another library's."""


class HalfpixelError(Exception):
    """Base class of every deliberate error."""


class InputError(HalfpixelError, ValueError):
    """Something the user gave is not usable."""


class ArgumentError(InputError):
    """A value passed in code or on the command line is out of its range."""


class ImageError(InputError):
    """An image file or array cannot be used."""


class UnreadableTileError(ImageError):
    """A tile or strip of an image is damaged or lies beyond the end of its file; other parts may be whole."""


class AnnotationError(InputError):
    """An annotation file or data-set folder is broken."""


class ModelFileError(InputError):
    """A model file or foreign weights cannot be used."""


class DownloadError(HalfpixelError, OSError):
    """A file could not be fetched, or is not the file that was promised."""


class MissingDependencyError(HalfpixelError, ImportError):
    """An optional library is needed for this and is not installed."""


class ImageWarning(UserWarning):
    """An image was used, but not everything in it as one may expect."""


def reason(error: BaseException, *, last_line: bool = False) -> str:
    """What another library says went wrong, to stand in a message of ours: on one line, without what drives a terminal.

    Args:
        error: of any class.
        last_line: take that line alone, for libraries that tell first where in their code it was.
    """
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error))
    text = text.partition("; use sys.")[0]  # Python's advice on numbers of thousands of digits
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    text = (lines[-1] if last_line else " ".join(lines)) if lines else type(error).__name__
    text = re.sub(r"[\x00-\x1f\x7f]", " ", text)
    text = re.sub("`+", "'", text)  # which we keep for names of options
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
