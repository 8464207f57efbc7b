"""The error tree.

::

    MuseBridgeError            anything a user can mend; the CLI prints its one line
    ├── MidiFileError          a .mid that cannot be read or holds nothing to play
    ├── CorpusError            a corpus folder that is missing, damaged or empty
    ├── CheckpointError        a training run that cannot be loaded or resumed
    ├── ConfigError            a preset or parameter outside its range
    ├── ModelError             an exported model that is damaged or does not fit
    ├── EngineError            inference failed while playing
    ├── PortError              a MIDI system or port that cannot be used
    ├── ReplayError            a session's log that cannot be written or played again
    ├── ReportError            a report that cannot be written
    └── PictureError           a picture that cannot be written

Every message says what was wrong, what was found, and what to do.
"""


class MuseBridgeError(Exception):
    """Base of every error that MuseBridge raises for its user."""


class MidiFileError(MuseBridgeError):
    """A MIDI file cannot be read or holds nothing to play."""


class CorpusError(MuseBridgeError):
    """A token corpus is missing, damaged or empty."""


class CheckpointError(MuseBridgeError):
    """A training checkpoint cannot be loaded or resumed."""


class ConfigError(MuseBridgeError):
    """A preset or a parameter is unknown or outside its range."""


class ModelError(MuseBridgeError):
    """An exported model is damaged or does not fit this program."""


class EngineError(MuseBridgeError):
    """Inference failed while playing."""


class PortError(MuseBridgeError):
    """A MIDI system or port cannot be used."""


class ReplayError(MuseBridgeError):
    """A session's log cannot be written or played again."""


class ReportError(MuseBridgeError):
    """A report cannot be written."""


class PictureError(MuseBridgeError):
    """A picture cannot be written."""


def one_line(error: Exception) -> str:
    """Return an error's message without its line breaks, cut where it is long."""
    return " ".join(str(error).split())[:200]
