"""The one family of errors that a user may see.

A message names the file or key, what was found, what was expected and what to do; the
command line prints it on one line and never shows a traceback for it.
"""


class CaptionerError(Exception):
    """Base of every error that is the input's or the user's to mend."""


class ConfigError(CaptionerError):
    """A configuration key or value that cannot be used."""


class DataError(CaptionerError):
    """A data set that cannot be read: a missing file, an unknown format, a bad row."""


class SplitError(DataError):
    """A split that the data set does not have."""


class ImageError(CaptionerError):
    """An image that cannot be turned into pixels: of neither kind below, damaged or missing."""


class ImageFormatError(ImageError):
    """Bytes that are no image of a format that is read."""


class ImageSizeError(ImageError):
    """An image of too many pixels, or of none."""


class QuestionError(CaptionerError):
    """A question that cannot be asked: no text, nothing in it, or too long."""


class CheckpointError(CaptionerError):
    """A checkpoint that is missing, torn or of another shape."""


class MetricError(CaptionerError):
    """Candidates and references that cannot be scored together."""
