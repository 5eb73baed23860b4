"""Every error that nightroute raises on purpose.

* NightrouteError              message says: what was got, what was expected, what to do. No traceback is shown for it.
  x UsageError          2      the command line cannot be carried out
  x DataError          65      a table breaks its contract as a whole
  x InputMissingError  66      nothing to read where the config points
  x TryLaterError      75      lock held, quota exhausted, breaker open, budget reached: the same command may work later
    + StorageError             the disk refused: full, read-only, no permission
  x ConfigError        78      config, credentials or artifact cannot be used as they are
    + ArtifactError            router folder missing, damaged or of another format version
    + ChangedRunError          a resume would mix two different runs
  x NothingToDoError   99      finished already, or no rows for this date
"""

from typing import ClassVar


class NightrouteError(Exception):
    """An error whose message is meant for the person who runs the job."""

    exit_code: ClassVar[int] = 70


class UsageError(NightrouteError):
    """The command line cannot be carried out."""

    exit_code = 2


class DataError(NightrouteError):
    """A table breaks its contract as a whole; single bad rows are data, not errors."""

    exit_code = 65


class InputMissingError(NightrouteError):
    """Nothing to read where the config points."""

    exit_code = 66


class TryLaterError(NightrouteError):
    """The same command may work later: lock held, quota exhausted, breaker open, budget reached."""

    exit_code = 75


class StorageError(TryLaterError):
    """The disk refused: full, read-only or no permission. What was paid for is kept; mend it and resume."""


class ConfigError(NightrouteError):
    """Config or credentials cannot be used as they are."""

    exit_code = 78


class ArtifactError(ConfigError):
    """A router folder is missing, damaged or of another format version."""


class ChangedRunError(ConfigError):
    """A resume would mix answers of two different runs."""


class NothingToDoError(NightrouteError):
    """Finished already, or no rows for this date (Airflow shows exit 99 as skipped)."""

    exit_code = 99
