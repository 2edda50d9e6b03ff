"""Images are assembled, not built by a recipe: base layers, Debian packages and one server layer, each a normalised tar."""
