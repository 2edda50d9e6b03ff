"""OCI images: the layout on disk, engines' archives, remote registries.

>>> layout = OciLayout(settings.oci_dir)
>>> digest = import_engine_image(client, "my-image:1.0", layout)
>>> layout.tag("my-image:1.0", digest)
"""

from registry.oci.descriptor import Descriptor, Manifest, parse_manifest
from registry.oci.importer import import_engine_image
from registry.oci.layout import OciLayout

__all__ = ["Descriptor", "Manifest", "OciLayout", "import_engine_image", "parse_manifest"]
