"""Exceptions with messages for users.

A message says what happened, where, what was expected and what to do. The command line prints it
on one line, without a traceback.
"""


class CaptionerError(Exception):
    """Base class of all errors that the user can correct."""


class ConfigError(CaptionerError):
    """A configuration key is unknown, or a value is invalid."""


class DataError(CaptionerError):
    """A data set cannot be read: a file is missing or its format unknown."""


class SplitError(DataError):
    """A data set does not have the split."""


class InputError(CaptionerError):
    """An image or a recording cannot be decoded, or the model does not take it."""


class ImageError(InputError):
    """An image cannot be decoded, because it is damaged or missing, or for a reason below."""


class ImageFormatError(ImageError):
    """The bytes are no image of a supported format."""


class ImageSizeError(ImageError):
    """An image has too many pixels, or none."""


class AudioError(InputError):
    """A recording cannot be decoded, because it is damaged or missing, or for a reason below."""


class AudioFormatError(AudioError):
    """The bytes are no recording in a supported format."""


class AudioSizeError(AudioError):
    """A recording is too long or has too many channels."""


class QuestionError(CaptionerError):
    """A question is empty, too long or no text."""


class CheckpointError(CaptionerError):
    """A checkpoint is missing, incomplete or does not match the model."""


class MetricError(CaptionerError):
    """Candidates cannot be scored against the references."""


class DependencyError(CaptionerError):
    """An optional library is not installed."""
