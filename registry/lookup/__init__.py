"""What package indexes, git repositories, image registries and remote servers say of themselves, by their ordinary clients."""
