"""What the builder and the entry reader refuse.

HarbourError
|-- ConfigError
|   |-- EntryInvalid         entry.invalid          a server.yaml is not what the schema says
|   `-- FolderInvalid        entry.folder           a server's folder holds what none of ours may hold
|-- NotFoundError
|   `-- EntryNotFound        entry.not_found        no such server in the starter catalog
|-- EngineError
|   |-- BaseUnavailable      build.base             no base image: the hub does not answer and mmdebstrap cannot help
|   `-- BuildFailed          build.failed           a build step ended badly
|-- IntegrityError
|   |-- LayerRefused         build.layer            a layer holds what no image of ours may hold
|   `-- ImageDiffers         build.image_differs    the engine's image is not the one that was assembled
|-- RefusedError
|   |-- LockMissing          entry.lock             dependencies are not pinned with hashes, or not the ones the entry names
|   `-- EntryUnbuildable     entry.unbuildable      the entry is of a kind that is not built or not run from an image here
`-- UnavailableError
    `-- ListingFailed        listing.failed         the server did not start, or did not answer
"""

from __future__ import annotations

from harbourmaster.core.errors import (
    ConfigError,
    EngineError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)


class EntryInvalid(ConfigError):
    code = "entry.invalid"


class FolderInvalid(ConfigError):
    code = "entry.folder"


class EntryNotFound(NotFoundError):
    code = "entry.not_found"


class BaseUnavailable(EngineError):
    code = "build.base"


class BuildFailed(EngineError):
    code = "build.failed"


class LayerRefused(IntegrityError):
    code = "build.layer"


class ImageDiffers(IntegrityError):
    code = "build.image_differs"


class LockMissing(RefusedError):
    code = "entry.lock"


class EntryUnbuildable(RefusedError):
    code = "entry.unbuildable"


class ListingFailed(UnavailableError):
    code = "listing.failed"
