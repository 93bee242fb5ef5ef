"""Every error this project raises on purpose.

::

    RecsysError
    ├── ConfigurationError          a setting is wrong
    ├── DataError                   a table or a file of the caller's is wrong
    │   ├── FileFormatError         a file is not what its name says, or can't be read
    │   ├── MissingColumnError      a required column is not there
    │   ├── ColumnTypeError         a column has another type than the contract's
    │   ├── EmptyTableError         a table has no (usable) rows
    │   └── TooManyRejectsError     more rows break the contract than is allowed
    ├── TextError                   a text can't be rendered or encoded
    ├── ModelError                  weights are missing, damaged or of the wrong shape
    ├── BundleError                 a bundle or a registry is unusable
    │   ├── BundleNotFoundError     no such version, or nothing published yet
    │   ├── BundleCorruptError      a file is missing, extra, truncated or altered
    │   ├── BundleSignatureError    its signature is missing or wrong, or it is replayed
    │   ├── BundleDiskError         the disk or the file system refused
    │   ├── RegistryBusyError       another process is publishing
    │   └── WorseBundleError        what was trained ranks worse than what is in service
    ├── StateError                  the state store can't be opened, read or written
    │   ├── StateDamagedError       what it holds is damaged, or no state store at all
    │   ├── StateAnswerError        its server answered something else, or far too much
    │   └── StateUnavailableError   its server does not answer, or not in time
    │       └── StateNotAskedError  it failed so often just now that it was not asked
    ├── RequestError                a request can't be answered as asked; names the field
    │   ├── UnknownItemError        the item asked for is not in the catalogue
    │   └── UnknownBundleError      the bundle asked for is not in the registry
    └── ServiceError                a call was not answered, through no fault of the request
        ├── OverloadedError         the server is at its limit of calls
        ├── DeadlineError           the call's time ran out
        ├── CallCancelledError      the caller does not wait for the answer any more
        ├── UnavailableError        no server answers, or it is starting or stopping
        ├── SwapInProgressError     the server is already changing its bundle
        └── BundleRefusedError      the bundle asked for can't be served; the one before goes on
            └── BundleDamagedError  its files are not what was published

Messages say what is wrong, what was expected, what was found, where, and what to do.
"""

from __future__ import annotations


class RecsysError(Exception):
    """Base of every error raised on purpose; its text is written for the caller."""


class ConfigurationError(RecsysError):
    """A setting is wrong."""


class DataError(RecsysError):
    """A table or a file of the caller's is wrong."""


class FileFormatError(DataError):
    """A file is not what its name says, or can't be read."""


class MissingColumnError(DataError):
    """A required column is not there."""


class ColumnTypeError(DataError):
    """A column has another type than the contract's."""


class EmptyTableError(DataError):
    """A table has no usable rows."""


class TooManyRejectsError(DataError):
    """More rows break the contract than is allowed."""


class TextError(RecsysError):
    """A text can't be rendered or encoded."""


class ModelError(RecsysError):
    """Weights are missing, damaged or of the wrong shape."""


class BundleError(RecsysError):
    """A bundle or a registry is unusable."""


class BundleNotFoundError(BundleError):
    """No such version, or nothing published yet."""


class BundleCorruptError(BundleError):
    """A file of a bundle is missing, extra, truncated or altered."""


class BundleSignatureError(BundleError):
    """A bundle's signature is missing or another key's, or an old bundle was put back unasked."""


class BundleDiskError(BundleError):
    """The disk or the file system refused to read or write; once it is put right, try again."""


class RegistryBusyError(BundleError):
    """Another process is publishing into the same registry."""


class WorseBundleError(BundleError):
    """What was trained ranks worse than what is in service, or than the untuned model."""


class StateError(RecsysError):
    """The state store can't be opened, read or written."""


class StateDamagedError(StateError):
    """What the state store holds is damaged, or no state store at all."""


class StateAnswerError(StateError):
    """The state store's server answered something else than what was asked, or far too much."""


class StateUnavailableError(StateError):
    """The state store's server does not answer, or not in time; a later call may succeed."""


class StateNotAskedError(StateUnavailableError):
    """The state store's server failed so often just now that it was not asked; safe to retry."""


class RequestError(RecsysError):
    """A request can't be answered as asked.

    Attributes:
        field: name of the offending request field, as in the protos.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class UnknownItemError(RequestError):
    """The item asked for is not in the catalogue."""


class UnknownBundleError(RequestError):
    """The bundle asked for is not in the registry."""


class ServiceError(RecsysError):
    """A call was not answered, through no fault of the request."""


class OverloadedError(ServiceError):
    """The server is at its limit of calls.

    Attributes:
        retry_after_seconds: when to try again; None where nobody knows.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DeadlineError(ServiceError):
    """The call's time ran out."""


class CallCancelledError(ServiceError):
    """The caller does not wait for the answer any more."""


class UnavailableError(ServiceError):
    """No server answers, or it is starting or stopping; safe to retry."""


class SwapInProgressError(ServiceError):
    """The server is already changing its bundle; safe to retry."""


class BundleRefusedError(ServiceError):
    """The bundle asked for can't be served; the one before goes on."""


class BundleDamagedError(BundleRefusedError):
    """The bundle's files are not what was published; the one before goes on."""
