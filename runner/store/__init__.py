"""Models as OCI artifacts in ``HM_HOME/models``: an image layout whose manifests are models; a model's ID is its digest."""
