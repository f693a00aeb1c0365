"""The user's images: the store, what comes from registries, and how an image starts."""
