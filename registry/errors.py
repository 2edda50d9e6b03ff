"""What the registry refuses, and how it says so.

HarbourError
|-- NotFoundError
|   |-- BlobMissing          blob.missing               a digest that the layout does not hold
|   |-- ImageNotFound        image.not_found            no image of that name or digest
|   `-- RemoteNotFound       remote.not_found           the registry has no such image
|-- IntegrityError
|   |-- LayoutInvalid        layout.invalid             oci-layout or index.json is not what image-spec 1.1 says
|   |-- CatalogInvalid       catalog.invalid            what a reference names is no catalog artifact
|   |-- CatalogRolledBack    catalog.rolled_back        a signed catalog is older than the one that was read before
|   |-- SummaryInvalid       evidence.invalid           a file is no evidence statement
|   |-- ManifestInvalid      manifest.invalid           a manifest or config is not what image-spec 1.1 says
|   |-- ArchiveInvalid       archive.invalid            an engine's image archive is broken or hostile
|   |-- FilesystemInvalid    image.filesystem           a layer is not a tar that can be read
|   |-- RemoteLied           remote.lied                a registry's answer contradicts itself or the digest
|   |-- ImageMoved           image.moved                the name points at another image than the one that was locked
|   |-- PinDiffers           pin.differs               the image is not the one that its entry pins by digest
|   |-- ImageNotInEngine     image.not_in_engine        the engine does not hold the verified image
|   `-- SbomDiffers          sbom.differs               the signed SBOM is not what the image's file system says
|-- RefusedError
|   |-- SignatureMissing     signature.missing          nobody has signed the image
|   |-- RemoteUnauthorized   remote.unauthorized        the registry wants credentials that we do not have
|   |-- RemoteRefused        remote.refused            the registry says no to a request
|   |-- RemoteInsecure       remote.insecure            plain HTTP, or credentials sent elsewhere
|   |-- WordsRefused         tool.arguments             what a call says cannot be words of its tool's program
|   `-- OfflineRefused       offline                    --offline, and the answer is not on this machine
|-- UnavailableError
|   `-- RemoteUnavailable    remote.unavailable         the registry does not answer, or answers 5xx
`-- LimitError
    `-- TooLarge             size.limit                 over a named limit
"""

from __future__ import annotations

from harbourmaster.core.errors import IntegrityError, LimitError, NotFoundError, RefusedError, UnavailableError


class BlobMissing(NotFoundError):
    code = "blob.missing"


class ImageNotFound(NotFoundError):
    code = "image.not_found"


class RemoteNotFound(NotFoundError):
    code = "remote.not_found"


class LayoutInvalid(IntegrityError):
    code = "layout.invalid"


class CatalogInvalid(IntegrityError):
    code = "catalog.invalid"


class CatalogRolledBack(IntegrityError):
    code = "catalog.rolled_back"


class SummaryInvalid(IntegrityError):
    code = "evidence.invalid"


class ManifestInvalid(IntegrityError):
    code = "manifest.invalid"


class ArchiveInvalid(IntegrityError):
    code = "archive.invalid"


class FilesystemInvalid(IntegrityError):
    code = "image.filesystem"


class RemoteLied(IntegrityError):
    code = "remote.lied"


class ImageMoved(IntegrityError):
    code = "image.moved"


class PinDiffers(IntegrityError):
    code = "pin.differs"


class ImageNotInEngine(IntegrityError):
    code = "image.not_in_engine"


class SbomDiffers(IntegrityError):
    code = "sbom.differs"


class SignatureMissing(RefusedError):
    code = "signature.missing"


class RemoteUnauthorized(RefusedError):
    code = "remote.unauthorized"


class RemoteRefused(RefusedError):
    code = "remote.refused"


class RemoteInsecure(RefusedError):
    code = "remote.insecure"


class WordsRefused(RefusedError):
    code = "tool.arguments"


class OfflineRefused(RefusedError):
    code = "offline"


class RemoteUnavailable(UnavailableError):
    code = "remote.unavailable"


class TooLarge(LimitError):
    code = "size.limit"
