"""Images: the containers, the readers, the cache and the loader."""
