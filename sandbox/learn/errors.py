"""Errors of learn mode.

ConfigError
`-- RecordingInvalid     a file of recorded answers cannot be used       learn.recording_invalid
RefusedError
|-- NotReplayed          the recording has no answer for this            learn.not_recorded
`-- TooLarge             an answer is larger than a recording holds      learn.too_large
UnavailableError
`-- LearnFailed          the run did not come to an end                  learn.failed
"""

from __future__ import annotations

from harbourmaster.core.errors import ConfigError, RefusedError, UnavailableError


class RecordingInvalid(ConfigError):
    code = "learn.recording_invalid"


class NotReplayed(RefusedError):
    code = "learn.not_recorded"


class TooLarge(RefusedError):
    code = "learn.too_large"


class LearnFailed(UnavailableError):
    code = "learn.failed"
